"""Label maps for tests of the metrics, and the records of four images whose scores are known."""

import numpy as np

from benchmark.metrics.match import match
from benchmark.metrics.records import Records

CLASSES = ["round", "long"]


def blobs(seed: int, side: int = 64, n: int = 12) -> np.ndarray:
    """int32 (side, side): discs that overwrite each other, some cut into pieces, slivers and specks."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    out = np.zeros((side, side), np.int32)
    for k in range(1, n + 1):
        cy, cx, r = rng.uniform(0, side), rng.uniform(0, side), rng.uniform(0.5, 9)
        out[(y - cy) ** 2 + (x - cx) ** 2 <= r * r] = k
    return out


def squares(*boxes, side=40):
    """int map with box k = (top, left, height, width) as id k."""
    labels = np.zeros((side, side), np.int32)
    for k, (top, left, height, width) in enumerate(boxes, start=1):
        labels[top : top + height, left : left + width] = k
    return labels


TRUE = squares((2, 2, 8, 8), (20, 2, 8, 8), (2, 20, 16, 16))
HALF = squares((2, 2, 8, 8), (30, 30, 4, 4), (2, 20, 16, 15))  # finds 1 and 3, misses 2, invents one
EMPTY = squares()


def four(**over):
    """Records of four images: perfect, half right, empty truth with false positives, both empty."""
    matches = [
        match(TRUE, [1, 1, 2], TRUE, [1, 1, 2], mpp=0.25),
        match(TRUE, [1, 1, 2], HALF, [2, 1, 2], mpp=0.25),
        match(EMPTY, [], HALF, [1, 1, 2], mpp=0.25),
        match(EMPTY, [], EMPTY, [], mpp=0.25),
    ]
    meta = [
        {"image": 3 * i, "image_id": f"im{i}", "tissue": t, "source": f"slide{i}"}
        for i, t in enumerate(("Colon", "Colon", "Liver", "Brain"))
    ]
    for key, values in over.items():
        for row, value in zip(meta, values, strict=True):
            row[key] = value
    return Records.collect(matches, meta)
