"""HoVer-Net's .mat files: inst_map with type_map, or with inst_type (and inst_uid)."""

from pathlib import Path

import numpy as np
import scipy.io
from scipy.io.matlab import MatReadError

from benchmark.data.files import archive
from benchmark.formats.labelled import Labelled, from_maps, from_table
from benchmark.runtime.errors import InputError

_ERRORS = (*archive.READ_ERRORS, ValueError, TypeError, KeyError, IndexError, MemoryError, SyntaxError, MatReadError)


def read(path: Path, names) -> Labelled:
    """Read a .mat up to version 7.

    Raises:
        InputError: unreadable, version 7.3, no inst_map, or types that do not fit it.
    """
    try:
        content = scipy.io.loadmat(path)
    except NotImplementedError as error:
        raise InputError(f"{path}: expected a MATLAB file up to version 7, found 7.3; save it with -v7.") from error
    except _ERRORS as error:
        raise archive.unreadable(path, error) from error
    if "inst_map" not in content:
        arrays = ", ".join(k for k in content if not k.startswith("__")) or "nothing"
        raise InputError(f"{path}: expected inst_map (and type_map or inst_type), found {arrays}.")
    instances, where = content["inst_map"], str(path)
    if "type_map" in content:
        return from_maps(instances, content["type_map"], names, where)
    if "inst_type" not in content:
        return from_maps(instances, None, names, where)
    ids = content.get("inst_uid")
    if ids is None:  # HoVer-Net then lists the types in ascending order of id
        ids = np.unique(instances)
        ids = ids[ids > 0]
    return from_table(instances, ids, np.ravel(content["inst_type"]), names, where)
