"""One raw fold, converted: a folder of memory-mapped arrays.

    images.npy      uint8 (N, H, W, 3)
    instances.npy   uint16 or int32 (N, H, W), ids contiguous in each image
    types.npy       uint8 (all nuclei), offsets.npy int64 (N + 1): image i has types[offsets[i]:offsets[i+1]]
    type_maps.npy   uint8 (M, H, W), only for images that hold instances of mixed type
    shapes.npy      int32 (N, 2), only where images differ in size: the pixels of images.npy, instances.npy (int32) and
                    type_maps.npy then follow each other, image by image, in one dimension
    ignore.npy      bool, only where an image has ambiguous regions: of all images, as instances.npy
    meta.json       names, tissues, sources, sizes of the files and a hash of their content

The fold is written under `<name>.partial`, a chunk of images at a time; a chunk counts once its journal is
renamed in place, so that a killed conversion goes on after its last whole chunk and ends with the same bytes.
The folder takes its final name only when meta.json is whole.
"""

import hashlib
import json
import math
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmark.data.nuclei import Nuclei, Sample
from benchmark.runtime.files import read_json

CONTENT = ("tissues", "image_ids", "sources", "typed", "type_map_images", "n", "mpp", "fold")


def content_hash(meta: dict) -> str:
    """Hex digest of what a fold means: the entries CONTENT of meta.json and the hashes of the arrays."""
    words = [{key: meta[key] for key in CONTENT}, meta["hashes"]]
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()


def starts_of(shapes: np.ndarray) -> np.ndarray:
    """int64 (N + 1): pixels before each of N images of these shapes (N, 2), and those of all."""
    return np.concatenate([[0], np.cumsum(np.prod(shapes, 1, dtype=np.int64))]).astype(np.int64)


class CachedFold:
    """A complete converted fold; cheap to open, to index and to pickle.

    Attributes:
        folder: where it lies.
        meta: the content of meta.json.

    Raises:
        ValueError: meta.json is absent or was changed, or a file's size is not the one recorded there.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        try:
            self.meta = read_json(folder / "meta.json")
            if content_hash(self.meta) != self.meta["content"]:
                raise ValueError(f"{folder / 'meta.json'} is not what was written: its content has another hash")
            for name, size in self.meta["sizes"].items():
                actual = (folder / name).stat().st_size
                if actual != size:
                    raise ValueError(f"{folder / name} has {actual} bytes, expected {size}")
        except (OSError, KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
            raise ValueError(f"{folder} is not a complete converted fold ({error})") from error

    def __len__(self) -> int:
        return self.meta["n"]

    def damaged(self) -> str | None:
        """Name of a file whose content is no longer what was written, or None; reads all files once."""
        for name, expected in self.meta["hashes"].items():
            try:
                with open(self.folder / name, "rb") as stream:
                    if hashlib.file_digest(stream, "sha256").hexdigest() != expected:
                        return name
            except FileNotFoundError:  # another process has found damage and prepares the fold again
                return name
        return None

    def __getstate__(self) -> dict:
        return {"folder": self.folder, "meta": self.meta}

    def __getitem__(self, i: int) -> Sample:
        """Image i, copied out of the maps."""
        sample = self.view(i)
        nuclei = sample.nuclei
        type_map, ignore = (None if plane is None else np.array(plane) for plane in (nuclei.type_map, nuclei.ignore))
        instances = np.array(nuclei.instances, np.int32)
        return Sample(np.array(sample.image), replace(nuclei, instances=instances, type_map=type_map, ignore=ignore))

    def view(self, i: int) -> Sample:
        """Image i, its arrays read-only views of the maps: a window of it costs no more than the window."""
        m, shape = self.meta, self.shape(i)
        row = self._type_map_row.get(i)
        nuclei = Nuclei(
            instances=self._plane(self._instances, i, self._starts, shape),
            types=np.array(self.types[self.offsets[i] : self.offsets[i + 1]]),
            mpp=m["mpp"],
            tissue=m["tissues"][i],
            image_id=m["image_ids"][i],
            source=m["sources"][i],
            typed=m["typed"][i],
            type_map=None if row is None else self._plane(self._type_maps, row, self._type_map_starts, shape),
            ignore=self._ambiguous(i, shape),
        )
        return Sample(self._plane(self._images, i, self._starts, (*shape, 3)), nuclei)

    def shape(self, i: int) -> tuple[int, int]:
        """Height and width of image i."""
        height, width = self._images.shape[1:3] if self._shapes is None else self._shapes[i].tolist()
        return height, width

    def _ambiguous(self, i: int, shape: tuple[int, int]) -> np.ndarray | None:
        """Ambiguous regions of image i, None where it has none."""
        if "ignore.npy" not in self.meta["sizes"]:
            return None
        regions = self._plane(self._ignore, i, self._starts, shape)
        return regions if regions.any() else None

    def _plane(self, pixels: np.ndarray, row: int, starts: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """An image's part of an array of all images' pixels; starts: the pixel at which each begins."""
        if self._shapes is None:
            return pixels[row]
        values = math.prod(shape[2:])
        return pixels[starts[row] * values : starts[row + 1] * values].reshape(shape)

    @cached_property
    def types(self) -> np.ndarray:
        """uint8: types of all nuclei."""
        return np.load(self.folder / "types.npy", allow_pickle=False)

    @cached_property
    def offsets(self) -> np.ndarray:
        """int64 (N + 1)."""
        return np.load(self.folder / "offsets.npy", allow_pickle=False)

    @cached_property
    def _shapes(self) -> np.ndarray | None:
        """int32 (N, 2) where images differ in size."""
        if "shapes.npy" not in self.meta["sizes"]:
            return None
        return np.load(self.folder / "shapes.npy", allow_pickle=False)

    @cached_property
    def _starts(self) -> np.ndarray:
        """int64 (N + 1): pixels before each image."""
        return starts_of(np.zeros((0, 2)) if self._shapes is None else self._shapes)

    @cached_property
    def _type_map_starts(self) -> np.ndarray:
        """As `_starts`, of the type maps."""
        return starts_of(np.zeros((0, 2)) if self._shapes is None else self._shapes[self.meta["type_map_images"]])

    @cached_property
    def _images(self):
        return np.load(self.folder / "images.npy", mmap_mode="r", allow_pickle=False)

    @cached_property
    def _instances(self):
        return np.load(self.folder / "instances.npy", mmap_mode="r", allow_pickle=False)

    @cached_property
    def _type_maps(self):
        return np.load(self.folder / "type_maps.npy", mmap_mode="r", allow_pickle=False)

    @cached_property
    def _ignore(self):
        return np.load(self.folder / "ignore.npy", mmap_mode="r", allow_pickle=False)

    @cached_property
    def _type_map_row(self) -> dict[int, int]:
        return {image: row for row, image in enumerate(self.meta["type_map_images"])}
