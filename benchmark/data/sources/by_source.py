"""Dealing images to the sides of a split or to folds so that no source stands on two of them."""

import hashlib
from collections import Counter

import numpy as np


def deal(sources: list[str], shares: list[float]) -> list[np.ndarray]:
    """Positions of the images that each share gets; a source is never divided.

    Sources are taken from the largest to the smallest, ties in the order of a hash of their names, and each
    goes to the share that lacks most of what it should hold. Depends on the names and numbers only, not on
    the order.

    Args:
        sources: source name of each image.
        shares: wanted fractions, positive; need not sum to one.

    Returns:
        One sorted int64 array per share. With at least as many sources as shares none is empty.
    """
    sizes = Counter(sources)
    order = sorted(sizes, key=lambda s: (-sizes[s], hashlib.sha256(s.encode()).hexdigest()))
    wanted = np.asarray(shares, np.float64) / np.sum(shares) * len(sources)
    held = np.zeros(len(shares))
    side_of = {}
    for position, source in enumerate(order):
        lack = wanted - held
        empty = np.flatnonzero(held == 0)
        if len(order) - position <= len(empty):
            side = int(empty[np.argmax(lack[empty])])
        else:
            side = int(np.argmax(lack))
        side_of[source] = side
        held[side] += sizes[source]
    sides = np.array([side_of[s] for s in sources], np.int64)
    return [np.flatnonzero(sides == side) for side in range(len(shares))]
