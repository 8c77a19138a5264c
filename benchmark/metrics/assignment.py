"""One-to-one pairs over few candidate pairs: the Hungarian method on each connected component by itself."""

from itertools import pairwise

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components


def assign_sparse(rows: np.ndarray, cols: np.ndarray, cost: np.ndarray, most: bool) -> np.ndarray:
    """Positions of the chosen candidates.

    Args:
        rows, cols: int64 (E,) >= 0, the two ends of each candidate pair; no pair twice.
        cost: float64 (E,).
        most: True pairs as many as possible and then makes the total cost least; False makes the total cost least,
            an end without partner costing 0 (so that only pairs of negative cost are worth taking).
    """
    if not len(rows):
        return np.zeros(0, np.int64)
    n_rows, size = int(rows.max()) + 1, int(rows.max()) + int(cols.max()) + 2
    graph = coo_array((np.ones(len(rows), np.int8), (rows, cols + n_rows)), shape=(size, size))
    n, component = connected_components(graph, directed=False)
    local_row, row_count = _within(rows, component[:n_rows], n)
    local_col, col_count = _within(cols, component[n_rows:], n)
    of = component[rows]
    order = np.lexsort((cost, of))
    first = order[np.diff(of[order], prepend=-1) != 0]
    star = (row_count[of] == 1) | (col_count[of] == 1)  # one end shared by all: the cheapest candidate is the pair
    chosen = [first[star[first]]]
    rest = order[~star[order]]
    ends = np.flatnonzero(np.diff(of[rest], prepend=-1, append=-1))
    for begin, end in pairwise(ends):
        edge = rest[begin:end]
        shape = row_count[of[edge[0]]], col_count[of[edge[0]]]
        # with `most`, one more pair outweighs any sum of costs within the component
        table = np.full(shape, 1 + min(shape) * cost[edge[-1]] if most else 0.0)
        table[local_row[edge], local_col[edge]] = cost[edge]
        at = np.full(shape, -1)
        at[local_row[edge], local_col[edge]] = edge
        paired = at[linear_sum_assignment(table)]
        chosen.append(paired[paired >= 0])
    return np.concatenate(chosen)


def _within(ends: np.ndarray, component: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    """(number of each end within its component, ends per component (n,))."""
    used = np.zeros(len(component), bool)
    used[ends] = True
    node = np.flatnonzero(used)
    node = node[np.argsort(component[node], kind="stable")]
    count = np.bincount(component[node], minlength=n)
    number = np.zeros(len(component), np.int64)
    number[node] = np.arange(len(node)) - (np.cumsum(count) - count)[component[node]]
    return number[ends], count
