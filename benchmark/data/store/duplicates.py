"""The same image under two names, as it is or turned and mirrored, in one data set or in two.

Compared are the hashes of the pixels of whole images, of their eight orientations the smallest. Images of one colour
are not compared. Nothing is said of images that differ by a pixel, by compression or by scale.
"""

import contextlib
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from benchmark.data.store.fold import CachedFold
from benchmark.runtime.files import atomic

FILE = "pixels.npy"  # beside a fold's arrays: it follows from them and is made again where it is missing
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


def digests(fold: CachedFold) -> np.ndarray:
    """bytes (N, 2): hash of each image as it is, and the smallest of its orientations; empty for one of one colour.

    Read once: kept in the fold's folder, where that can be written, and with the fold.
    """
    if (kept := fold.__dict__.get("pixel_digests")) is not None:
        return kept
    path, table = fold.folder / FILE, None
    with contextlib.suppress(OSError, ValueError, EOFError):
        table = np.load(path, allow_pickle=False)
    if table is None or table.shape != (len(fold), 2) or table.dtype != f"S{_HEX}":
        table = np.array([_of(fold.view(i).image) for i in range(len(fold))], f"S{_HEX}")
        with contextlib.suppress(OSError), atomic(path) as stream:
            np.save(stream, table, allow_pickle=False)
    fold.__dict__["pixel_digests"] = table
    return table


def _of(image: np.ndarray) -> tuple[bytes, bytes]:
    if (image == image[0, 0]).all():
        return b"", b""
    hashes = [_hash(np.rot90(side, k)) for side in (image, image[:, ::-1]) for k in range(4)]
    return hashes[0], min(hashes)


def _hash(pixels: np.ndarray) -> bytes:
    result = hashlib.blake2b(repr(pixels.shape).encode(), digest_size=_HEX // 2)
    result.update(np.ascontiguousarray(pixels))
    return result.hexdigest().encode()
