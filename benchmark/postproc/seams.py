"""Nuclei of overlapping tiles joined over their seams, each nucleus once; of any number of tiles, in a stream.

A pixel belongs to the tile in which it lies deepest. Nuclei of two tiles are one when they share more than half of what
the smaller has in the strip that both tiles see; the joined nucleus has the pixels at which the tile that owns them
shows it, so that a nucleus larger than the strip is joined too. Two nuclei of one tile are never made one, but where
its border cuts both: of several that another tile shows as one, that which is most alike is joined with it. A nucleus
that no other tile confirms stays whole when most of its pixels are its tile's own, and goes otherwise; its pixels are
those of what another tile shows there. The type is that of most pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from benchmark.data.nuclei import Nuclei

Box = tuple[int, int, int, int]  # top, left, bottom, right, px, half-open


@dataclass(frozen=True)
class Part:
    """A nucleus, or what one tile shows of it. mask: bool, its pixels in the window at (top, left) of the canvas."""

    top: int
    left: int
    mask: np.ndarray
    type: int
    score: float

    @property
    def box(self) -> Box:
        return self.top, self.left, self.top + self.mask.shape[0], self.left + self.mask.shape[1]


def parts_of(tile: Nuclei, top: int, left: int) -> list[Part]:
    """The nuclei of a tile whose corner lies at (top, left) of the canvas, in the order of their ids."""
    parts = []
    for k, window in enumerate(ndimage.find_objects(tile.instances, len(tile))):
        if window is not None:
            score = 1.0 if tile.scores is None else float(tile.scores[k])
            mask = tile.instances[window] == k + 1
            parts.append(Part(window[0].start + top, window[1].start + left, mask, int(tile.types[k]), score))
    return parts


def common(a: Box, b: Box) -> Box | None:
    """What two boxes share, None for nothing."""
    top, left, bottom, right = max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])
    return (top, left, bottom, right) if top < bottom and left < right else None


class Seams:
    """Joins the parts of tiles that are added one after the other, and gives up each nucleus as soon as it is whole.

    What waits in memory are the parts of the last few rows of tiles, whatever the size of the canvas.

    Args:
        boxes: of all tiles that will be added, in their order.
    """

    def __init__(self, boxes: Sequence[Box]):
        self.boxes = list(boxes)
        self._near = _neighbours(self.boxes)
        self._reach = [sorted({k for n in near for k in self._near[n]}) for near in self._near]
        self._added = [False] * len(self.boxes)
        self._parts: dict[int, dict[int, Part]] = {}  # tile -> number -> part; numbers rise from tile to tile
        self._tile_of: dict[int, int] = {}
        self._group: dict[int, list[int]] = {}  # number -> the numbers of its nucleus, one list for all of them
        self._apart: dict[int, list[int]] = {}  # number -> those of another tile that it was not joined with
        self._waiting: list[int] = []  # numbers that were not given up, ascending
        self._next = 0

    def add(self, tile: int, parts: list[Part]) -> None:
        """The parts of a tile, which may be those that reach into a strip alone; tiles come in their order."""
        numbers = range(self._next, self._next + len(parts))
        self._next += len(parts)
        self._parts[tile] = dict(zip(numbers, parts))
        self._tile_of |= dict.fromkeys(numbers, tile)
        self._group |= {number: [number] for number in numbers}
        self._waiting += numbers
        self._added[tile] = True
        for other in self._near[tile]:
            if other < tile and self._parts.get(other):
                self._match(other, tile)

    def whole(self) -> Iterator[Part]:
        """The nuclei to which no tile that is still to come can add, in the order of their first parts.

        A nucleus is whole when all tiles around it have come, and all tiles around those: they decide whether what
        claims its pixels stays.
        """
        kept = []
        done = [all(self._added[k] for k in reach) for reach in self._reach]
        for number in self._waiting:
            group = self._group[number]
            if not all(done[self._tile_of[one]] for one in group):
                kept.append(number)
            elif number == min(group) and (nucleus := self._joined(group)) is not None:
                yield nucleus
        self._waiting = kept
        self._forget({self._tile_of[number] for number in kept})

    def _forget(self, waiting: set[int]) -> None:
        """Drop the parts of tiles that neither wait nor lie where tiles that wait, or are to come, look at them."""
        open_tiles = waiting | {k for k, added in enumerate(self._added) if not added}
        needed = {near for tile in open_tiles for near in self._reach[tile]}
        for tile in [tile for tile in self._parts if tile not in needed]:
            for number in self._parts.pop(tile):
                del self._tile_of[number], self._group[number]
                self._apart.pop(number, None)

    def _match(self, first: int, second: int) -> None:
        """Make one of nuclei of two tiles that share more than half of what the smaller has in their strip."""
        strip = common(self.boxes[first], self.boxes[second])
        sides = []
        for tile in (first, second):
            numbers = [number for number, part in self._parts[tile].items() if common(part.box, strip)]
            sides.append((numbers, _painted([self._parts[tile][number] for number in numbers], strip)))
        (left, a), (right, b) = sides
        both = (a > 0) & (b > 0)
        if not both.any():
            return
        areas = np.bincount(a.ravel(), minlength=len(left) + 1), np.bincount(b.ravel(), minlength=len(right) + 1)
        (i, j), shared = np.unique(np.stack([a[both], b[both]]), axis=1, return_counts=True)
        same = 2 * shared > np.minimum(areas[0][i], areas[1][j])
        alike = shared / (areas[0][i] + areas[1][j] - shared)
        for k in np.argsort(-alike, kind="stable"):
            if same[k]:
                self._unite(left[i[k] - 1], right[j[k] - 1])

    def _unite(self, first: int, second: int) -> None:
        """Make one nucleus of those that two parts belong to, unless it had two of one tile that are not both cut."""
        one, other = self._group[first], self._group[second]
        if one is other:
            return
        whole = {self._tile_of[number] for number in one if not self._cut(number)}
        others_whole = {self._tile_of[number] for number in other if not self._cut(number)}
        if any(self._tile_of[n] in whole for n in other) or any(self._tile_of[n] in others_whole for n in one):
            self._apart.setdefault(first, []).append(second)
            self._apart.setdefault(second, []).append(first)
            return
        one += other
        for number in other:
            self._group[number] = one

    def _cut(self, number: int) -> bool:
        """Whether a part touches a border of its tile beyond which another tile goes on."""
        tile = self._tile_of[number]
        own, box = self.boxes[tile], self._parts[tile][number].box
        near = [self.boxes[k] for k in self._near[tile]]
        before = any(box[a] <= own[a] and any(one[a] < own[a] for one in near) for a in (0, 1))
        return before or any(box[a] >= own[a] and any(one[a] > own[a] for one in near) for a in (2, 3))

    def _own(self, tile: int, box: Box) -> np.ndarray:
        """bool: the pixels of a window that belong to a tile: those that lie deepest in it, the first of equals."""
        others = [k for k in self._near[tile] if common(self.boxes[k], box)]
        depths = np.stack([_depth(self.boxes[k], box) for k in others])
        return depths.argmax(0) == others.index(tile)

    def _stays(self, number: int) -> bool:
        """Whether a part is confirmed by another tile, or most of its pixels are its tile's own."""
        if len(self._group[number]) > 1:
            return True
        tile = self._tile_of[number]
        part = self._parts[tile][number]
        own = self._own(tile, part.box)[part.mask]
        return bool(2 * np.count_nonzero(own) > own.size)

    def _joined(self, group: list[int]) -> Part | None:
        """The nucleus of a group, None where it has no pixel or does not stay."""
        if len(group) == 1:
            return self._alone(group[0]) if self._stays(group[0]) else None
        gone = [n for number in group for n in self._apart.get(number, ()) if self._apart[n][0] in group]
        group = sorted({*group, *(n for n in gone if not self._stays(n))})
        parts = [self._parts[self._tile_of[number]][number] for number in group]
        top, left = min(part.top for part in parts), min(part.left for part in parts)
        bottom, right = max(part.box[2] for part in parts), max(part.box[3] for part in parts)
        mask = np.zeros((bottom - top, right - left), bool)
        votes: dict[int, int] = {}
        for number, part in zip(group, parts):
            own = part.mask & self._own(self._tile_of[number], part.box)
            mask[part.top - top :, part.left - left :][: own.shape[0], : own.shape[1]] |= own
            votes[part.type] = votes.get(part.type, 0) + int(np.count_nonzero(own))
        named = {kind: n for kind, n in votes.items() if kind and n}
        kind = min(named, key=lambda k: (-named[k], k)) if named else 0
        return _trimmed(Part(top, left, mask, kind, max(part.score for part in parts)))

    def _alone(self, number: int) -> Part | None:
        """A part that no other tile confirms, without the pixels of others' that another nucleus has."""
        tile = self._tile_of[number]
        part = self._parts[tile][number]
        mask = part.mask.copy()
        foreign = mask & ~self._own(tile, part.box)
        for other in self._near[tile] if foreign.any() else ():
            for rival, its in self._parts.get(other, {}).items():
                window = common(its.box, part.box)
                stays = self._stays(rival)
                if other == tile or window is None or not (stays or rival in self._apart):
                    continue
                inner = tuple(slice(a - b, c - b) for a, c, b in zip(window[:2], window[2:], part.box[:2]))
                there = tuple(slice(a - b, c - b) for a, c, b in zip(window[:2], window[2:], its.box[:2]))
                claims = its.mask[there]
                # an earlier one that is alone has all of its pixels
                if len(self._group[rival]) > 1 or other > tile or not stays:
                    claims = claims & self._own(other, window)
                mask[inner] &= ~(claims & foreign[inner])
        return _trimmed(Part(part.top, part.left, mask, part.type, part.score))


def _neighbours(boxes: list[Box]) -> list[list[int]]:
    """For each box the numbers of those that share pixels with it, itself among them, ascending."""
    array = np.array(boxes, np.int64).reshape(-1, 4)
    order = np.argsort(array[:, 0], kind="stable")
    tops = array[order, 0]
    out = []
    for top, left, bottom, right in boxes:
        rows = order[: np.searchsorted(tops, bottom)]  # those that begin above its end
        near = rows[(array[rows, 2] > top) & (array[rows, 1] < right) & (array[rows, 3] > left)]
        out.append(sorted(near.tolist()))
    return out


def _depth(of: Box, box: Box) -> np.ndarray:
    """int (h, w) over a window: px from each pixel to the border of a tile; negative beyond it."""
    rows, columns = np.arange(box[0], box[2]), np.arange(box[1], box[3])
    inward = [np.minimum(rows - of[0], of[2] - 1 - rows), np.minimum(columns - of[1], of[3] - 1 - columns)]
    return np.minimum.outer(*inward)


def _painted(parts: list[Part], box: Box) -> np.ndarray:
    """int32 over a window: 1, 2, … where the parts lie."""
    out = np.zeros((box[2] - box[0], box[3] - box[1]), np.int32)
    for k, part in enumerate(parts, 1):
        top, left, bottom, right = common(part.box, box)
        inner = part.mask[top - part.top : bottom - part.top, left - part.left : right - part.left]
        out[top - box[0] : bottom - box[0], left - box[1] : right - box[1]][inner] = k
    return out


def _trimmed(part: Part) -> Part | None:
    """The part in the smallest window; None without a pixel."""
    rows, columns = (np.flatnonzero(part.mask.any(axis)) for axis in (1, 0))
    if not rows.size:
        return None
    mask = part.mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Part(part.top + int(rows[0]), part.left + int(columns[0]), mask, part.type, part.score)
