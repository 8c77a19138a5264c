"""The predictions of a test fold: packed while they wait, written image by image, read for some images."""

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.data.nuclei import Nuclei
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import atomic


@dataclass(frozen=True)
class Packed:
    """One image's instance map, compressed: a fold of them takes a few MB where the maps take hundreds.

    Attributes:
        shape, dtype: of the map; uint16 where the ids fit, else int32.
        data: the map's bytes, deflated.
        types: uint8 (N,) as in Nuclei.
        type_data: the pixel type map's bytes, deflated; None where every nucleus is of one type.
    """

    shape: tuple[int, int]
    dtype: np.dtype
    data: bytes
    types: np.ndarray
    type_data: bytes | None = None

    @classmethod
    def of(cls, nuclei: Nuclei) -> "Packed":
        """Pack the nuclei of an image."""
        dtype = np.dtype(np.uint16 if len(nuclei) < 2**16 else np.int32)
        content = np.ascontiguousarray(nuclei.instances, dtype).tobytes()
        type_data = None
        if nuclei.type_map is not None:
            type_data = zlib.compress(np.ascontiguousarray(nuclei.type_map, np.uint8).tobytes(), 1)
        return cls(nuclei.instances.shape, dtype, zlib.compress(content, 1), nuclei.types, type_data)

    def instances(self) -> np.ndarray:
        """The instance map (H, W), read-only."""
        return np.frombuffer(zlib.decompress(self.data), self.dtype).reshape(self.shape)

    def pixel_types(self) -> np.ndarray:
        """The type map uint8 (H, W): as it was predicted, else each nucleus painted with its type."""
        if self.type_data is None:
            return _painted(self.instances(), self.types)
        return np.frombuffer(zlib.decompress(self.type_data), np.uint8).reshape(self.shape)


def write(path: Path, packed: list[Packed]) -> None:
    """Write a compressed npz: instances (N, H, W), types of all nuclei in order (M,) uint8, offsets (N + 1,) int64.

    Image i's types are types[offsets[i] : offsets[i + 1]]. Where a nucleus of some image is of mixed type, type_maps
    (N, H, W) uint8 hold the types by pixel too. Where images differ in size, H and W are the largest, maps are filled
    up with background below and to the right, and sizes (N, 2) int32 says how large each is. One map stands in memory
    at a time.

    Raises:
        OSError: the file cannot be written; nothing is left behind.
    """
    shapes = np.array([one.shape for one in packed], np.int32).reshape(-1, 2)
    shape = (len(packed), *shapes.max(0, initial=0).tolist())
    differ = len(np.unique(shapes, axis=0)) > 1
    dtype = np.result_type(np.uint16, *(one.dtype for one in packed))
    sizes = [len(one.types) for one in packed]
    with atomic(Path(path)) as handle, zipfile.ZipFile(handle, "w", zipfile.ZIP_DEFLATED) as archive:
        _write_maps(archive, "instances", shape, dtype, (_filled(one.instances(), shape) for one in packed))
        if any(one.type_data is not None for one in packed):
            _write_maps(
                archive, "type_maps", shape, np.dtype(np.uint8), (_filled(one.pixel_types(), shape) for one in packed)
            )
        arrays: list[tuple[str, np.ndarray]] = [
            ("types", np.concatenate([np.zeros(0, np.uint8), *(one.types for one in packed)]).astype(np.uint8)),
            ("offsets", np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)]).astype(np.int64)),
        ]
        for name, array in [*arrays, ("sizes", shapes)] if differ else arrays:
            with archive.open(f"{name}.npy", "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def load(path: Path, rows: list[int], mpp: float) -> list[Nuclei]:
    """The stored predictions of a run for some images of its test set.

    Args:
        path: a run folder's `predictions`.
        rows: positions in the test set, from 0.
        mpp: of the images, micrometres per pixel.

    Returns:
        The nuclei of each row: instances int32 (H, W), types and the pixel type map; no scores, tissue or names.

    Raises:
        InputError: the folder holds no predictions, damaged ones, or those of too few images.
    """
    if not path.is_file():
        raise InputError(f"{path}: expected the predictions of a finished run, found no file; name a run folder.")
    try:
        with np.load(path, allow_pickle=False) as stored:
            instances, types, offsets = stored["instances"], stored["types"], stored["offsets"]
            type_maps = stored["type_maps"] if "type_maps" in stored else None
            sizes = stored["sizes"] if "sizes" in stored else None
        _check(instances, types, offsets, type_maps)
        if sizes is None:
            sizes = np.tile(instances.shape[1:], (len(instances), 1))
        if sizes.shape != (len(instances), 2) or sizes.min(initial=0) < 0 or (sizes > instances.shape[1:]).any():
            raise ValueError(f"its sizes {sizes.shape} are not those of its instances {instances.shape}")
    except Exception as error:  # numpy and zipfile stumble over damaged bytes in any way
        reason = f"{type(error).__name__}: {error}"
        raise InputError(
            f"{path}: expected the predictions of a finished run, found a damaged file ({reason}); name another run "
            "folder, or remove this one and run it again."
        ) from error
    if rows and max(rows) >= len(instances):
        raise InputError(f"{path}: holds {len(instances)} images, this test set more; name a run on the same data.")
    out = []
    for i in rows:
        whole = tuple(slice(side) for side in sizes[i].tolist())
        type_map = None if type_maps is None else type_maps[i][whole]
        out.append(_nuclei(instances[i][whole], types[offsets[i] : offsets[i + 1]], type_map, mpp))
    return out


def _check(instances, types, offsets, type_maps) -> None:
    """Raises ValueError where the arrays do not belong together."""
    whole = all(array.dtype.kind in "iu" for array in (instances, types, offsets))
    if not whole or instances.ndim != 3 or types.ndim != 1 or offsets.shape != (len(instances) + 1,):
        raise ValueError("its arrays have other shapes or dtypes")
    if type_maps is not None and (type_maps.shape != instances.shape or type_maps.dtype.kind not in "iu"):
        raise ValueError(f"its type_maps have the shape {type_maps.shape}, its instances {instances.shape}")
    counts = np.diff(offsets.astype(np.int64))
    most = instances.max(axis=(1, 2), initial=0)
    if offsets[0] != 0 or offsets[-1] != len(types) or (most > counts).any() or instances.min(initial=0) < 0:
        raise ValueError("it has not one type per nucleus")


def _nuclei(instances: np.ndarray, types: np.ndarray, type_map: np.ndarray | None, mpp: float) -> Nuclei:
    """Nuclei as they were packed: the pixel type map only where a nucleus is of mixed type."""
    if type_map is not None and np.array_equal(type_map, _painted(instances, types)):
        type_map = None
    return Nuclei(instances.astype(np.int32), types, mpp, type_map=type_map)


def _painted(instances: np.ndarray, types: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(1, np.uint8), types.astype(np.uint8)])[instances]


def _filled(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A map (H, W) with background below and to the right, as large as those of a stack of this shape (N, H, W)."""
    return np.pad(values, [(0, whole - side) for side, whole in zip(values.shape, shape[1:])])


def _write_maps(archive: zipfile.ZipFile, name: str, shape: tuple, dtype: np.dtype, maps) -> None:
    """Write maps (H, W), one at a time, as the member `name` of shape (N, H, W)."""
    with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(member, header)
        for one in maps:
            member.write(one.astype(dtype, copy=False).tobytes())
