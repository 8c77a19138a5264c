"""Which nuclei have an outline of at least three points.

The published decoders drop a nucleus whose first contour has fewer than three points after straight
stretches are reduced to their ends (Suzuki border following, simple chain approximation). That contour
belongs to the 8-connected piece whose first pixel in raster order comes last, and it has fewer than three
points exactly when the piece is a straight line: one pixel, a row, a column or a diagonal.
"""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from .runs import Runs


def drawable(runs: Runs, n: int) -> np.ndarray:
    """bool (n,): True for every label whose deciding piece is no straight line.

    Args:
        runs: foreground runs of one label map (see runs.merge), labels 1..n-1 in runs.values[0].
        n: number of labels including background; entry 0 is False.
    """
    label = runs.values[0]
    child, parent = _contacts(runs, label)
    top = np.ones(len(label), bool)
    top[child] = False
    in_piece = _last_piece(label, child, parent, np.bincount(label[top], minlength=n) > 1)
    row, col, length = runs.row, runs.col, runs.length
    if in_piece is not None:
        row, col, length, label = row[in_piece], col[in_piece], length[in_piece], label[in_piece]
    count = np.bincount(label, minlength=n)
    area = np.bincount(label, weights=length, minlength=n)
    line = count == 1
    # Only a piece made of single pixels, one in each of its rows, can still be a column or a diagonal.
    thin = np.flatnonzero((count == area) & (count > 1))
    for k in thin:
        rows, cols = row[label == k], col[label == k]
        height, width = rows[-1] - rows[0] + 1, cols.max() - cols.min() + 1
        line[k] = height == len(rows) and width in (1, height)
    return (count > 0) & ~line


def _contacts(runs: Runs, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (run, run of the row above) of one label that touch, corners included."""
    stride = runs.shape[1] + 2
    begin = runs.row * stride + runs.col
    end = begin + runs.length - 1
    above = np.searchsorted(end, begin - stride - 1)
    limit = end - stride + 1
    child, parent = [], []
    active = np.arange(len(label))
    while len(active):
        reach = (above < active) & (begin[np.minimum(above, len(begin) - 1)] <= limit[active])
        active, above = active[reach], above[reach]
        same = label[above] == label[active]
        child.append(active[same])
        parent.append(above[same])
        above = above + 1
    none = np.zeros(0, np.int64)
    return np.concatenate([none, *child]), np.concatenate([none, *parent])


def _last_piece(label, child, parent, several: np.ndarray) -> np.ndarray | None:
    """Mask of the runs that belong to the deciding piece of their label; None when every label is one
    piece."""
    if not several.any():
        return None
    keep = np.ones(len(label), bool)
    chosen = np.flatnonzero(several[label])
    position = np.full(len(label), -1)
    position[chosen] = np.arange(len(chosen))
    edge = several[label[child]]
    graph = coo_array(
        (np.ones(edge.sum(), bool), (position[child[edge]], position[parent[edge]])),
        shape=(len(chosen), len(chosen)),
    )
    pieces, piece = connected_components(graph, directed=False)
    first = np.full(pieces, len(chosen))
    np.minimum.at(first, piece, np.arange(len(chosen)))
    last = np.zeros(len(several), np.int64)
    np.maximum.at(last, label[chosen], first[piece])
    keep[chosen] = first[piece] == last[label[chosen]]
    return keep
