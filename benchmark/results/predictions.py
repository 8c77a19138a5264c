"""The predictions of a test fold: packed while they wait, written image by image."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.data.nuclei import Nuclei
from benchmark.runtime.files import atomic


@dataclass(frozen=True)
class Packed:
    """One image's instance map, compressed: a fold of them takes a few MB where the maps take hundreds.

    Attributes:
        shape, dtype: of the map; uint16 where the ids fit, else int32.
        data: the map's bytes, deflated.
        types: uint8 (N,) as in Nuclei.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    data: bytes
    types: np.ndarray

    @classmethod
    def of(cls, nuclei: Nuclei) -> "Packed":
        """Pack the nuclei of an image."""
        dtype = np.dtype(np.uint16 if len(nuclei) < 2**16 else np.int32)
        content = np.ascontiguousarray(nuclei.instances, dtype).tobytes()
        return cls(nuclei.instances.shape, dtype, zlib.compress(content, 1), nuclei.types)

    def instances(self) -> np.ndarray:
        """The instance map (H, W), read-only."""
        return np.frombuffer(zlib.decompress(self.data), self.dtype).reshape(self.shape)


def write(path: Path, packed: list[Packed]) -> None:
    """Write a compressed npz: instances (N, H, W), types of all nuclei in order (M,) uint8, offsets (N + 1,) int64.

    Image i's types are types[offsets[i] : offsets[i + 1]]. One map stands in memory at a time.

    Raises:
        ValueError: images of different shapes; OSError: the file cannot be written; nothing is left behind.
    """
    shapes = {one.shape for one in packed}
    if len(shapes) > 1:
        raise ValueError(f"predictions have the shapes {sorted(shapes)}, expected one shape")
    shape = (len(packed), *(shapes.pop() if shapes else (0, 0)))
    dtype = np.result_type(np.uint16, *(one.dtype for one in packed))
    sizes = [len(one.types) for one in packed]
    with atomic(Path(path)) as handle, zipfile.ZipFile(handle, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("instances.npy", "w", force_zip64=True) as member:
            header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(member, header)
            for one in packed:
                member.write(one.instances().astype(dtype, copy=False).tobytes())
        for name, array in (
            ("types", np.concatenate([np.zeros(0, np.uint8), *(one.types for one in packed)]).astype(np.uint8)),
            ("offsets", np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)),
        ):
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
