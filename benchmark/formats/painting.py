"""Outlines to nuclei: painted one after the other, and what that does to those below."""

import sys

import numpy as np

from benchmark.data.files.polygons import filled
from benchmark.formats.labelled import Labelled, from_table
from benchmark.runtime.errors import InputError

LARGER = 2  # times as many pixels as another outline, from which one may be a region
SHARED = 0.25  # of the smaller outline's pixels, from which two lie over each other
Outline = tuple[list[np.ndarray], object, str]  # rings (K, 2) x, y; name or id of the type, None for none; vertices


def painted(outlines: list[Outline], shape: tuple[int, int], names, where: str, vertices: str | None) -> Labelled:
    """Paint outlines as ids 1, 2, … in their order.

    Those without a pixel in the image, those that later ones cover entirely, and those that share much with smaller
    ones are counted on stderr.

    Raises:
        InputError: all of them lie outside the image, or later ones hide more than half of them.
    """
    labels = np.zeros(shape, np.int64)
    sizes = np.zeros(len(outlines) + 1, np.int64)
    shares = []
    for k, (rings, _, usual) in enumerate(outlines, 1):
        window, inside = filled(shape, rings, vertices or usual)
        sizes[k] = np.count_nonzero(inside)
        below = labels[window][inside]
        covered, pixels = np.unique(below[below > 0], return_counts=True)
        shares += [(k, other, n) for other, n in zip(covered.tolist(), pixels.tolist())]
        labels[window][inside] = k
    if empty := np.count_nonzero(sizes[1:] == 0):
        _check_offset(outlines, shape, where)
        print(f"{where}: {empty} of {len(outlines)} outlines hold no pixel of the image {shape}", file=sys.stderr)
    _say_hidden(sizes, np.bincount(labels.ravel(), minlength=len(sizes)), shares, where)
    types = [kind for _, kind, _ in outlines]
    if all(kind is None for kind in types):
        return from_table(labels, None, None, names, where) if types else Labelled(labels, np.zeros(0, np.uint8))
    kinds = ["" if kind is None else kind for kind in types]
    return from_table(labels, np.arange(1, len(kinds) + 1), kinds, names, where)


def _say_hidden(sizes: np.ndarray, left: np.ndarray, shares: list[tuple[int, int, int]], where: str) -> None:
    """Count on stderr what outlines do to each other.

    Args:
        sizes, left: (N + 1,) pixels of each outline, and those that later ones left of it; entry 0 is not looked at.
        shares: (outline, an earlier one, pixels of it that it took).

    Raises:
        InputError: more than half of the outlines lost more than half of their pixels.
    """
    n, sizes, left = len(sizes) - 1, sizes[1:], left[1:]
    if covered := np.count_nonzero((sizes > 0) & (left == 0)):
        print(f"{where}: {covered} of {n} outlines are covered entirely by later ones", file=sys.stderr)
    hidden = np.count_nonzero(2 * left < sizes)
    if 2 * hidden > n:
        raise InputError(
            f"{where}: later outlines hide {hidden} of {n} for the most part: does the file hold regions, or one "
            "nucleus several times? Leave out what is no nucleus."
        )
    pairs = [
        sorted((one - 1, other - 1), key=lambda k: sizes[k]) for one, other, k in shares if _much(k, sizes, one, other)
    ]
    if large := {large for small, large in pairs if sizes[large] >= LARGER * sizes[small]}:
        print(
            f"{where}: {len(large)} of {n} outlines lie over or under much smaller ones (the first: outline "
            f"{min(large) + 1}); they count as nuclei, and the later one has the pixels: leave out what is drawn "
            "around nuclei",
            file=sys.stderr,
        )


def _much(pixels: int, sizes: np.ndarray, one: int, other: int) -> bool:
    """Whether two outlines, counted from 1, share a good part of the smaller one."""
    return pixels >= SHARED * min(sizes[one - 1], sizes[other - 1])


def _check_offset(outlines: list[Outline], shape: tuple[int, int], where: str) -> None:
    """Raises InputError where no outline reaches the image: the coordinates are those of another image."""
    boxes = [(ring.min(0), ring.max(0)) for rings, _, _ in outlines for ring in rings if len(ring)]
    if not boxes or any((high >= 0).all() and (low <= shape[::-1]).all() for low, high in boxes):
        return
    low, high = np.min([low for low, _ in boxes], 0), np.max([high for _, high in boxes], 0)
    raise InputError(
        f"{where}: all {len(outlines)} outlines lie outside the image of {shape[1]} x {shape[0]} pixels, at x "
        f"{low[0]:g}..{high[0]:g}, y {low[1]:g}..{high[1]:g}; are they coordinates of a whole slide, or of another "
        "resolution? Subtract the offset of the image's upper left corner, and scale them to its pixels."
    )
