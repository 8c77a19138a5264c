"""The x40 view of x20 patches: enlarged by 15/8 and cut into 2 x 2 overlapping tiles of the patch's own side.

CellVTA's CoNIC protocol: 256 px at 0.5 um/px become 480 px (bilinear), tiles of 256 px begin every 224 px and
overlap by 32 px, in row-major order. Other sides that 8 divides keep the proportions.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from benchmark.data.nuclei import Nuclei, Sample
from benchmark.runtime.errors import InputError

UP, DOWN = 15, 8  # 480 / 256


@dataclass(frozen=True)
class Tiling:
    """Geometry for square patches of one side in pixels. Raises InputError for any other shape."""

    side: int

    @classmethod
    def of(cls, height: int, width: int) -> "Tiling":
        if height != width or height % DOWN or height < 2 * DOWN:
            raise InputError(
                f"The x40 tiling takes square images whose side is a multiple of {DOWN}, found {height} x {width}; "
                "use recipe.tiling=none."
            )
        return cls(height)

    @property
    def whole(self) -> int:
        """Side of the enlarged patch, px."""
        return self.side * UP // DOWN

    @property
    def overlap(self) -> int:
        """Width of the strip that two neighbouring tiles share, px; also the published margin."""
        return self.side // DOWN

    @property
    def corners(self) -> list[tuple[int, int]]:
        """(top, left) of each tile in the enlarged patch, row-major."""
        step = self.side - self.overlap
        return [(top, left) for top in (0, step) for left in (0, step)]

    def enlarged_mpp(self, mpp: float) -> float:
        """Micrometres per pixel of the tiles."""
        return mpp * DOWN / UP

    def source(self, start: int) -> np.ndarray:
        """int64 (side,): the patch pixel under the centre of each tile pixel from `start` on one axis."""
        return (2 * np.arange(start, start + self.side) + 1) * DOWN // (2 * UP)

    def image(self, image: np.ndarray, corner: tuple[int, int]) -> np.ndarray:
        """uint8 tile (side, side, 3) of the enlarged image: bilinear between pixel centres, rounded."""
        out = image.astype(np.float32)
        for axis, start in enumerate(corner):
            place = (np.arange(start, start + self.side, dtype=np.float32) + 0.5) * (DOWN / UP) - 0.5
            place = np.maximum(place, 0)
            low = place.astype(np.int64)
            shape = [1, 1, 1]
            shape[axis] = self.side
            share = (place - low).reshape(shape)
            high = np.minimum(low + 1, self.side - 1)
            out = out.take(low, axis) * (1 - share) + out.take(high, axis) * share
        return np.rint(out).astype(np.uint8)

    def nuclei(self, nuclei: Nuclei, corner: tuple[int, int]) -> Nuclei:
        """The nuclei of a tile: nearest pixel, renumbered; `mpp` is the tile's."""
        place = np.ix_(*(self.source(start) for start in corner))
        type_map = None if nuclei.type_map is None else np.ascontiguousarray(nuclei.type_map[place])
        moved = nuclei.with_map(nuclei.instances[place], type_map)
        return replace(moved, mpp=self.enlarged_mpp(nuclei.mpp))


class Tiles:
    """The tiles of one or more subsets as a sequence of Sample: all tiles of the first image, then of the next.

    Attributes:
        subsets: of the whole images.
        tissues, sources, image_ids: list[str], one per tile; image_ids end in the tile's number.
        typed: bool (N,).
        counts: int64 (N, C) nuclei per class (read from every label map when first asked for).
    """

    def __init__(self, subsets: list, classes: int, rows: np.ndarray | None = None):
        self.subsets, self._classes = subsets, classes
        self._starts = np.cumsum([0, *(4 * len(s) for s in subsets)])
        self.rows = np.arange(self._starts[-1]) if rows is None else np.asarray(rows, np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def chosen(self, rows: np.ndarray) -> "Tiles":
        """The tiles at these positions of this view."""
        return Tiles(self.subsets, self._classes, self.rows[rows])

    def _place(self, i: int) -> tuple[int, int, int]:
        """(subset, image, tile) of position i. Raises IndexError beyond either end."""
        row = int(self.rows[i])
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        return part, *divmod(row - int(self._starts[part]), 4)

    def __getitem__(self, i: int) -> Sample:
        part, image, tile = self._place(i)
        sample = self.subsets[part][image]
        tiling = Tiling.of(*sample.nuclei.instances.shape)
        corner = tiling.corners[tile]
        nuclei = tiling.nuclei(sample.nuclei, corner)
        return Sample(tiling.image(sample.image, corner), replace(nuclei, image_id=f"{nuclei.image_id}:{tile}"))

    def _per_tile(self, values: list[list]) -> list:
        places = (self._place(i) for i in range(len(self)))
        return [values[part][image] for part, image, _ in places]

    @cached_property
    def tissues(self) -> list[str]:
        return self._per_tile([s.tissues for s in self.subsets])

    @cached_property
    def sources(self) -> list[str]:
        return self._per_tile([s.sources for s in self.subsets])

    @cached_property
    def image_ids(self) -> list[str]:
        names = self._per_tile([s.image_ids for s in self.subsets])
        return [f"{name}:{self._place(i)[2]}" for i, name in enumerate(names)]

    @cached_property
    def typed(self) -> np.ndarray:
        return np.array(self._per_tile([s.typed for s in self.subsets]), bool)

    @cached_property
    def counts(self) -> np.ndarray:
        table = np.zeros((len(self), self._classes), np.int64)
        seen = None
        for i in range(len(self)):
            part, image, tile = self._place(i)
            if seen != (part, image):
                seen, nuclei = (part, image), self.subsets[part][image].nuclei
                tiling = Tiling.of(*nuclei.instances.shape)
            # every pixel of the patch under a tile is hit by at least one pixel of the tile
            ends = [tiling.source(start)[[0, -1]] for start in tiling.corners[tile]]
            under = nuclei.instances[tuple(slice(first, last + 1) for first, last in ends)]
            there = np.bincount(under.ravel(), minlength=len(nuclei) + 1)[1:] > 0
            table[i] = np.bincount(nuclei.types[there], minlength=self._classes + 1)[1:]
        return table


def random_tiles(subsets: list, classes: int, share: float, seed: int) -> tuple[Tiles, Tiles]:
    """(training, validation) tiles, drawn at random as CellVTA's CoNIC recipe does.

    A leak, kept for the faithful recipe alone: tiles of one patch overlap and stand on both sides.
    """
    tiles = Tiles(subsets, classes)
    order = np.random.default_rng([seed, 3]).permutation(len(tiles))
    held = round(share * len(tiles))
    return tiles.chosen(np.sort(order[held:])), tiles.chosen(np.sort(order[:held]))
