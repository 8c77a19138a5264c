"""Where the tiles of a slide lie: windows of the network edge to edge within a tile, tiles that overlap."""

from dataclasses import dataclass

import numpy as np

from benchmark.postproc.seams import Box

OVERLAP = 128  # px that two tiles share at least: more than most nuclei have
LARGE_CORE = 256  # px of a window's core, from which on an overlap of whole cores would cost more than it saves
OF_LARGE = 192


@dataclass(frozen=True)
class Tile:
    """A tile: whole cores of windows.

    Attributes:
        row, column: its place among the tiles.
        top, left: of its first core, px as the method sees the slide; below 0 at the slide's edge.
        height, width: px of its cores.
        box: its part within the slide.
    """

    row: int
    column: int
    top: int
    left: int
    height: int
    width: int
    box: Box

    @property
    def name(self) -> str:
        return f"{self.row}-{self.column}"


@dataclass(frozen=True)
class Grid:
    """The tiles of a slide of a height and width in px, row by row.

    Where the overlap is whole cores, as it is with windows of usual sizes, all tiles' windows lie on one grid: that of
    `image_ops.in_windows` for the whole slide, so that its raw maps are those of the tiles.
    """

    tiles: tuple[Tile, ...]
    overlap: int

    @classmethod
    def of(cls, height: int, width: int, window: int, margin: int, tile: int) -> "Grid":
        """window, margin: as in `Settings`. tile: side in px, about."""
        core, cores, overlap = _lengths(window, margin, tile)
        rows, columns = (_spans(side, core, cores, overlap) for side in (height, width))
        tiles = []
        for i, (top, high) in enumerate(rows):
            for j, (left, wide) in enumerate(columns):
                box = max(top, 0), max(left, 0), min(top + high, height), min(left + wide, width)
                tiles.append(Tile(i, j, top, left, high, wide, box))
        return cls(tuple(tiles), overlap)

    def on(self, tissue: np.ndarray, per_pixel: tuple[float, float]) -> list[Tile]:
        """The tiles that a mask touches.

        Args:
            tissue: bool (h, w), of the whole slide.
            per_pixel: px as the method sees the slide, of one of the mask: along y and x.
        """
        chosen = []
        for tile in self.tiles:
            top, left = (int(start / size) for start, size in zip(tile.box[:2], per_pixel))
            bottom, right = (int(np.ceil(end / size)) for end, size in zip(tile.box[2:], per_pixel))
            if tissue[top:bottom, left:right].any():
                chosen.append(tile)
        return chosen


def times_seen(window: int, margin: int, tile: int) -> float:
    """How many times the network sees each pixel far from a slide's edges; arguments as in `Grid.of`."""
    core, cores, overlap = _lengths(window, margin, tile)
    return (window * cores / (core * cores - overlap)) ** 2


def _lengths(window: int, margin: int, tile: int) -> tuple[int, int, int]:
    """(px of a core, cores along a tile's side, px that two tiles share)."""
    core = window - 2 * margin
    overlap = core * -(-OVERLAP // core) if core <= LARGE_CORE else OF_LARGE
    return core, max(round(tile / core), overlap // core + 1), overlap


def _spans(side: int, core: int, cores: int, overlap: int) -> list[tuple[int, int]]:
    """(start, length) of the tiles along one axis; the first begins where the cores of the whole side would."""
    start = -((-(-side // core) * core - side) // 2)
    spans = []
    while True:
        length = min(cores, -(-(side - start) // core)) * core
        spans.append((start, length))
        if start + length >= side:
            return spans
        start += cores * core - overlap
