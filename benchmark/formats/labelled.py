"""What every reader returns: one image's instance map with its types, checked."""

import sys
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from benchmark.data.files import checks
from benchmark.data.nuclei import Nuclei
from benchmark.runtime.errors import InputError

FEW = 10  # ids in a map that may be types
SPARSE = 16  # of each axis, pixels from one looked at to the next, where these hold enough ids
SOME = 1000  # pairs of pixels, from which a map is doubted
PIECES = 2  # of an id on average, from which a map is doubted


@dataclass(frozen=True)
class Labelled:
    """The nuclei of one image as a file holds them, under the file's ids.

    Attributes:
        instances: int64 (H, W) ids >= 0, 0 = background; gaps allowed.
        types: uint8 pixel map (H, W), or uint8 (N,) in ascending order of id, or None where the file names no types.
        mpp: micrometres per pixel, None where it is not known.
        image_id, tissue, source: as in Nuclei, "" where they are not known.
    """

    instances: np.ndarray
    types: np.ndarray | None = None
    mpp: float | None = None
    image_id: str = ""
    tissue: str = ""
    source: str = ""

    @property
    def typed(self) -> bool | None:
        """Whether its nuclei have types; None for a file without nuclei, which does not show it."""
        if not self.instances.any():
            return None
        return self.types is not None

    @property
    def label_image(self) -> tuple[np.ndarray, np.ndarray | None]:
        """(instances, types) as `metrics.match` takes them."""
        return self.instances, self.types

    def nuclei(self, mpp: float) -> Nuclei:
        """The same with ids 1..N; the pixel type map is kept where an instance is of mixed type."""
        meta = {"image_id": self.image_id, "tissue": self.tissue, "source": self.source}
        return Nuclei.from_labels(self.instances, self.types, mpp, typed=self.types is not None, **meta)


def resolve_typed(flags: list[bool | None], some: bool) -> list[bool]:
    """Which images of a collection are typed.

    Args:
        flags: `Labelled.typed` of each image.
        some: whether any nucleus of them all has a type above 0.

    Where nuclei exist and none has a type, nothing is typed, whatever the files declare; an image without nuclei is as
    typed as the others.
    """
    if not some and any(flag is not None for flag in flags):
        return [False] * len(flags)
    return [True if flag is None else flag for flag in flags]


def lumped(labels: np.ndarray) -> str:
    """What makes a map look as if its ids were no instances, "" for nothing.

    A few ids that cover several separate pieces each: a binary mask, or a map of types (nuclei come in pieces too, but
    few of an image's do). Neighbouring pixels that rarely have the same id: a picture.
    """
    left, right = labels[:, :-1], labels[:, 1:]
    both = np.count_nonzero((left > 0) & (right > 0))
    if both > SOME and np.count_nonzero((left == right) & (left > 0)) < both / 2:
        return "most neighbouring pixels have different ids"
    for step in (SPARSE, 1):  # sorting all pixels of a large map costs more than matching it
        ids = np.unique(labels[::step, ::step])
        ids = ids[ids > 0]
        if len(ids) > FEW:
            return ""
    pieces = sum(ndimage.label(labels == k, np.ones((3, 3)))[1] for k in ids)
    many = pieces > 2 and pieces >= PIECES * len(ids)
    return f"{len(ids)} id{'s' * (len(ids) > 1)} in {pieces} separate pieces" if many else ""


def warn_lumped(doubts: dict[str, str]) -> None:
    """One line on stderr about files that look as if their ids were no instances. doubts: file -> `lumped` of it."""
    doubts = {where: doubt for where, doubt in doubts.items() if doubt}
    if not doubts:
        return
    where, what = next(iter(doubts.items()))
    more = f" (and {len(doubts) - 1} more such)" if len(doubts) > 1 else ""
    print(
        f"warning: {where}: {what}: this looks like a binary mask, a map of types or a picture; every nucleus needs an "
        f"id of its own, such as scipy.ndimage.label(mask)[0] gives{more}",
        file=sys.stderr,
    )


def from_maps(instances, types, names, where: str) -> Labelled:
    """Check an instance map and its type map.

    Args:
        instances: (H, W) numbers. types: (H, W) numbers, or None.
        names: the `TypeNames` of this side. where: file and image, for the sentence.

    Raises:
        InputError: ids or types that are no whole numbers >= 0, shapes that differ, a type outside the instances.
    """
    instances = plane(instances, where)
    if types is None:
        return Labelled(instances)
    types = np.asarray(types)
    if types.shape != instances.shape:
        raise InputError(
            f"{where}: expected a type map of the instance map's shape {instances.shape}, found {types.shape}."
        )
    types = checks.ids(types, f"{where} types")
    if names.outside:
        types = np.where(instances > 0, types, 0)
    outside = np.count_nonzero((types > 0) & (instances == 0))
    if outside:
        raise InputError(
            f"{where}: the type map disagrees with the instance map: {outside} pixels have a type but no instance; "
            "set types to 0 there, or say --types-outside ignore where a tool writes the type of every pixel."
        )
    return Labelled(instances, names.ids(types, where))


def from_table(instances, ids, types, names, where: str) -> Labelled:
    """Check an instance map and a type for each of `ids` (in any order); ids that the map lacks are left out.

    Args:
        types: one name or number per id, or None.

    Raises:
        InputError: as `from_maps`; an id of the map without a type, or a wrong number of types.
    """
    instances = plane(instances, where)
    if types is None:
        return Labelled(instances)
    ids, types = np.ravel(ids), list(types)
    if len(ids) != len(types):
        raise InputError(f"{where}: expected one type for each of {len(ids)} nuclei, found {len(types)}.")
    of = dict(zip(ids.tolist(), types))
    present = np.unique(instances)
    present = present[present > 0].tolist()
    missing = [k for k in present if k not in of]
    if missing:
        raise InputError(f"{where}: instance {missing[0]} of the map has no type; expected one for each instance.")
    return Labelled(instances, np.array([names.id_of(of[k], where) for k in present], np.uint8))


def plane(labels, where: str) -> np.ndarray:
    """int64 (H, W) ids. Raises InputError for anything but a map of whole numbers >= 0."""
    labels = np.asarray(labels)
    if labels.ndim != 2 or not labels.size:
        raise InputError(f"{where}: expected a label map (height, width), found shape {labels.shape}.")
    return checks.ids(labels, where)
