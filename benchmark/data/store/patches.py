"""The patches in which training and validation see larger images, as a sequence of samples."""

from dataclasses import replace
from functools import cached_property

import numpy as np

from benchmark.data.nuclei import Sample
from benchmark.data.store.subset import Subset


def starts(length: int, side: int) -> list[int]:
    """Where patches of `side` px begin on an axis: evenly, the first at 0 and the last ending at `length`.

    As few as cover it, so that neighbours overlap a little rather than the last being filled up.
    """
    n = -(-length // side)
    return [0] if n == 1 else np.rint(np.linspace(0, length - side, n)).astype(int).tolist()


class Patches:
    """Square patches that cover the images of a subset; picklable, memory-mapped.

    An image that is smaller than a patch on an axis is taken whole there. A nucleus on a cut is one nucleus in each
    patch.

    Args:
        subset: whole images. side: of a patch, px. classes: number of types.

    Attributes:
        shapes: height and width of each patch.
        tissues, sources, image_ids: list[str], one per patch; image_ids end in its row and column.
        typed: bool (N,). nuclei: int64 (N,). counts: int64 (N, C): as of `Subset` (read from every label map when
            first asked for).
    """

    def __init__(self, subset: Subset, side: int, classes: int):
        self._subset, self._side, self._classes = subset, side, classes
        self._places = [
            (image, top, left)
            for image, (height, width) in enumerate(subset.shapes)
            for top in starts(height, side)
            for left in starts(width, side)
        ]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, i: int) -> Sample:
        """Patch i. Raises IndexError beyond either end."""
        image, top, left = self._places[i]
        sample = self._subset.view(image)
        window = (slice(top, top + self._side), slice(left, left + self._side))
        nuclei = sample.nuclei.crop(top, left, self._side, self._side)
        type_map = None if nuclei.type_map is None else np.array(nuclei.type_map)
        named = replace(nuclei, type_map=type_map, image_id=self._name(i))
        return Sample(np.array(sample.image[window]), named)

    def _name(self, i: int) -> str:
        image, top, left = self._places[i]
        return f"{self._subset.image_ids[image]}-{top}-{left}"

    def _per_patch(self, values) -> list:
        return [values[image] for image, _, _ in self._places]

    @property
    def shapes(self) -> list[tuple[int, int]]:
        whole = self._per_patch(self._subset.shapes)
        return [(min(height, self._side), min(width, self._side)) for height, width in whole]

    @property
    def tissues(self) -> list[str]:
        return self._per_patch(self._subset.tissues)

    @property
    def sources(self) -> list[str]:
        return self._per_patch(self._subset.sources)

    @property
    def image_ids(self) -> list[str]:
        return [self._name(i) for i in range(len(self))]

    @cached_property
    def typed(self) -> np.ndarray:
        return np.array(self._per_patch(self._subset.typed), bool)

    @property
    def nuclei(self) -> np.ndarray:
        return self._of_types.sum(1)

    @property
    def counts(self) -> np.ndarray:
        return self._of_types[:, 1:]

    @cached_property
    def _of_types(self) -> np.ndarray:
        """int64 (N, 1 + C): nuclei per type, those of type 0 first."""
        tables = [np.bincount(self[i].nuclei.types, minlength=self._classes + 1) for i in range(len(self))]
        return np.array(tables, np.int64).reshape(len(self), self._classes + 1)
