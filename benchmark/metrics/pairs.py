"""Sums over equal pairs of integers: the joint histogram without a full table where that would be large."""

import numpy as np


def sum_by_pair(a: np.ndarray, b: np.ndarray, weights: np.ndarray, width: int):
    """Add up integer weights over equal pairs.

    Args:
        a, b: int64 (K,) >= 0, b < width.
        weights: int64 (K,) in 1..2**32 - 1.
        width: any number above max(b).

    Returns:
        (a, b, sum), int64 arrays of the pairs that occur, in ascending order of (a, b).
    """
    key = a * width + b
    if np.all(key[1:] > key[:-1]):
        return a, b, weights
    size = (int(a.max(initial=0)) + 1) * width
    if size <= 16 * len(key) + 4096:
        table = np.bincount(key, weights=weights, minlength=size)
        pair = np.flatnonzero(table)
        total = table[pair].astype(np.int64)
    elif size < 1 << 31:
        # One plain sort of (key, weight) packed into 64 bits is several times faster than argsort.
        packed = np.sort(key << 32 | weights)
        key = packed >> 32
        at = np.flatnonzero(np.concatenate([[True], key[1:] != key[:-1]]))
        pair, total = key[at], np.add.reduceat(packed & 0xFFFFFFFF, at)
    else:
        pair, index = np.unique(key, return_inverse=True)
        total = np.bincount(index.reshape(-1), weights=weights, minlength=len(pair)).astype(np.int64)
    return pair // width, pair % width, total
