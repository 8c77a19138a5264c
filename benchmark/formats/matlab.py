"""HoVer-Net's .mat files: inst_map with type_map, or with inst_type (and inst_uid)."""

from pathlib import Path

import numpy as np

from benchmark.data.files import label_files
from benchmark.formats.labelled import Labelled, from_maps, from_table


def read(path: Path, names) -> Labelled:
    """Read a .mat up to version 7.

    Raises:
        InputError: unreadable, version 7.3, no inst_map, or types that do not fit it.
    """
    content = label_files.mat(path)
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
