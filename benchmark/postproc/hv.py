"""Decoding of the HV family (HoVer-Net, CellViT, CellVTA): raw maps of one image to nuclei."""

import numpy as np

from benchmark.data.nuclei import Nuclei
from benchmark.postproc.targets import hv_targets
from benchmark.postproc.watershed import HVSettings, foreground, watershed

__all__ = ["HVSettings", "decode_hv", "foreground", "hv_targets", "vote", "watershed"]


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
        float32, the share of an instance's pixels that hold its type (1 where tp is None).

    Raises:
        ValueError: shapes that do not belong together.

    The published CellViT dictionary drops instances whose deciding contour has fewer than 3 points (specks,
    one-pixel lines) and, without any background, the lowest id. Here the instance map stays complete: the
    metric records carry that test as `points`, and each protocol decides. Instances of type 0 stay likewise.
    """
    settings = settings or HVSettings.for_mpp(mpp)
    raw = watershed(np_map, hv, settings)
    used = np.bincount(raw.ravel()) > 0
    used[0] = False
    lookup = np.zeros(len(used), np.int32)
    n = int(used.sum())
    lookup[used] = np.arange(1, n + 1, dtype=np.int32)
    instances = lookup[raw]
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


def vote(instances: np.ndarray, type_map: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Type of each instance by majority of its pixels.

    Args:
        instances: (H, W) ids 0..n.
        type_map: (H, W) integers >= 0, 0 = background.
        n: number of instances.

    Returns:
        uint8 (n,) types: the most frequent, the smaller on a tie, type 0 only where no pixel holds another;
        float32 (n,) scores: its pixels / (area + 1e-6).
    """
    width = int(type_map.max(initial=0)) + 1
    joint = instances.astype(np.int64).ravel() * width + type_map.ravel()
    counts = np.bincount(joint, minlength=(n + 1) * width).reshape(n + 1, width)[1:]
    area = counts.sum(1)
    others = counts.copy()
    others[:, 0] = 0
    types = others.argmax(1) if n else np.zeros(0, np.int64)
    share = counts[np.arange(n), types] / (area + 1e-6)
    return types.astype(np.uint8), share.astype(np.float32)
