"""The two values that travel through the whole benchmark: a set of nuclei, and an image with its nuclei.

Imports nothing of ours, so that every layer may use it.
"""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Nuclei:
    """The nuclei of one image.

    Attributes:
        instances: int32 (H, W) instance map, 0 = background, ids contiguous 1..N.
        types: uint8 (N,), types[k] is the type of id k+1; 0 = untyped.
        mpp: micrometres per pixel.
        scores: float32 (N,) confidence in [0, 1], or None.
        tissue: tissue name, "" when unknown.
        image_id: name of the image within its dataset.
        source: slide, patient or source image; images that share it never stand on both sides of a split.
        typed: False where the file holds a placeholder instead of real types.
        type_map: uint8 (H, W) pixel types, kept only where an instance of mixed type exists.
        ignore: bool (H, W), of a truth: ambiguous regions, predictions in which are not counted; None for none.
    """

    instances: np.ndarray
    types: np.ndarray
    mpp: float
    scores: np.ndarray | None = None
    tissue: str = ""
    image_id: str = ""
    source: str = ""
    typed: bool = True
    type_map: np.ndarray | None = None
    ignore: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.types)

    @classmethod
    def from_labels(cls, instances: np.ndarray, types: np.ndarray | None, mpp: float, **meta) -> "Nuclei":
        """Build from a label map with any ids.

        Args:
            instances: (H, W) integers, 0 = background, ids of any size and with gaps.
            types: pixel type map (H, W), or per-instance types (N,) in ascending order of id, or None (untyped).
            mpp: micrometres per pixel.
            meta: the remaining attributes of Nuclei.

        An instance takes the most frequent type of its pixels; on a tie the smaller, and type 0 only when it is
        the only one. The pixel map is kept when some instance holds more than one type.
        """
        ids, flat = np.unique(instances, return_inverse=True)
        flat = flat.reshape(instances.shape)
        if ids.size and ids[0] == 0:
            labels, n = flat.astype(np.int32), len(ids) - 1
        else:
            labels, n = (flat + 1).astype(np.int32), len(ids)
        kept = None
        if types is None:
            types = np.zeros(n, np.uint8)
        types = np.asarray(types)
        if types.ndim == 2:
            width = int(types.max(initial=0)) + 1
            votes = np.bincount(
                labels.ravel().astype(np.int64) * width + types.ravel(), minlength=(n + 1) * width
            ).reshape(n + 1, width)[1:]
            if n and np.any((votes > 0).sum(1) > 1):
                kept = types.astype(np.uint8)
            typed_votes = votes.copy()
            typed_votes[:, 0] = 0
            types = np.where(typed_votes.any(1), typed_votes.argmax(1), 0) if n else np.zeros(0)
        if len(types) != n:
            raise ValueError(f"types has {len(types)} entries, expected {n}: one per instance id")
        return cls(labels, types.astype(np.uint8), float(mpp), type_map=kept, **meta)

    @property
    def label_image(self) -> tuple[np.ndarray, np.ndarray]:
        """(instances, types) as `metrics.match` takes them: the pixel type map where it is kept, else types (N,)."""
        return self.instances, self.types if self.type_map is None else self.type_map

    def pixel_types(self) -> np.ndarray:
        """uint8 (H, W) type map: the file's own where it is kept, else each instance painted with its type."""
        if self.type_map is not None:
            return self.type_map
        return np.concatenate([np.zeros(1, np.uint8), self.types])[self.instances]

    def retyped(self, table: np.ndarray) -> "Nuclei":
        """The same nuclei with type table[t] in place of t. table: uint8, one entry for each type from 0 on."""
        return replace(self, types=table[self.types], type_map=None if self.type_map is None else table[self.type_map])

    def crop(self, top: int, left: int, height: int, width: int) -> "Nuclei":
        """The nuclei inside a window, renumbered; instances without a pixel there are dropped."""
        window = (slice(top, top + height), slice(left, left + width))
        inner = self.with_map(self.instances[window], None if self.type_map is None else self.type_map[window])
        return inner if self.ignore is None else replace(inner, ignore=self.ignore[window])

    def outside(self, regions: np.ndarray) -> "Nuclei":
        """The nuclei of which at most half of the pixels lie in regions (H, W) bool, renumbered."""
        pixels = np.bincount(self.instances.ravel(), minlength=len(self) + 1)
        inside = np.bincount(self.instances[regions], minlength=len(self) + 1)
        dropped = 2 * inside > pixels
        dropped[0] = False
        type_map = self.type_map
        if type_map is not None:
            type_map = np.where(dropped[self.instances], 0, type_map).astype(np.uint8)
        return self.with_map(np.where(dropped[self.instances], 0, self.instances), type_map)

    def with_map(self, instances: np.ndarray, type_map: np.ndarray | None = None) -> "Nuclei":
        """The same nuclei under a moved instance map (flipped, warped, cropped), renumbered to 1..N.

        Args:
            instances: (H', W') with ids of this object; ids that no longer occur are dropped.
            type_map: the moved pixel type map, when this object keeps one.

        Returns:
            nuclei without `ignore`, which is not moved with them.
        """
        ids = np.unique(instances)
        ids = ids[ids > 0]
        lookup = np.zeros(len(self.types) + 1, np.int32)
        lookup[ids] = np.arange(1, len(ids) + 1)
        scores = None if self.scores is None else self.scores[ids - 1]
        return replace(
            self, instances=lookup[instances], types=self.types[ids - 1], scores=scores, type_map=type_map, ignore=None
        )


@dataclass(frozen=True)
class Sample:
    """An image with its nuclei. image: uint8 (H, W, 3) RGB."""

    image: np.ndarray
    nuclei: Nuclei
