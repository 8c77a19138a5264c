"""PanNuke's own mask format: one instance map per class, in which nuclei of different classes may overlap."""

import numpy as np

from .match import match
from .protocols import PROTOCOLS
from .records import Records


def flatten(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Merge class channels into (instances int32 (H, W), type map uint8 (H, W)).

    masks: (H, W, C) integers, an instance map per class without the background channel. Where channels
    overlap the later one wins; ids are given per channel and id, as the official `binarize` does.
    """
    masks = np.asarray(masks)
    instances, types = np.zeros(masks.shape[:2], np.int32), np.zeros(masks.shape[:2], np.uint8)
    taken = 0
    for k in range(masks.shape[2]):
        ids, label = np.unique(masks[..., k], return_inverse=True)
        inside = masks[..., k] > 0
        instances[inside] = taken + label.reshape(inside.shape)[inside] + 1
        types[inside] = k + 1
        taken += len(ids)
    return instances, types


def pannuke_channels(true: np.ndarray, pred: np.ndarray) -> dict[str, float]:
    """The `pannuke` protocol of one image from class channels (H, W, C): bDQ, bSQ, bPQ, mPQ, DQ_k, SQ_k,
    PQ_k.

    The classes are scored on the channels as they are, the binary score on the merged maps: with overlapping
    channels no single instance map gives both.
    """
    n_classes = np.shape(true)[2]
    maps = [(*flatten(true), *flatten(pred))]
    for k in range(n_classes):
        maps.append((true[..., k], (true[..., k] > 0) * (k + 1), pred[..., k], (pred[..., k] > 0) * (k + 1)))
    matches = [match(*m, mpp=0.25) for m in maps]
    meta = [{"image": i, "pred_typed": True} for i in range(len(maps))]
    rows = PROTOCOLS["pannuke"].images(Records.collect(matches, meta), n_classes)
    out = {name: float(rows[name].iloc[0]) for name in ("bDQ", "bSQ", "bPQ")}
    for k in range(1, n_classes + 1):
        out.update({f"{q}_{k}": float(rows[f"{q}_{k}"].iloc[k]) for q in ("DQ", "SQ", "PQ")})
    out["mPQ"] = float(rows["mPQ"].iloc[1:].mean())
    return out
