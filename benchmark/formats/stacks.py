"""Many images in one file: npz with instances (N, H, W), or npy (N, H, W) or (N, H, W, 2) as CoNIC has them."""

import math
import zipfile
from pathlib import Path

import numpy as np

from benchmark.data.files import archive, checks
from benchmark.data.files.archive import Member, Rows
from benchmark.data.files.names import normal
from benchmark.runtime.errors import InputError

KEYS = ("instances", "types", "type_maps", "tissues", "names", "offsets", "mpp")


class Stack:
    """A file of N label maps, read image by image.

    Attributes:
        n: images. shape: (H, W) of each. names: list[str], or None. tissues: list[str], or None.
        mpp: micrometres per pixel, or None.

    Raises:
        InputError: unreadable, pickled, other arrays than these, or lengths that differ.
    """

    def __init__(self, path: Path):
        self.path = path
        rows = {"instances": _rows(path)} if path.suffix.lower() == ".npy" else members(path)
        if "instances" not in rows:
            raise InputError(f"{path}: expected the array instances, found {', '.join(rows) or 'nothing'}.")
        shape = rows["instances"].shape
        self.paired = len(shape) == 4 and shape[3] == 2  # instances and types side by side
        if len(shape) != 3 and not self.paired:
            raise InputError(f"{path}: expected instances of shape (images, height, width), found {shape}.")
        self.n = shape[0]
        self._instances = _Sequence(rows["instances"])
        self._types = self._offsets = None
        if "type_maps" in rows:  # of predictions with nuclei of mixed type, beside a type per nucleus
            if rows["type_maps"].shape != shape:
                other = rows["type_maps"].shape
                raise InputError(f"{path}: expected type_maps of the shape {shape} of the instances, found {other}.")
            self._types = _Sequence(rows["type_maps"])
        elif "offsets" in rows and "types" in rows:
            nuclei = rows["types"].shape
            self._offsets = rows["offsets"].whole() if rows["offsets"].shape == (self.n + 1,) else np.zeros(0)
            if len(nuclei) != 1 or nuclei[0] > math.prod(shape) or not _divides(self._offsets, self.n, nuclei[0]):
                raise InputError(
                    f"{path}: types and offsets disagree; expected one type per nucleus of {self.n} images."
                )
            self._types = rows["types"].whole()
        elif "types" in rows:
            if rows["types"].shape != shape:
                other = rows["types"].shape
                raise InputError(f"{path}: expected types of the shape {shape} of the instances, found {other}.")
            self._types = _Sequence(rows["types"])
        else:
            checks.say_unread(path, [key for key in rows if checks.may_be_types(key)], "types (and offsets)")
        self.names, self.tissues = (self._words(rows, key) for key in ("names", "tissues"))
        self.mpp = _number(rows["mpp"], self.n) if "mpp" in rows else None
        self.shape = shape[1:3]

    def read(self, i: int) -> tuple[np.ndarray, np.ndarray | None, bool]:
        """(instances (H, W), types or None, whether types are per nucleus in ascending order of id) of image i."""
        instances = self._instances[i]
        if self.paired:
            return instances[..., 0], instances[..., 1], False
        if self._types is None:
            return instances, None, False
        if self._offsets is not None:
            return instances, self._types[self._offsets[i] : self._offsets[i + 1]], True
        return instances, self._types[i], False

    def _words(self, rows: dict[str, Rows], key: str) -> list[str] | None:
        if key not in rows:
            return None
        words = rows[key]
        if words.shape != (self.n,) or words.dtype.kind not in "US":
            raise InputError(f"{self.path}: expected {key} as {self.n} words, found {words.dtype} {words.shape}.")
        return [normal(str(word)) for word in words.whole().astype(str)]


class _Sequence:
    """Rows by number; reading them in ascending order decompresses each once. In Fortran order all are read at once."""

    def __init__(self, rows: Rows):
        self._rows, self._at, self._next = rows, -1, None
        self._whole = None

    def __getitem__(self, i: int) -> np.ndarray:
        if self._rows.fortran:
            self._whole = self._rows.whole() if self._whole is None else self._whole
            return self._whole[i]
        if self._at != i:
            self._next = self._rows.rows(i)
        self._at = i + 1
        return next(self._next)


def members(path: Path) -> dict[str, Rows]:
    """Name -> array of an npz, none of them read. Raises InputError for no npz or pickled content."""
    with archive.reading(path), zipfile.ZipFile(path) as opened:
        names = [name for name in opened.namelist() if name.endswith(".npy")]
    return {name.removesuffix(".npy"): _rows(path, name) for name in names}


def _divides(offsets: np.ndarray, n: int, nuclei: int) -> bool:
    """Whether offsets give each of n images its own nuclei, and leave none out."""
    whole = offsets.ndim == 1 and len(offsets) == n + 1 and offsets.dtype.kind in "ui"
    return whole and offsets[0] == 0 and offsets[-1] == nuclei and bool((offsets[1:] >= offsets[:-1]).all())


def _number(rows: Rows, n: int) -> float:
    """The number that an array of any shape holds, once or up to n times.

    Raises:
        InputError: no number, or several.
    """
    few = math.prod(rows.shape) <= max(n, 1)
    values = np.unique(rows.whole()) if few and rows.dtype.kind in "uif" else []
    if len(values) != 1:
        shown = f"{len(values)} different ones" if len(values) else f"{rows.dtype} {rows.shape}"
        raise InputError(f"{rows.member}: expected one number for all images, found {shown}; correct it.")
    return float(values[0])


def _rows(path: Path, inner: str = "") -> Rows:
    return Rows(Member(path, inner, (inner or path.name,)))
