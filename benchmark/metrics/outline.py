"""Nuclei whose outline has at least three points.

The published decoders drop a nucleus whose first contour has fewer than three points after straight
stretches are reduced to their ends (Suzuki border following, simple chain approximation). That contour
belongs to the 8-connected component whose first pixel in raster order comes last, and it has fewer than three
points exactly when the component is a straight line: one pixel, a row, a column or a diagonal.
"""

import numpy as np

from .rle import Runs


def drawable(runs: Runs, n: int, meeting: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """bool (n,): True for every label whose deciding component is no straight line.

    Args:
        runs: foreground runs of one label map (see runs.merge), labels 1..n-1 in runs.values[0].
        n: number of labels including background; entry 0 is False.
        meeting: `contacts` of these runs.
    """
    label = runs.values[0]
    child, parent = meeting
    same = label[child] == label[parent]
    child, parent = child[same], parent[same]
    top = np.ones(len(label), bool)
    top[child] = False
    in_component = _last_component(label, child, parent, np.bincount(label[top], minlength=n) > 1)
    row, col, length = runs.row, runs.col, runs.length
    if in_component is not None:
        row, col, length, label = row[in_component], col[in_component], length[in_component], label[in_component]
    count = np.bincount(label, minlength=n)
    area = np.bincount(label, weights=length, minlength=n)
    line = count == 1
    # Only a connected component of single pixels, one in each of its rows, can still be a column or a diagonal.
    thin = ((count == area) & (count > 1))[label]
    height, width = _extent(label[thin], row[thin], n), _extent(label[thin], col[thin], n)
    line |= (count == area) & (height == count) & ((width == 1) | (width == height))
    return (count > 0) & ~line


def _extent(label: np.ndarray, position: np.ndarray, n: int) -> np.ndarray:
    """int64 (n,): largest minus smallest position of each label, plus 1."""
    low, high = np.full(n, np.iinfo(np.int32).max), np.full(n, -1)
    np.minimum.at(low, label, position)
    np.maximum.at(high, label, position)
    return high - low + 1


def touching(runs: Runs, n: int, meeting: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """bool (n,): labels that touch another one, corners included. Arguments as for `drawable`."""
    label = runs.values[0]
    beside = (runs.row[1:] == runs.row[:-1]) & (runs.col[:-1] + runs.length[:-1] == runs.col[1:])
    left = np.flatnonzero(beside)
    child, parent = meeting
    differ = label[child] != label[parent]
    out = np.zeros(n, bool)
    for met in (left, left + 1, child[differ], parent[differ]):
        out[label[met]] = True
    return out


def contacts(runs: Runs) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (run, run of the row above) that touch, corners included."""
    stride = runs.shape[1] + 2
    begin = runs.row * stride + runs.col
    end = begin + runs.length - 1
    above = np.searchsorted(end, begin - stride - 1)
    limit = end - stride + 1
    child, parent = [], []
    active = np.arange(len(begin))
    while len(active):
        reach = (above < active) & (begin[np.minimum(above, len(begin) - 1)] <= limit[active])
        active, above = active[reach], above[reach]
        child.append(active)
        parent.append(above)
        above = above + 1
    none = np.zeros(0, np.int64)
    return np.concatenate([none, *child]), np.concatenate([none, *parent])


def _last_component(label, child, parent, several: np.ndarray) -> np.ndarray | None:
    """Mask of the runs in the deciding component of their label; None when every label has one top."""
    if not several.any():
        return None
    chosen = np.flatnonzero(several[label])
    position = np.full(len(label), -1)
    position[chosen] = np.arange(len(chosen))
    edge = several[label[child]]
    component = _components(len(chosen), position[child[edge]], position[parent[edge]])
    # A component is named by its first run, so the deciding component of a label has the largest name.
    last = np.zeros(len(several), np.int64)
    np.maximum.at(last, label[chosen], component)
    keep = np.ones(len(label), bool)
    keep[chosen] = component == last[label[chosen]]
    return keep


def _components(n: int, child: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """Smallest member of the connected component of each of n nodes; parent < child on every edge."""
    name = np.arange(n)
    while True:
        low = name.copy()
        np.minimum.at(low, name[child], name[parent])
        np.minimum.at(low, name[parent], name[child])
        # Names only fall and always point at a node of the same component: jump until they stand.
        while not np.array_equal(low, jumped := low[low]):
            low = jumped
        low = low[name]
        if np.array_equal(low, name):
            return name
        name = low
