"""The same image under two names, as it is or turned and mirrored, in one data set or in two.

Compared are the hashes of the pixels of whole images, of their eight orientations the smallest. Images of one colour
are not compared. Nothing is said of images that differ by a pixel or by compression, nor by scale, but for one that is
another at half its size (`halved`).
"""

import contextlib
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.data.store.fold import CachedFold
from benchmark.runtime.files import atomic

# beside a fold's arrays: they follow from these and are made again where they are missing
FILE, HALVES = "pixels.npy", "half_pixels.npy"
_HEX = 32
Image = tuple[CachedFold, int]


@dataclass(frozen=True)
class Twins:
    """Two images of the same pixels. turned: they are so only when one is turned or mirrored."""

    first: Image
    second: Image
    turned: bool

    @property
    def names(self) -> tuple[str, str]:
        """The images' ids."""
        (fold, row), (other, at) = self.first, self.second
        return fold.meta["image_ids"][row], other.meta["image_ids"][at]


def between(first: Iterable[Image], second: Iterable[Image]) -> list[Twins]:
    """The pairs of an image of `first` and one of `second` that are the same, in the order of `first`.

    The folds may be of one data set or of two.
    """
    known: dict[bytes, list[Image]] = {}
    for fold, row in second:
        if digest := digests(fold)[row, 1]:
            known.setdefault(digest, []).append((fold, row))
    return [
        Twins((fold, row), other, digests(fold)[row, 0] != digests(other[0])[other[1], 0])
        for fold, row in first
        for other in known.get(digests(fold)[row, 1], [])
    ]


def halved(first: Iterable[Image], second: Iterable[Image]) -> list[tuple[Image, Image]]:
    """The pairs of an image of `first` and one of `second` of which one is the other at half its size, in any
    orientation, in the order of `first`."""
    first, second = list(first), list(second)
    pairs = []
    for of_one, of_other in ((half_digests, digests), (digests, half_digests)):
        known: dict[bytes, list[Image]] = {}
        for fold, row in second:
            if digest := of_other(fold)[row, -1]:
                known.setdefault(digest, []).append((fold, row))
        pairs += [((fold, row), other) for fold, row in first for other in known.get(of_one(fold)[row, -1], [])]
    return pairs


def digests(fold: CachedFold) -> np.ndarray:
    """bytes (N, 2): hash of each image as it is, and the smallest of its orientations; empty for one of one colour.

    Read once: kept in the fold's folder, where that can be written, and with the fold.
    """
    return _kept(fold, FILE, 2, _of)


def half_digests(fold: CachedFold) -> np.ndarray:
    """bytes (N, 1): of each image at half its size the smallest hash of its orientations, see `half`; kept likewise."""
    return _kept(fold, HALVES, 1, lambda image: _of(half(image))[1:] if min(image.shape[:2]) > 1 else (b"",))


def half(image: np.ndarray) -> np.ndarray:
    """uint8 (H // 2, W // 2, 3): means of 2 x 2 pixels, halves rounded up; an odd last row or column is left out."""
    rows, columns = image.shape[0] // 2, image.shape[1] // 2
    squares = image[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, -1)
    return ((squares.sum((1, 3), dtype=np.uint16) + 2) // 4).astype(np.uint8)


def _kept(fold: CachedFold, name: str, columns: int, of_image: Callable[[np.ndarray], tuple]) -> np.ndarray:
    """bytes (N, columns): `of_image` of each image, as it lies in the fold's folder, or computed and put there."""
    if (kept := fold.__dict__.get(name)) is not None:
        return kept
    path = fold.folder / name
    table = _read(path, (len(fold), columns))
    if table is None:
        rows = [of_image(fold.view(i).image) for i in range(len(fold))]
        table = np.array(rows, f"S{_HEX}").reshape(len(fold), columns)
        with contextlib.suppress(OSError), atomic(path) as stream:
            np.save(stream, np.concatenate([table, _seal(table)]), allow_pickle=False)
    fold.__dict__[name] = table
    return table


def _read(path: Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The kept table of this shape; None where there is none, or a damaged one."""
    try:
        kept = np.load(path, allow_pickle=False)
    except Exception:  # numpy stumbles over damaged bytes in any way
        return None
    whole = kept.shape == (shape[0] + 1, shape[1]) and kept.dtype == f"S{_HEX}"
    return kept[:-1] if whole and (kept[-1:] == _seal(kept[:-1])).all() else None


def _seal(table: np.ndarray) -> np.ndarray:
    """bytes (1, columns): the last row of a file, the hash of those above it."""
    return np.array([[_hash(table)] * table.shape[1]], f"S{_HEX}")


def _of(image: np.ndarray) -> tuple[bytes, bytes]:
    if (image == image[0, 0]).all():
        return b"", b""
    hashes = [_hash(np.rot90(side, k)) for side in (image, image[:, ::-1]) for k in range(4)]
    return hashes[0], min(hashes)


def _hash(pixels: np.ndarray) -> bytes:
    result = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=_HEX // 2)
    result.update(np.ascontiguousarray(pixels))
    return result.hexdigest().encode()
