"""MATLAB files of labels, as HoVer-Net, CoNSeP, Kumar and Lizard have them: a map, types as a map or per nucleus."""

import io
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.io

from benchmark.data.files import archive, checks, mat5
from benchmark.runtime.errors import InputError

TYPES = {"inst_type": "inst_uid", "class": "id"}  # types -> ids they belong to: HoVer-Net and CoNSeP, Lizard


@dataclass(frozen=True)
class MatLabels:
    """What a .mat holds.

    Attributes:
        instances: int64 (H, W) ids.
        types: int64 map (H, W), or int64 (N,) in ascending order of id, or None.
        unlisted: bool (N,) nuclei without an entry, whose type is 0; None where types are no list.
    """

    instances: np.ndarray
    types: np.ndarray | None = None
    unlisted: np.ndarray | None = None


def read(path: Path) -> MatLabels:
    """The labels of a .mat up to version 7: inst_map with type_map, or with inst_type (inst_uid) or class (id).

    Nuclei that the list of ids leaves out (HoVer-Net drops specks of a few pixels from it) are counted on stderr, and
    so are arrays that look like types and are not read.

    Raises:
        InputError: unreadable, version 7.3, no inst_map, or types that do not fit it.
    """
    content = _arrays(path)
    held = {key: np.shape(array) for key, array in content.items()}
    instances = checks.plane(content["inst_map"], f"{path} inst_map")
    if "type_map" in content:
        types = checks.ids(content["type_map"], f"{path} type_map")
        if types.shape != instances.shape:
            raise InputError(
                f"{path}: expected type_map of the shape {instances.shape} of inst_map, found {types.shape}."
            )
        return MatLabels(instances, types)
    present = np.unique(instances)
    present = present[present > 0]
    for key, of in TYPES.items():
        if key in content:
            types = checks.ids(np.ravel(content[key]), f"{path} {key}")
            ids = np.ravel(content[of]) if of in content else None
            return MatLabels(instances, *_in_order(types, ids, present, f"{path} {key}", of))
    unread = [key for key, sides in held.items() if _may_be_types(key, sides, instances.shape)]
    checks.say_unread(path, unread, "type_map, inst_type (of inst_uid) or class (of id)")
    return MatLabels(instances)


def _in_order(types, ids, present, where: str, of: str) -> tuple[np.ndarray, np.ndarray]:
    """Types of the ids of the map in ascending order, and which of these have no entry."""
    n = len(present) if ids is None else len(ids)
    if len(types) != n:
        raise InputError(
            f"{where}: expected one type for each of {n} nuclei{'' if ids is None else f' in {of}'}, found {len(types)}"
            f"{f'; {of} would say which nuclei they are of' if ids is None else ''}."
        )
    if ids is None:  # HoVer-Net then lists the types in ascending order of id
        return types, np.zeros(n, bool)
    ids = checks.ids(ids, f"{where} {of}")
    if len(np.unique(ids)) < len(ids):
        raise InputError(f"{where}: expected each id once in {of}, found one twice; correct it.")
    unlisted = ~np.isin(present, ids)
    if len(present) and unlisted.all():
        raise InputError(f"{where}: {of} names no id of inst_map; the two are of different images.")
    if unlisted.any():
        print(
            f"{where}: {np.count_nonzero(unlisted)} of {len(present)} nuclei have no entry in {of} (the first: "
            f"{present[unlisted][0]}) and count as without type",
            file=sys.stderr,
        )
    entry_of = dict(zip(ids.tolist(), types.tolist()))
    return np.array([entry_of.get(k, 0) for k in present.tolist()], np.int64), unlisted


def _may_be_types(key: str, sides: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether an array that is not read may hold types, by its name or because it is a map too."""
    if key == "inst_map" or key.startswith("__"):
        return False
    return sides == shape or checks.may_be_types(key)


def shape(path: Path) -> tuple[int, ...]:
    """Shape of inst_map. Raises InputError where there is none."""
    return np.shape(_arrays(path)["inst_map"])


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with archive.reading(path):
        try:
            raw = path.read_bytes()
            old = 0 in raw[:4]  # version 4, of which scipy's reader is Python alone; its other one crashes
            content = scipy.io.loadmat(io.BytesIO(raw)) if old else mat5.arrays(raw)
        except NotImplementedError as error:
            raise InputError(f"{path}: expected a MATLAB file up to version 7, found 7.3; save it with -v7.") from error
    content = {key: np.empty(0, object) if value is None else value for key, value in content.items()}
    if "inst_map" not in content:
        names = ", ".join(name for name in content if not name.startswith("__")) or "nothing"
        raise InputError(f"{path}: expected inst_map (and type_map or inst_type), found {names}.")
    return content
