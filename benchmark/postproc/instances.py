"""Types, centroids and boxes of all instances of a map, each from one pass over its pixels."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage


@dataclass(frozen=True)
class Shapes:
    """Where the instances 1..N of a map lie.

    Attributes:
        area: int64 (N,) pixels.
        centroid: float64 (N, 2), mean pixel coordinate x, y in pixels; NaN for an id without a pixel.
        box: int64 (N, 4) row_min, column_min, row_max, column_max in pixels, half-open; 0 for such an id.
    """

    area: np.ndarray
    centroid: np.ndarray
    box: np.ndarray


def renumber(labels: np.ndarray) -> tuple[np.ndarray, int]:
    """(instances int32 (H, W) with ids 1..N in the order of the old ones, N). labels: integers >= 0, gaps allowed."""
    used = np.zeros(int(labels.max(initial=0)) + 1, bool)
    used[labels.ravel()] = True
    used[0] = False
    lookup = (np.cumsum(used, dtype=np.int32) * used).astype(np.int32)
    return lookup.take(labels), int(used.sum())


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
    inside = np.flatnonzero(instances != 0)
    joint = np.multiply(instances.ravel().take(inside), width, dtype=np.intp)
    joint += type_map.ravel().take(inside).astype(np.intp, copy=False)
    counts = np.bincount(joint, minlength=(n + 1) * width).reshape(n + 1, width)[1:]
    area = counts.sum(1)
    others = counts.copy()
    others[:, 0] = 0
    types = others.argmax(1) if n else np.zeros(0, np.int64)
    share = counts[np.arange(n), types] / (area + 1e-6)
    return types.astype(np.uint8), share.astype(np.float32)


def measure(instances: np.ndarray, n: int) -> Shapes:
    """Area, centroid and bounding box of each instance.

    Args:
        instances: (H, W) ids 0..n.
        n: number of instances.
    """
    pixels = np.flatnonzero(instances != 0)
    ids = instances.ravel().take(pixels).astype(np.intp)
    rows, columns = np.divmod(pixels.astype(np.int32 if instances.size < 2**31 else np.int64), instances.shape[1])
    area = np.bincount(ids, minlength=n + 1)[1:]
    with np.errstate(invalid="ignore"):
        centroid = np.stack([np.bincount(ids, place, n + 1)[1:] / area for place in (columns, rows)], 1)
    box = np.zeros((n, 4), np.int64)
    for k, window in enumerate(ndimage.find_objects(instances, n)):
        if window is not None:
            rows, columns = window
            box[k] = rows.start, columns.start, rows.stop, columns.stop
    return Shapes(area, centroid, box)
