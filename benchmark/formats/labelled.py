"""What every reader returns: one image's instance map with its types, checked."""

from dataclasses import dataclass

import numpy as np

from benchmark.data.files import checks
from benchmark.data.nuclei import Nuclei
from benchmark.runtime.errors import InputError


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


def from_maps(instances, types, names, where: str) -> Labelled:
    """Check an instance map and its type map.

    Args:
        instances: (H, W) numbers. types: (H, W) numbers, or None.
        names: the `TypeNames` of this side. where: file and image, for the sentence.

    Raises:
        InputError: ids or types that are no whole numbers >= 0, shapes that differ, a type outside the instances.
    """
    instances = checks.plane(instances, where)
    if types is None:
        return Labelled(instances)
    types = checks.without_channel(np.asarray(types))
    check_type_map(types.shape, instances.shape, where)
    types = checks.ids(types, f"{where} types")
    if names.outside:
        types = np.where(instances > 0, types, 0)
    checks.inside(
        types, instances, where, ", or say --types-outside ignore where a tool writes the type of every pixel"
    )
    return Labelled(instances, names.ids(types, where))


def check_type_map(types: tuple[int, ...], instances: tuple[int, ...], where: str) -> None:
    """Raises InputError where the shape of a type map is not that of its instance map; (H, W, 1) is (H, W)."""
    types, instances = (sides[:2] if sides[2:] == (1,) else sides for sides in (types, instances))
    if types != instances:
        raise InputError(f"{where}: expected a type map of the instance map's shape {instances}, found {types}.")


def from_table(instances, ids, types, names, where: str) -> Labelled:
    """Check an instance map and a type for each of `ids` (in any order); ids that the map lacks are left out.

    Args:
        types: one name or number per id, or None.

    Raises:
        InputError: as `from_maps`; an id of the map without a type, or a wrong number of types.
    """
    instances = checks.plane(instances, where)
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
