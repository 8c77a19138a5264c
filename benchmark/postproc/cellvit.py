"""Targets and decoding that CellViT and CellVTA share. numpy only: runs in loader and decode workers."""

import numpy as np

from benchmark.data.nuclei import Nuclei
from benchmark.postproc.hv import HVSettings, decode_hv, hv_targets


def targets(nuclei: Nuclei) -> dict[str, np.ndarray]:
    """np uint8 (H, W) 0/1, hv float32 (2, H, W), tp uint8 (H, W) class ids."""
    return {
        "np": (nuclei.instances > 0).astype(np.uint8),
        "hv": hv_targets(nuclei.instances),
        "tp": nuclei.pixel_types().astype(np.uint8),
    }


def ideal(maps: dict[str, np.ndarray], classes: int) -> dict[str, np.ndarray]:
    """Raw maps of one image that a perfect network would give for `targets`: logits of +-10, exact hv."""
    out = {"np": _logits(maps["np"], 2), "hv": maps["hv"].astype(np.float32)}
    if classes:
        out["tp"] = _logits(maps["tp"], classes + 1)
    return out


def decode(outputs: dict[str, np.ndarray], mpp: float, params: dict | None = None) -> Nuclei:
    """Raw maps np (2, H, W), hv (2, H, W), tp (C + 1, H, W) or absent, to nuclei.

    Args:
        mpp: micrometres per pixel; chooses the published settings of the watershed.
        params: fields of `HVSettings` to replace.
    """
    settings = HVSettings.for_mpp(mpp).updated(params)
    return decode_hv(outputs["np"], outputs["hv"], outputs.get("tp"), settings, mpp)


def _logits(labels: np.ndarray, classes: int) -> np.ndarray:
    return np.where(np.arange(classes)[:, None, None] == labels, 10.0, -10.0).astype(np.float32)
