"""Checks of images and label maps, made on every one before it is converted."""

import numpy as np

from benchmark.data.files.archive import Rows
from benchmark.runtime.errors import InputError


def rgb(image: np.ndarray, where: str) -> np.ndarray:
    """uint8 (H, W, 3) from an image of any real dtype in 0..255; fractions are rounded.

    Args:
        image: (H, W, 3).
        where: file and index, for the sentence.

    Raises:
        InputError: not RGB, NaN or infinite, outside 0..255, or a float image that stands in 0..1.
    """
    if image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise not_rgb(where, image.shape)
    if image.dtype == np.uint8:
        return np.array(image)
    if image.dtype.kind not in "uif":
        raise InputError(f"{where}: expected numbers in 0..255, found dtype {image.dtype}; save it as uint8.")
    low, high = image.min(), image.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError(f"{where}: expected values in 0..255, found NaN or infinity; repair or leave out this image.")
    if low < 0 or high > 255:
        raise InputError(f"{where}: expected values in 0..255, found {low:g}..{high:g}; rescale the images.")
    if image.dtype.kind == "f" and 0 < high <= 1:
        raise InputError(
            f"{where}: expected values in 0..255, found a float image in {low:g}..{high:g}; multiply the images by 255."
        )
    return (np.rint(image) if image.dtype.kind == "f" else image).astype(np.uint8)


def not_rgb(where: str, shape: tuple[int, ...]) -> InputError:
    """The error of an image whose shape is not (height, width, 3)."""
    return InputError(f"{where}: expected RGB (height, width, 3), found shape {shape}; convert it to RGB.")


def check_rgb_rows(images: Rows, advice: str) -> None:
    """Raises InputError for an array of images whose shape is not (N, H, W, 3), N at least 1; says `advice`."""
    if len(images.shape) != 4 or images.shape[3] != 3 or not len(images):
        raise InputError(
            f"{images.member}: expected RGB images (N, 256, 256, 3), found shape {images.shape}; {advice}."
        )


def ids(labels: np.ndarray, where: str) -> np.ndarray:
    """int64 labels of the same shape from any real dtype.

    Raises:
        InputError: NaN or infinite, negative or non-integer ids, or no numbers at all.
    """
    if labels.dtype.kind not in "uifb":
        raise InputError(f"{where}: expected integer ids, found dtype {labels.dtype}; save the labels as integers.")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        raise InputError(f"{where}: expected integer ids, found NaN or infinity; repair or leave out these labels.")
    low, high = float(labels.min(initial=0)), float(labels.max(initial=0))  # half floats cannot hold 2^53
    if low < 0:
        raise InputError(
            f"{where}: expected ids of 0 (background) and above, found the negative id {low:g}; repair it."
        )
    if high >= 2**53:
        raise InputError(f"{where}: expected ids below 2^53, found {high:g}; renumber the labels.")
    whole = labels.astype(np.int64)
    if labels.dtype.kind == "f" and not np.array_equal(whole, labels):
        fraction = labels[whole != labels].flat[0]
        raise InputError(
            f"{where}: expected integer ids, found {fraction:g}; labels must not be interpolated, resize "
            "with nearest neighbour."
        )
    return whole


def types(labels: np.ndarray, classes, where: str) -> np.ndarray:
    """uint8 type ids, checked as `ids` and against the number of classes."""
    whole = ids(labels, where)
    if whole.max(initial=0) > len(classes):
        raise InputError(
            f"{where}: expected types 0..{len(classes)} ({', '.join(classes)}), found {whole.max()}; check the classes."
        )
    return whole.astype(np.uint8)
