"""Cellpose's `_seg.npy` and CellViT's label files: a pickled dict; only arrays and plain values are admitted."""

from pathlib import Path

import numpy as np

from benchmark.data.files import checks
from benchmark.formats.labelled import Labelled, from_maps
from benchmark.runtime import pickles
from benchmark.runtime.errors import InputError

_MAPS = {"masks": None, "inst_map": "type_map"}


def is_pickled(path: Path) -> bool:
    """Whether an .npy file says in its header that it holds objects."""
    try:
        with open(path, "rb") as stream:
            return pickles.header(stream)[1].hasobject
    except Exception:  # a damaged header fails in any way, and is told of by whoever reads the file
        return False


def read(path: Path, names) -> Labelled:
    """The label map of the dict: `masks` (Cellpose, no types), or `inst_map` and `type_map` (CellViT).

    Raises:
        InputError: unreadable, anything but such a dict, or a pickle that asks for anything else than arrays; nothing
        in it is executed.
    """
    value = pickles.read_npy(path, "Cellpose's dict of plain arrays", "save its masks as a PNG, TIFF or plain npy")
    key = next((k for k in _MAPS if isinstance(value, dict) and isinstance(value.get(k), np.ndarray)), None)
    if key and all(isinstance(value.get(k), np.ndarray) for k in _MAPS):
        raise InputError(
            f"{path}: expected masks (Cellpose) or inst_map (CellViT), found both; keep the one that is right."
        )
    if key is None and isinstance(value, dict) and "coord" in value:
        raise InputError(
            f"{path}: StarDist's details are read from an npz; save them with np.savez('x.npz', **details)."
        )
    if key is None:
        content = type(value).__name__
        if isinstance(value, dict):
            content = pickles.line(", ".join(k for k in value if isinstance(k, str))) or "none of them"
        raise InputError(f"{path}: expected a pickled dict with masks (or inst_map and type_map), found {content}.")
    if _MAPS[key] not in value:
        unread = [k for k in value if isinstance(k, str) and checks.may_be_types(k)]
        checks.say_unread(path, unread, "type_map, beside inst_map")
    return from_maps(value[key], value.get(_MAPS[key]) if _MAPS[key] else None, names, str(path))
