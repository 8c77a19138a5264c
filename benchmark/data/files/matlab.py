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

_AGAIN = "fetch the file again"


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


def read(path: Path, complete: bool = False) -> MatLabels:
    """The labels of a .mat up to version 7: inst_map with type_map, or with inst_type (inst_uid) or class (id).

    Where several of these hold types, the first is read and the others have to agree. Nuclei that the list of ids
    leaves out (HoVer-Net drops specks of a few pixels from it) are counted on stderr, and so are arrays that look like
    types and are not read.

    Args:
        complete: a nucleus that the list leaves out is an error, and so is a list that does not say whose types it has.

    Raises:
        InputError: unreadable, version 7.3, no inst_map, types that do not fit it, or two sources of
            types that disagree.
    """
    content = _arrays(path)
    instances = checks.plane(_numeric(content, "inst_map", path), f"{path} inst_map")
    shapes = {"inst_map": instances.shape} | {
        key: np.shape(array) for key, array in content.items() if key != "inst_map"
    }
    known = ("inst_map", "type_map", *TYPES, *TYPES.values())
    checks.say_unread_arrays(path, shapes, known, "type_map, inst_type (of inst_uid) or class (of id)")
    sources = {key: _types(content, key, instances, path, complete) for key in ("type_map", *TYPES) if key in content}
    if not sources:
        return MatLabels(instances)
    first, *others = sources
    for other in others:
        _check_agree(sources[first], sources[other], f"{path}: its {first} and its {other}")
    return sources[first]


def _types(content: dict, key: str, instances: np.ndarray, path: Path, complete: bool) -> MatLabels:
    """The labels with the types of one array."""
    if key == "type_map":
        types = checks.without_channel(checks.ids(_numeric(content, key, path), f"{path} type_map"))
        if types.shape != instances.shape:
            raise InputError(
                f"{path}: expected type_map of the shape {instances.shape} of inst_map, found {types.shape}; "
                "save both maps of one image in one size."
            )
        return MatLabels(instances, types)
    present = np.unique(instances)
    present = present[present > 0]
    types = checks.ids(np.ravel(_numeric(content, key, path)), f"{path} {key}")
    of = TYPES[key]
    ids = np.ravel(_numeric(content, of, path)) if of in content else None
    return MatLabels(instances, *_in_order(types, ids, present, f"{path} {key}", of, complete))


def _check_agree(first: MatLabels, other: MatLabels, which: str) -> None:
    """Raises InputError for a nucleus that has another type in two arrays; a map may hold several in one nucleus."""
    present = np.unique(first.instances)
    present = present[present > 0]
    listed = np.ones(len(present), bool)
    for labels in (first, other):
        listed &= True if labels.unlisted is None else ~labels.unlisted
    if first.types.ndim == 2:
        agree = checks.in_map(first.instances, first.types, other.types)
    else:
        agree = first.types == other.types
    if (wrong := listed & ~agree).any():
        raise InputError(
            f"{which} give {np.count_nonzero(wrong)} of {len(present)} nuclei different types (the first: "
            f"{present[wrong][0]}); keep the one that is right."
        )


def _numeric(content: dict, key: str, path: Path) -> np.ndarray:
    """An array of real numbers. Raises InputError for text, cells, structures, sparse and complex ones."""
    array = content[key]
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "uifb":
        raise InputError(
            f"{path}: expected {key} as a full array of real numbers, found something else (text, a cell, a structure, "
            f"a sparse or a complex array); save it as one, such as {key} = double(full({key}))."
        )
    return array


def _in_order(types, ids, present, where: str, of: str, complete: bool) -> tuple[np.ndarray, np.ndarray]:
    """Types of the ids of the map in ascending order, and which of these have no entry."""
    if ids is None and complete:
        raise InputError(f"{where}: expected {of} beside it, which says whose types they are, found none; {_AGAIN}.")
    n = len(present) if ids is None else len(ids)
    if len(types) != n:
        raise InputError(
            f"{where}: expected one type for each of {n} nuclei{'' if ids is None else f' in {of}'}, found {len(types)}"
            f"; {f'add {of}, which says whose types they are' if ids is None else 'save one for each of them'}."
        )
    if ids is None:  # HoVer-Net then lists the types in ascending order of id
        return types, np.zeros(n, bool)
    ids = checks.ids(ids, f"{where} {of}")
    if len(np.unique(ids)) < len(ids):
        raise InputError(f"{where}: expected each id once in {of}, found one twice; correct it.")
    unlisted = ~np.isin(present, ids)
    if len(present) and unlisted.all():
        raise InputError(f"{where}: {of} names no id of inst_map; the two are of different images.")
    if unlisted.any() and complete:
        raise InputError(
            f"{where}: expected an entry in {of} for each of {len(present)} nuclei of inst_map, found none for "
            f"{np.count_nonzero(unlisted)} of them (the first: {present[unlisted][0]}); {_AGAIN}."
        )
    if unlisted.any():
        print(
            f"{where}: {np.count_nonzero(unlisted)} of {len(present)} nuclei have no entry in {of} (the first: "
            f"{present[unlisted][0]}) and count as without type",
            file=sys.stderr,
        )
    entry_of = dict(zip(ids.tolist(), types.tolist()))
    return np.array([entry_of.get(k, 0) for k in present.tolist()], np.int64), unlisted


def shape(path: Path) -> tuple[int, ...]:
    """Shape of inst_map. Raises InputError where there is none."""
    return np.shape(_numeric(_arrays(path), "inst_map", path))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    with archive.reading(path):
        try:
            raw = path.read_bytes()
            old = 0 in raw[:4]  # version 4, of which scipy's reader is Python alone; its other one crashes
            content = scipy.io.loadmat(io.BytesIO(raw)) if old else mat5.arrays(raw)
        except NotImplementedError as error:
            raise InputError(f"{path}: expected a MATLAB file up to version 7, found 7.3; save it with -v7.") from error
    if "inst_map" not in content:
        names = ", ".join(name for name in content if not name.startswith("__")) or "nothing"
        raise InputError(
            f"{path}: expected inst_map (and type_map or inst_type), found {names}; save the instance map by that name."
        )
    return content
