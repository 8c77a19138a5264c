"""Shape of nuclei from their runs: eccentricity and solidity, for all nuclei of an image at once.

Both equal skimage.measure.regionprops, which looks at one mask after the other.
"""

import numpy as np

from .rle import Runs

_ROWS = 1 << 22  # hull rows counted at a time


def eccentricity(runs: Runs, n: int) -> np.ndarray:
    """float64 (n,) eccentricity of the ellipse with the same second moments: 0 a disc, towards 1 a line.

    Args:
        runs: foreground runs of one label map (see runs.merge), labels 1..n-1 in runs.values[0].
        n: number of labels including background; entry 0 is 0.
    """
    label, length = runs.values[0], runs.length.astype(np.float64)
    area = np.maximum(np.bincount(label, weights=length, minlength=n), 1)
    x = runs.col + (length - 1) / 2
    x, y = (v - (np.bincount(label, weights=v * length, minlength=n) / area)[label] for v in (x, runs.row))
    within = (length**2 - 1) / 12  # variance of the pixels of one run
    xx = np.bincount(label, weights=length * (x * x + within), minlength=n)
    yy = np.bincount(label, weights=length * y * y, minlength=n)
    xy = np.bincount(label, weights=length * x * y, minlength=n)
    middle, spread = (xx + yy) / 2, np.hypot((xx - yy) / 2, xy)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(middle > 0, (middle - spread) / (middle + spread), 1.0)
    return np.sqrt(np.clip(1 - ratio, 0, 1))


def solidity(runs: Runs, n: int) -> np.ndarray:
    """float64 (n,) area / pixels inside the convex hull of the pixels' edge midpoints; entry 0 and labels without
    pixels are NaN. Arguments as for `eccentricity`."""
    area = np.bincount(runs.values[0], weights=runs.length, minlength=n)
    with np.errstate(invalid="ignore"):
        return area / _hull_pixels(*_extent_of_rows(runs), n)


def _extent_of_rows(runs: Runs):
    """(label, row, first column, last column) per label and row, in ascending order of (label, row)."""
    key = runs.values[0] * (runs.shape[0] + 1) + runs.row
    order = np.argsort(key, kind="stable")
    key = key[order]
    at = np.flatnonzero(np.diff(key, prepend=-1))
    if not len(at):
        none = np.zeros(0, np.int64)
        return none, none, none, none
    label, row = np.divmod(key[at], runs.shape[0] + 1)
    first, last = runs.col[order], (runs.col + runs.length - 1)[order]
    return label, row, np.minimum.reduceat(first, at), np.maximum.reduceat(last, at)


def _hull_pixels(label, row, first, last, n: int) -> np.ndarray:
    """float64 (n,) pixels whose centre lies in the hull, border included; in exact integer arithmetic."""
    # The left side of a hull is the lower convex envelope of x over y, the right side that of -x: two chains per label.
    sides = [_points(label, row, first), _points(label + n, row, -last)]
    chain, y, x = (np.concatenate(parts) for parts in zip(*sides, strict=True))
    while True:
        inner = np.flatnonzero((chain[1:-1] == chain[:-2]) & (chain[1:-1] == chain[2:])) + 1
        rise, reach = y[inner] - y[inner - 1], y[inner + 1] - y[inner - 1]
        beyond = (x[inner] - x[inner - 1]) * reach >= (x[inner + 1] - x[inner - 1]) * rise
        if not beyond.any():
            break
        kept = np.ones(len(chain), bool)
        kept[inner[beyond]] = False
        chain, y, x = chain[kept], y[kept], x[kept]
    start = np.flatnonzero(np.diff(label, prepend=-1))
    stop = np.flatnonzero(np.diff(label, append=-1))
    name, top, height = label[start], row[start], row[stop] - row[start] + 1
    total = np.zeros(n)
    big = 2 * int(row.max(initial=0)) + 4
    place = chain * big + y + 1  # y starts at -1
    for part in np.split(np.arange(len(name)), np.flatnonzero(np.diff(np.cumsum(height) // _ROWS)) + 1):
        of = np.repeat(name[part], height[part])
        begin = np.cumsum(height[part]) - height[part]
        level = 2 * (np.arange(len(of)) - np.repeat(begin - top[part], height[part]))
        inside = np.ones(len(of))
        for which in (of, of + n):
            at = np.searchsorted(place, which * big + level + 1, side="right") - 1
            high = y[at + 1] - y[at]
            inside += np.floor_divide(-(x[at] * high + (x[at + 1] - x[at]) * (level - y[at])), 2 * high)
        total += np.bincount(of, weights=inside, minlength=n)
    total[total == 0] = np.nan
    return total


def _points(label, row, column):
    """(label, y, x) of the edge midpoints of one side in doubled coordinates, ascending in (label, y).

    A pixel contributes (2 row, 2 column - 1) and (2 row -+ 1, 2 column); of two points on one level the outer stays.
    """
    m = len(label)
    joined = np.zeros(m, bool)  # the row above belongs to the same label: its lower level is this row's upper one
    joined[1:] = (label[1:] == label[:-1]) & (row[1:] == row[:-1] + 1)
    x = np.stack([2 * column, 2 * column - 1, 2 * column], 1)
    at = np.flatnonzero(joined)
    x[at - 1, 2] = np.minimum(x[at - 1, 2], x[at, 0])
    y = 2 * row[:, None] + np.array([-1, 0, 1])
    kept = np.ones((m, 3), bool)
    kept[joined, 0] = False
    return np.repeat(label, 3)[kept.ravel()], y[kept], x[kept]
