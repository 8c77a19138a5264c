"""Cellpose's `_seg.npy` and CellViT's label files: a pickled dict; only arrays and plain values are admitted."""

import pickle
from pathlib import Path

import numpy as np

from benchmark.errors import InputError
from benchmark.formats.labelled import Labelled, from_maps

_ALLOWED = {
    (f"numpy{core}", name)
    for core in ("", ".core.multiarray", "._core.multiarray", ".core.numeric", "._core.numeric")
    for name in ("ndarray", "dtype", "_reconstruct", "scalar", "_frombuffer")
}
_MAPS = {"masks": None, "inst_map": "type_map"}


class _PlainOnly(pickle.Unpickler):
    """Admits dicts, lists, text and numbers (which need no import) and numpy's arrays and scalars, nothing else."""

    def find_class(self, module, name):
        if (module, name) not in _ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module, name)


def is_pickled(path: Path) -> bool:
    """Whether an .npy file says in its header that it holds objects."""
    try:
        return _header(path)[1].hasobject
    except (OSError, ValueError, EOFError):
        return False


def read(path: Path, names) -> Labelled:
    """The label map of the dict: `masks` (Cellpose, no types), or `inst_map` and `type_map` (CellViT).

    Raises:
        InputError: unreadable, anything but such a dict, or a pickle that asks for anything else than arrays; nothing
        in it is executed.
    """
    try:
        with open(path, "rb") as stream:
            shape, _ = _header(path, stream)
            value = _PlainOnly(stream).load()
            value = value.item() if isinstance(value, np.ndarray) and shape == () else value
    except Exception as error:  # a hostile pickle may raise anything; none of it was executed
        raise InputError(
            f"{path} holds pickled content that is not read ({error}): expected Cellpose's dict of plain arrays; save "
            "its masks as a PNG, TIFF or plain npy."
        ) from error
    key = next((k for k in _MAPS if isinstance(value, dict) and isinstance(value.get(k), np.ndarray)), None)
    if key is None and isinstance(value, dict) and "coord" in value:
        raise InputError(
            f"{path}: StarDist's details are read from an npz; save them with np.savez('x.npz', **details)."
        )
    if key is None:
        found = ", ".join(map(str, value)) if isinstance(value, dict) else type(value).__name__
        raise InputError(f"{path}: expected a pickled dict with masks (or inst_map and type_map), found {found}.")
    return from_maps(value[key], value.get(_MAPS[key]) if _MAPS[key] else None, names, str(path))


def _header(path: Path, stream=None) -> tuple[tuple[int, ...], np.dtype]:
    if stream is None:
        with open(path, "rb") as opened:
            return _header(path, opened)
    version = np.lib.format.read_magic(stream)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = reader(stream)
    return shape, dtype
