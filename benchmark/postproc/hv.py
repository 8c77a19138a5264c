"""Decoding of the HV family (HoVer-Net, CellViT, CellVTA): raw maps of one image to nuclei."""

import numpy as np

from benchmark.data.nuclei import Nuclei
from benchmark.postproc.instances import Shapes, measure, renumber, vote
from benchmark.postproc.targets import hv_targets
from benchmark.postproc.watershed import HVSettings, foreground, watershed

__all__ = ["HVSettings", "Shapes", "decode_hv", "foreground", "hv_targets", "measure", "vote", "watershed"]


def decode_hv(
    np_map: np.ndarray,
    hv: np.ndarray,
    tp: np.ndarray | None = None,
    settings: HVSettings | None = None,
    mpp: float = 0.25,
) -> Nuclei:
    """Nuclei from one image's nucleus map, distance maps and type map.

    Args:
        np_map: (2, H, W) logits, (H, W) probability of nucleus, or bool (H, W).
        hv: (2, H, W) distances, channel 0 = x, 1 = y.
        tp: (C+1, H, W) type logits (0 = background), or an integer (H, W) type map, or None (no types).
        settings: default HVSettings.for_mpp(mpp).
        mpp: micrometres per pixel.

    Returns:
        All instances of the watershed, renumbered to 1..N in the same order; `types` by `vote`; `scores`
        float32, the share of an instance's pixels that hold its type (1 where tp is None). `measure` gives
        their centroids and boxes.

    Raises:
        ValueError: shapes that do not belong together.

    The published CellViT dictionary drops instances whose deciding contour has fewer than 3 points (specks,
    one-pixel lines) and, without any background, the lowest id. Here the instance map stays complete: the
    metric records carry that test as `points`, and each protocol decides. Instances of type 0 stay likewise.
    """
    instances, n = renumber(watershed(np_map, hv, settings or HVSettings.for_mpp(mpp)))
    if tp is None:
        return Nuclei(instances, np.zeros(n, np.uint8), float(mpp), np.ones(n, np.float32))
    tp = np.asarray(tp)
    type_map = tp.argmax(0) if tp.ndim == 3 else tp
    if type_map.shape != instances.shape or type_map.dtype.kind not in "iu":
        raise ValueError(
            f"tp is {tp.dtype} {tp.shape}, expected (classes + 1, height, width) logits or an integer "
            f"(height, width) type map for an image of {instances.shape}"
        )
    types, scores = vote(instances, type_map, n)
    return Nuclei(instances, types, float(mpp), scores)
