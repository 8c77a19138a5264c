"""Single image and label files: PNG, TIFF, JPEG (images only), npy and mat. Nothing is executed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.data.files import checks, matlab, names, raster
from benchmark.runtime.errors import InputError

IMAGES = (".png", ".tif", ".tiff", ".npy", ".jpg", ".jpeg")
LABELS = (".png", ".tif", ".tiff", ".npy", ".mat")


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
    """`names.key` of the stem -> every such file in a folder; of a folder that `predict` wrote its label maps.

    Raises:
        InputError: the folder is absent or holds none, or two files share a stem, capitals or not.
    """
    if not folder.is_dir():
        raise InputError(f"'{folder}' is missing: expected a folder of {', '.join(suffixes)} files; see dataset.toml.")
    files: dict[str, Path] = {}
    for path in names.predicted(folder) or names.listing(folder, suffixes):
        other = files.setdefault(names.key(names.stem(path)), path)
        if other != path:
            raise InputError(f"{folder}: expected one file per image, found {other.name} and {path.name}; keep one.")
    if not files:
        raise InputError(f"'{folder}' holds no {', '.join(suffixes)} files; expected one per image.")
    return files


def size(path: Path) -> tuple[int, int]:
    """Height and width of an image file, from its header."""
    return raster.shape(path)[:2]


def check_image(path: Path) -> None:
    """Raises InputError where `image` would, judged by the header alone (an image with alpha is read)."""
    shape = raster.shape(path)
    if len(shape) == 3 and shape[2] == 4:
        image(path)
    elif len(shape) != 3 or shape[2] != 3:
        raise checks.not_rgb(str(path), shape)


def image(path: Path, doubts: checks.Doubts | None = None) -> np.ndarray:
    """uint8 (H, W, 3). An alpha channel that is opaque everywhere is dropped, any other is refused.

    Args:
        doubts: is told of an image whose values are rounded.
    """
    return checks.rgb(raster.array(path, colours=True), str(path), doubts)


def type_map(path: Path, shape: tuple[int, int], classes) -> np.ndarray:
    """uint8 (H, W) of the given shape."""
    return checks.types(_map(path, shape), classes, str(path))


def labels(path: Path, shape: tuple[int, int], classes, complete: bool = False) -> Labels:
    """The nuclei of an image of the given shape; types only from a .mat.

    Args:
        complete: see `matlab.read`.
    """
    if path.suffix.lower() != ".mat":
        return Labels(checks.ids(_map(path, shape), str(path)), None)
    _check_shape(matlab.shape(path), path, shape)
    content = matlab.read(path, complete)
    types = None if content.types is None else checks.types(content.types, classes, str(path))
    return Labels(content.instances, types)


def _map(path: Path, shape: tuple[int, int]) -> np.ndarray:
    if path.suffix.lower() != ".mat":  # which is refused when it is read
        _check_shape(raster.shape(path, colours=False), path, shape)
    return checks.without_channel(raster.array(path))


def _check_shape(sides: tuple[int, ...], path: Path, shape: tuple[int, int]) -> None:
    """Refuse a map of another shape by its header, before memory is taken for it."""
    if sides not in (shape, (*shape, 1)):
        raise InputError(
            f"{path}: expected a map of the image's shape {shape}, found {sides}; export one number per pixel."
        )
