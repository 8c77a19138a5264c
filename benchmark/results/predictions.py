"""The predictions of a test fold: packed while they wait, written image by image, read for some images."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.data.nuclei import Nuclei
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.errors import InputError
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


def load(folder: RunFolder, rows: list[int], mpp: float) -> list[Nuclei]:
    """The stored predictions of a run for some images of its test set.

    Args:
        rows: positions in the test set, from 0.
        mpp: of the images, micrometres per pixel.

    Returns:
        The nuclei of each row: instances int32 (H, W) and types; no scores, tissue or names.

    Raises:
        InputError: the folder holds no predictions, damaged ones, or those of fewer images than asked for.
    """
    path = folder.predictions
    if not path.is_file():
        raise InputError(f"{path}: expected the predictions of a finished run, found no file; name a run folder.")
    try:
        with np.load(path, allow_pickle=False) as stored:
            instances, types, offsets = stored["instances"], stored["types"], stored["offsets"]
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = f"{type(error).__name__}: {error}"
        raise InputError(
            f"{path}: expected the predictions of a finished run, found a damaged file ({reason}); name another run "
            "folder, or remove this one and run it again."
        ) from error
    if rows and max(rows) >= len(instances):
        raise InputError(f"{path}: holds {len(instances)} images, this test set more; name a run on the same data.")
    return [Nuclei(instances[i].astype(np.int32), types[offsets[i] : offsets[i + 1]], mpp) for i in rows]
