"""Single image and label files: PNG, TIFF, JPEG (images only), npy and mat. Nothing is executed."""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from benchmark.data.files import archive, checks, matlab
from benchmark.data.files.archive import Member, Rows
from benchmark.runtime.errors import InputError

IMAGES = (".png", ".tif", ".tiff", ".npy", ".jpg", ".jpeg")
LABELS = (".png", ".tif", ".tiff", ".npy", ".mat")
_ERRORS = (
    *archive.READ_ERRORS,
    ValueError,
    SyntaxError,
    KeyError,
    IndexError,
    TypeError,
    MemoryError,
    struct.error,
)
_ERRORS += (tifffile.TiffFileError, Image.DecompressionBombError)


@dataclass(frozen=True)
class Labels:
    """What a label file holds.

    Attributes:
        instances: int64 (H, W) ids.
        types: a map uint8 (H, W), or uint8 (N,) in ascending order of id, or None.
    """

    instances: np.ndarray
    types: np.ndarray | None


def by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Stem -> file of every such file in a folder.

    Raises:
        InputError: the folder is absent or holds none, or two files share a stem.
    """
    if not folder.is_dir():
        raise InputError(f"'{folder}' is missing: expected a folder of {', '.join(suffixes)} files; see dataset.toml.")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in suffixes and not path.name.startswith("."):
            if path.stem in files:
                raise InputError(
                    f"{folder}: expected one file per image, found {files[path.stem].name} and {path.name}."
                )
            files[path.stem] = path
    if not files:
        raise InputError(f"'{folder}' holds no {', '.join(suffixes)} files; expected one per image.")
    return files


def size(path: Path) -> tuple[int, int]:
    """Height and width of an image file, from its header."""
    return _shape(path)[:2]


def check_image(path: Path) -> None:
    """Raises InputError where `image` would, judged by the header alone (an image with alpha is read)."""
    shape = _shape(path)
    if len(shape) == 3 and shape[2] == 4:
        image(path)
    elif len(shape) != 3 or shape[2] != 3:
        raise checks.not_rgb(str(path), shape)


def _shape(path: Path) -> tuple[int, ...]:
    if path.suffix.lower() == ".npy":
        shape = Rows(Member(path, "", (path.name,))).shape
    else:
        try:
            if path.suffix.lower() in (".tif", ".tiff"):
                with tifffile.TiffFile(path) as file:
                    shape = file.pages[0].shape
            else:
                with Image.open(path) as picture:
                    bands = 3 if picture.mode == "P" else len(picture.getbands())
                    shape = (*picture.size[::-1], bands) if bands > 1 else picture.size[::-1]
        except _ERRORS as error:
            raise archive.unreadable(path, error) from error
    if len(shape) < 2 or 0 in shape[:2]:
        raise InputError(f"{path}: expected an image (height, width, 3), found shape {tuple(shape)}.")
    return tuple(int(side) for side in shape)


def image(path: Path) -> np.ndarray:
    """uint8 (H, W, 3). An alpha channel that is opaque everywhere is dropped, any other is refused."""
    return checks.rgb(array(path, colours=True), str(path))


def type_map(path: Path, shape: tuple[int, int], classes) -> np.ndarray:
    """uint8 (H, W) of the given shape."""
    return checks.types(_plane(array(path), path, shape), classes, str(path))


def labels(path: Path, shape: tuple[int, int], classes) -> Labels:
    """The nuclei of an image of the given shape; types only from a .mat."""
    if path.suffix.lower() != ".mat":
        return Labels(checks.ids(_plane(array(path), path, shape), str(path)), None)
    content = matlab.read(path)
    _plane(content.instances, path, shape)
    types = None if content.types is None else checks.types(content.types, classes, str(path))
    return Labels(content.instances, types)


def array(path: Path, colours: bool = False) -> np.ndarray:
    """The array of a PNG, TIFF or npy file as it is; a palette PNG gives its indices unless `colours`."""
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return Rows(Member(path, "", (path.name,))).whole()
    if suffix == ".mat":
        raise InputError(f"{path}: expected a PNG, TIFF or npy file here, found a mat file.")
    try:
        if suffix in (".tif", ".tiff"):
            with tifffile.TiffFile(path) as file:
                values = _values(file, path)
                rgba = file.pages[0].photometric == tifffile.PHOTOMETRIC.RGB and values.shape[2:] == (4,)
            if colours and rgba and values.dtype.kind == "u" and (values[..., 3] == np.iinfo(values.dtype).max).all():
                return values[..., :3]
            return values
        with Image.open(path) as picture:
            if colours and picture.mode == "RGBA" and picture.getextrema()[3] == (255, 255):
                return np.asarray(picture.convert("RGB"))
            # A palette is only a way to store colours in an image; in a label map its indices are the ids.
            return np.asarray(picture.convert("RGB") if colours and picture.mode == "P" else picture)
    except _ERRORS as error:
        raise archive.unreadable(path, error) from error


def _values(file: tifffile.TiffFile, path: Path) -> np.ndarray:
    """The first series of a TIFF at full size; compressions that tifffile alone does not expand (LZW) with Pillow.

    Raises:
        InputError: neither of them reads it.
    """
    try:
        return file.asarray()
    except (ValueError, ImportError) as error:
        if isinstance(error, ValueError) and "imagecodecs" not in str(error):
            raise
    page, pixels = file.pages[0], None
    try:
        with Image.open(path) as picture:
            pixels = np.asarray(picture)
    except _ERRORS:
        pass  # reported below
    shape = file.series[0].shape
    # no page and no bit may be lost
    if pixels is None or pixels.shape != shape or pixels.dtype.itemsize != page.dtype.itemsize:
        raise InputError(
            f"{path}: this kind of TIFF is not read ({page.dtype} {shape}, compression "
            f"{getattr(page.compression, 'name', page.compression)}); save it uncompressed or with zlib."
        )
    return pixels.view(page.dtype)


def _plane(array: np.ndarray, path: Path, shape: tuple[int, int]) -> np.ndarray:
    if array.shape != shape:
        raise InputError(
            f"{path}: expected a map of the image's shape {shape}, found {array.shape}; export one number per pixel."
        )
    return array
