"""One raw fold, converted: a folder of memory-mapped arrays.

    images.npy      uint8 (N, H, W, 3)
    instances.npy   uint16 or int32 (N, H, W), ids contiguous in each image
    types.npy       uint8 (all nuclei), offsets.npy int64 (N + 1): image i has types[offsets[i]:offsets[i+1]]
    type_maps.npy   uint8 (M, H, W), only for images that hold instances of mixed type
    meta.json       names, tissues, sources, sizes of the files and a hash of their content

The fold is written under `<name>.partial`, a chunk of images at a time; a chunk counts once its journal is
renamed in place, so that a killed conversion goes on after its last whole chunk and ends with the same bytes.
The folder takes its final name only when meta.json is whole.
"""

import hashlib
import json
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
        m = self.meta
        row = self._type_map_row.get(i)
        nuclei = Nuclei(
            instances=np.array(self._instances[i], np.int32),
            types=np.array(self.types[self.offsets[i] : self.offsets[i + 1]]),
            mpp=m["mpp"],
            tissue=m["tissues"][i],
            image_id=m["image_ids"][i],
            source=m["sources"][i],
            typed=m["typed"][i],
            type_map=None if row is None else np.array(self._type_maps[row]),
        )
        return Sample(np.array(self._images[i]), nuclei)

    @cached_property
    def types(self) -> np.ndarray:
        """uint8: types of all nuclei."""
        return np.load(self.folder / "types.npy", allow_pickle=False)

    @cached_property
    def offsets(self) -> np.ndarray:
        """int64 (N + 1)."""
        return np.load(self.folder / "offsets.npy", allow_pickle=False)

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
    def _type_map_row(self) -> dict[int, int]:
        return {image: row for row, image in enumerate(self.meta["type_map_images"])}
