"""Outlines of nuclei to an instance map, and what is done with those that overlap, cross themselves or enclose nothing.

A pixel belongs to an outline that holds its centre, outlines running along corners of pixels (0, 0 is the upper left
corner of the image). Where outlines overlap, the pixels stay with the earlier one in the file. An outline of fewer than
three vertices encloses nothing and is no nucleus. Of one that crosses itself the pixels count that it goes round an odd
number of times. All of these are counted and said, and so are files without an outline.
"""

import sys
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from benchmark.data.files.aperio import Outline
from benchmark.data.files.polygons import filled
from benchmark.runtime.errors import InputError

# what is counted -> in words
WORDS = {
    "few": "of fewer than 3 vertices, which enclose nothing and are left out",
    "empty": "without a pixel of the image, which are left out",
    "hidden": "covered entirely by earlier ones, which are left out",
    "crossing": "cross themselves: the pixels count that they go round an odd number of times",
    "shared": "overlap earlier ones, to which the shared pixels belong",
}


@dataclass
class Tally:
    """What was met in the outlines of a data set: a context manager that says it on stderr, in one line, at the end.

    Attributes:
        title: of the data set. outlines: how many there were. counts: keys of WORDS -> number.
        pixels: shared by outlines. first: keys of WORDS -> the first file.
        bare: files without an outline, whose images have no nuclei.
    """

    title: str
    outlines: int = 0
    pixels: int = 0
    counts: Counter = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    bare: list[str] = field(default_factory=list)

    def add(self, what: str, where) -> None:
        """Count one more of WORDS in a file."""
        self.counts[what] += 1
        self.first.setdefault(what, str(where))

    def sentence(self) -> str:
        """What was met, "" for nothing."""
        parts = [f"{n} {WORDS[what]} (first: {self.first[what]})" for what, n in self.counts.items()]
        shared = f"; {self.pixels} pixels are shared" if self.pixels else ""
        lines = [f"{self.title}: of {self.outlines} outlines {'; '.join(parts)}{shared}."] if parts else []
        if n := len(self.bare):
            lines.append(f"{self.title}: files without an outline: {n} (first: {self.bare[0]}); no nuclei there.")
        return "\n".join(lines)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if kind in (None, GeneratorExit) and self.sentence():
            print(self.sentence(), file=sys.stderr)


def painted(outlines: list[Outline], shape: tuple[int, int], where, tally: Tally) -> tuple[np.ndarray, np.ndarray]:
    """The instance map of outlines, see the module.

    Args:
        shape: (H, W) of the image. where: the file, for sentences. tally: counts what is met.

    Returns:
        int64 (H, W): 1 + k where outline k is, 0 elsewhere; int64 (N,): the outlines that have pixels, ascending.

    Raises:
        InputError: no outline reaches the image: they are of another one.
    """
    labels = np.zeros(shape, np.int64)
    if not outlines:
        tally.bare.append(str(where))
    for k, outline in enumerate(outlines):
        tally.outlines += 1
        if len(np.unique(outline.ring, axis=0)) < 3:
            tally.add("few", where)
            continue
        if crosses(outline.ring):
            tally.add("crossing", where)
        window, inside = filled(shape, [outline.ring], "corners")
        free = inside & (labels[window] == 0)
        taken = np.count_nonzero(inside) - np.count_nonzero(free)
        labels[window][free] = k + 1
        tally.pixels += taken
        if not inside.any():
            tally.add("empty", where)
        elif not free.any():
            tally.add("hidden", where)
        elif taken:
            tally.add("shared", where)
    present = np.unique(labels[labels > 0]) - 1
    boxes = [(o.ring.min(0), o.ring.max(0)) for o in outlines if len(o.ring)]
    if boxes and not any((high >= 0).all() and (low <= shape[::-1]).all() for low, high in boxes):
        low, high = np.min([low for low, _ in boxes], 0), np.max([high for _, high in boxes], 0)
        raise InputError(
            f"{where}: expected outlines in an image of {shape[1]} x {shape[0]} pixels, found {len(outlines)} and none "
            f"in it, at x {low[0]:g}..{high[0]:g}, y {low[1]:g}..{high[1]:g}; is it of this image?"
        )
    return labels, present


def crosses(ring: np.ndarray) -> bool:
    """Whether two edges of a closed ring (K, 2) cross: each has the ends of the other strictly on both sides.

    Edges that only touch, as where a ring passes a point twice, do not.
    """
    begin, end = ring, np.roll(ring, -1, 0)
    if (begin == end).all(1).any():
        begin, end = begin[(begin != end).any(1)], end[(begin != end).any(1)]

    def side(points: np.ndarray) -> np.ndarray:
        """(edges, points): on which side of the line through each edge each point lies."""
        edge, offset = (end - begin)[:, None], points[None] - begin[:, None]
        return np.sign(edge[..., 0] * offset[..., 1] - edge[..., 1] * offset[..., 0])

    apart = side(begin) * side(end) < 0  # the line through edge i parts the ends of edge j
    return bool((apart & apart.T).any())
