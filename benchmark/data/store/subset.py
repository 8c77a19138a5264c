"""One side of a split as a sequence of samples."""

from functools import cached_property

import numpy as np

from benchmark.data.nuclei import Sample
from benchmark.data.store.fold import CachedFold


class Subset:
    """The images on one side of a split, as a sequence of Sample; picklable, memory-mapped.

    Attributes:
        tissues, sources, image_ids: list[str], one per image.
        typed: bool (N,), False where the types are a placeholder.
        nuclei: int64 (N,) nuclei per image.
        counts: int64 (N, C) nuclei per class.
    """

    def __init__(self, parts: list[tuple[CachedFold, np.ndarray]], classes: int):
        self._parts = parts
        self._starts = np.concatenate([[0], np.cumsum([len(rows) for _, rows in parts])]).astype(np.int64)
        self._classes = classes

    def without(self, positions) -> "Subset":
        """The other images, in their order."""
        parts, dropped = [], np.isin(np.arange(len(self)), np.asarray(positions, np.int64))
        for (fold, rows), start in zip(self._parts, self._starts):
            parts.append((fold, rows[~dropped[start : start + len(rows)]]))
        return Subset(parts, self._classes)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, i: int) -> Sample:
        """Image i; negative positions count from the end. Raises IndexError beyond either end."""
        fold, row = self._place(i)
        return fold[row]

    def _place(self, i: int) -> tuple[CachedFold, int]:
        """The fold and the row in it of position i."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"position {i} of {len(self)} images")
        i = int(i) % len(self)
        part = int(np.searchsorted(self._starts, i, side="right")) - 1
        fold, rows = self._parts[part]
        return fold, int(rows[i - self._starts[part]])

    def view(self, i: int) -> Sample:
        """Image i as read-only views, see `CachedFold.view`."""
        fold, row = self._place(i)
        return fold.view(row)

    @cached_property
    def shapes(self) -> list[tuple[int, int]]:
        """Height and width of each image."""
        return [fold.shape(row) for fold, rows in self._parts for row in rows.tolist()]

    def _meta(self, key: str) -> list:
        return [fold.meta[key][row] for fold, rows in self._parts for row in rows.tolist()]

    @cached_property
    def tissues(self) -> list[str]:
        return self._meta("tissues")

    @cached_property
    def sources(self) -> list[str]:
        return self._meta("sources")

    @cached_property
    def image_ids(self) -> list[str]:
        return self._meta("image_ids")

    @cached_property
    def typed(self) -> np.ndarray:
        return np.array(self._meta("typed"), bool)

    @cached_property
    def nuclei(self) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.int64), *(np.diff(f.offsets)[rows] for f, rows in self._parts)])

    @cached_property
    def counts(self) -> np.ndarray:
        tables = [np.zeros((0, self._classes), np.int64)]
        for fold, rows in self._parts:
            image = np.repeat(np.arange(len(fold)), np.diff(fold.offsets))
            width = self._classes + 1
            table = np.bincount(image * width + fold.types, minlength=len(fold) * width)
            tables.append(table.reshape(len(fold), width)[rows, 1:].astype(np.int64))
        return np.concatenate(tables)
