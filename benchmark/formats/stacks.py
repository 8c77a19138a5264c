"""Many images in one file: npz with instances (N, H, W), or npy (N, H, W) or (N, H, W, 2) as CoNIC has them."""

import math
import zipfile
from pathlib import Path

import numpy as np

from benchmark.data.files import archive, checks, text
from benchmark.data.files.archive import Member, Rows
from benchmark.data.files.names import normal
from benchmark.runtime.errors import InputError

KEYS = ("instances", "types", "type_maps", "tissues", "names", "offsets", "mpp", "sizes")


class Stack:
    """A file of N label maps, read image by image.

    Attributes:
        n: images. shape: (H, W) of their maps. names: list[str], or None. tissues: list[str], or None.
        mpp: micrometres per pixel, or None.
        shapes: (H, W) of each image. Where the file has `sizes`, (N, 2) as a run writes them, images are smaller than
            their maps, which are background below and to the right of them.

    Raises:
        InputError: unreadable, pickled, other arrays than these, lengths that differ, or sizes that do not fit.
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
        checks.check_ids_dtype(rows["instances"].dtype, path)
        self.n = shape[0]
        self._instances = _Sequence(rows["instances"])
        self._types = self._maps = self._offsets = None
        if "type_maps" in rows:  # of predictions with nuclei of mixed type, beside a type per nucleus
            if rows["type_maps"].shape != shape:
                other = rows["type_maps"].shape
                raise InputError(f"{path}: expected type_maps of the shape {shape} of the instances, found {other}.")
            checks.check_ids_dtype(rows["type_maps"].dtype, f"{path} type_maps")
            self._maps = _Sequence(rows["type_maps"])
        if "offsets" in rows and "types" in rows:
            nuclei = rows["types"].shape
            whole = rows["offsets"].shape == (self.n + 1,) and rows["offsets"].dtype.kind in "ui"
            self._offsets = rows["offsets"].whole() if whole else np.zeros(0)
            if rows["types"].dtype.kind not in "uifbU":
                raise InputError(f"{path}: expected types as numbers or names, found {rows['types'].dtype}.")
            if len(nuclei) != 1 or nuclei[0] > math.prod(shape) or not _divides(self._offsets, self.n, nuclei[0]):
                raise InputError(
                    f"{path}: types and offsets disagree; expected one type per nucleus of {self.n} images."
                )
            self._types = rows["types"].whole()
        elif "types" in rows and self._maps is None:
            if rows["types"].shape != shape:
                other = rows["types"].shape
                raise InputError(f"{path}: expected types of the shape {shape} of the instances, found {other}.")
            checks.check_ids_dtype(rows["types"].dtype, f"{path} types")
            self._types = _Sequence(rows["types"])
        shapes = {key: held.shape for key, held in rows.items()}
        checks.say_unread_arrays(path, shapes, KEYS, "types (and offsets)")
        self.names, self.tissues = (self._words(rows, key) for key in ("names", "tissues"))
        self.mpp = _number(rows["mpp"], self.n) if "mpp" in rows else None
        self.shape = shape[1:3]
        self.shapes = _sizes(rows["sizes"], shape, path) if "sizes" in rows else [self.shape] * self.n

    def read(self, i: int) -> tuple[np.ndarray, np.ndarray | None, bool]:
        """(instances (H, W), types or None, whether types are per nucleus in ascending order of id) of image i.

        Raises:
            InputError: types that disagree, or nuclei or types beyond the image's size.
        """
        instances = self._cropped(self._instances[i], i, "nuclei")
        if i == 1 and self.n == 2 and not self.paired and self._types is None and self._maps is None:
            self._check_second(instances)
        if self.paired:
            return instances[..., 0], instances[..., 1], False
        of_nuclei = None if self._offsets is None else self._types[self._offsets[i] : self._offsets[i + 1]]
        if self._maps is not None:
            types = self._cropped(self._maps[i], i, "types")
            if of_nuclei is not None:
                self._check_agree(i, instances, types, of_nuclei)
            return instances, types, False
        if of_nuclei is not None:
            return instances, of_nuclei, True
        return instances, None if self._types is None else self._cropped(self._types[i], i, "types"), False

    def _cropped(self, values: np.ndarray, i: int, what: str) -> np.ndarray:
        """A map (H, W) or (H, W, 2) of image i, as large as the image."""
        height, width = self.shapes[i]
        if values.shape[:2] == (height, width):
            return values
        if values[height:].any() or values[:, width:].any():
            raise InputError(
                f"{self.path} image {i}: expected no {what} beyond its {height} x {width} pixels (array sizes), found "
                "some; correct sizes, or leave them out where all images are of one size."
            )
        return values[:height, :width]

    def _check_agree(self, i: int, instances: np.ndarray, type_map: np.ndarray, types: np.ndarray) -> None:
        n = len(np.unique(instances[instances > 0]))
        if len(types) != n or not checks.in_map(instances, type_map, types).all():
            raise InputError(
                f"{self.path} image {i}: its types ({len(types)} nuclei) and its type_maps ({n}) give nuclei different "
                "types; keep the array that is right."
            )

    def _check_second(self, second: np.ndarray) -> None:
        """Refuse instances and types that stand one after the other instead of side by side."""
        first = self._cropped(self._instances[0], 0, "nuclei")
        if self.names or first.shape != second.shape or not np.array_equal(first > 0, second > 0):
            return
        (ids, of_first), (kinds, of_second) = (np.unique(each, return_inverse=True) for each in (first, second))
        pairs = np.unique(of_first.astype(np.int64) * len(kinds) + of_second)
        if len(kinds) < len(ids) == len(pairs):  # each instance has one number there
            raise InputError(
                f"{self.path}: expected two label maps of two images, found one and what seems to be the types of its "
                f"nuclei, shape (2, {self.shape[0]}, {self.shape[1]}); save them side by side, (height, width, 2)."
            )

    def _words(self, rows: dict[str, Rows], key: str) -> list[str] | None:
        if key not in rows:
            return None
        words = rows[key]
        if words.shape != (self.n,) or words.dtype.kind not in "US":
            raise InputError(f"{self.path}: expected {key} as {self.n} words, found {words.dtype} {words.shape}.")
        values = words.whole().tolist()
        return [normal(text.decoded(word, self.path) if isinstance(word, bytes) else word) for word in values]


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
    """Name -> array of an npz, none of them read. Raises InputError for no npz, pickled content or a name twice."""
    with archive.reading(path), zipfile.ZipFile(path) as opened:
        names = [name for name in opened.namelist() if name.endswith(".npy")]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path}: expected each array once, found {twice.removesuffix('.npy')} twice; keep one.")
    return {name.removesuffix(".npy"): _rows(path, name) for name in names}


def _divides(offsets: np.ndarray, n: int, nuclei: int) -> bool:
    """Whether offsets give each of n images its own nuclei, and leave none out."""
    whole = offsets.ndim == 1 and len(offsets) == n + 1 and offsets.dtype.kind in "ui"
    return whole and offsets[0] == 0 and offsets[-1] == nuclei and bool((offsets[1:] >= offsets[:-1]).all())


def _sizes(rows: Rows, shape: tuple[int, ...], path: Path) -> list[tuple[int, int]]:
    """(height, width) of each image of a stack of this shape.

    Raises:
        InputError: no two whole numbers for each image, none of them above the sides of its map.
    """
    fits = rows.shape == (shape[0], 2) and rows.dtype.kind in "ui"
    sizes = rows.whole().astype(np.int64) if fits else np.zeros((1, 2), np.int64)
    if not fits or (sizes < 1).any() or (sizes > shape[1:3]).any():
        raise InputError(
            f"{path}: expected sizes as height and width of each of {shape[0]} images, 1 to {shape[1]} and 1 to "
            f"{shape[2]}, found {f'{sizes.min()} to {sizes.max()}' if fits else f'{rows.dtype} {rows.shape}'}; correct "
            "them, or leave them out where all images are of one size."
        )
    return [(height, width) for height, width in sizes.tolist()]


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
