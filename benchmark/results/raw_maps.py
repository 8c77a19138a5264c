"""Raw maps of a test fold on disk (KEEP_MAPS=1), from which post-processing can be done again without a network.

`maps-<rank>.npz` in the run's folder holds `<name>/<image>` for each image and map: np (2, H, W) and tp (C + 1, H, W)
logits, hv (2, H, W), as float16; of an image that was predicted in tiles (4, C, S, S). Each is a member of its own,
written as soon as it is predicted and read alone.
"""

import contextlib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmark.results import manifest
from benchmark.results.run_folder import RAW_MAPS, RunFolder
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import atomic
from benchmark.runtime.paths import IN_CHECKOUT, as_called

_LARGEST = np.finfo(np.float16).max
_LEVEL = 1  # of deflate: half precision maps hardly shrink further


@contextmanager
def writing(folder: RunFolder, rank: int = 0) -> Iterator:
    """Yields put(image, maps), which appends an image's maps (name -> (..., C, H, W) floats) to this rank's file.

    The file appears when all is written; an exception leaves none. Values are rounded to half precision.
    """
    with (
        atomic(folder.raw_maps(rank)) as handle,
        zipfile.ZipFile(handle, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive,
    ):

        def put(image: int, maps: dict[str, np.ndarray]) -> None:
            for name, values in maps.items():
                if values.ndim >= 3:  # the tissue logits are no map
                    with archive.open(f"{name}/{image}.npy", "w") as member:
                        half = np.clip(values, -_LARGEST, _LARGEST).astype(np.float16)
                        np.lib.format.write_array(member, half, allow_pickle=False)

        yield put


def drop(folder: RunFolder, ranks: int = 0) -> None:
    """Remove the maps of ranks from `ranks` on: of an earlier run, with other weights or more processes."""
    for path in folder.all_raw_maps:
        if int(path.stem.partition("-")[2]) >= ranks:
            path.unlink()


def kept(folder: RunFolder, metrics: dict) -> bool:
    """Whether the maps of every test image lie there, by presence, size and names; what they hold is not compared.

    Args:
        metrics: the run's metrics.json.
    """
    files = manifest.files_of(metrics)
    seen: set[int] = set()
    for path in folder.all_raw_maps:
        if path.name in files and path.stat().st_size != files[path.name]["size"]:
            return False
        with contextlib.suppress(OSError, ValueError, zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
            seen |= {int(name.removesuffix(".npy").rpartition("/")[2]) for name in archive.namelist()}
    return seen == set(range(metrics.get("n_images", 0)))


class StoredMaps:
    """The maps of a run, image by image; picklable, opened anew in each process.

    Attributes:
        images: image numbers in ascending order.
        names: names of the maps.

    Raises:
        InputError: the folder holds none, or a file that cannot be read or is damaged.
    """

    def __init__(self, folder: RunFolder):
        self._of: dict[int, Path] = {}
        names = set()
        for path in folder.all_raw_maps:
            folder.check(path)
            try:
                with zipfile.ZipFile(path) as archive:
                    members = [name.removesuffix(".npy").partition("/") for name in archive.namelist()]
                self._of |= {int(image): path for _, _, image in members}
            except Exception as error:  # zipfile stumbles over damaged bytes in any way
                raise InputError(
                    f"{path} cannot be read ({error}): expected kept maps; run the cell again with KEEP_MAPS=1."
                ) from error
            names |= {name for name, _, _ in members}
        if not self._of:
            option = "KEEP_MAPS=1" if IN_CHECKOUT else "--keep-maps"
            raise InputError(f"{folder} holds no {RAW_MAPS}; make them with `{as_called('run')} … {option}`.")
        self.images, self.names = sorted(self._of), sorted(names)
        self._open: dict[Path, np.lib.npyio.NpzFile] = {}

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_open": {}}

    def read(self, image: int) -> dict[str, np.ndarray]:
        """name -> float32 (..., C, H, W). Raises InputError when the file is damaged."""
        path = self._of[image]
        try:
            if path not in self._open:
                self._open[path] = np.load(path, allow_pickle=False)
            return {name: self._open[path][f"{name}/{image}"].astype(np.float32) for name in self.names}
        except Exception as error:  # and so does numpy
            raise InputError(
                f"{path}: the maps of image {image} cannot be read ({error}); run the cell again with KEEP_MAPS=1."
            ) from error
