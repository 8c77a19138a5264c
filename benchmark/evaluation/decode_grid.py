"""Stored raw maps decoded under several settings of the HV watershed; each image's maps are read once.

Runs in worker processes that never import torch; memory is bounded by the images in flight.
"""

import numpy as np

from benchmark.data.nuclei import Nuclei
from benchmark.data.tiles import Tiling
from benchmark.evaluation.prediction import check_finite
from benchmark.evaluation.scoring import ScoredImage, collect, score_image
from benchmark.metrics.records import Records
from benchmark.postproc.hv import HVSettings, decode_hv
from benchmark.postproc.stitch import STITCHED
from benchmark.results.raw_maps import StoredMaps
from benchmark.runtime.errors import InputError
from benchmark.runtime.workers import in_order, usable_cores

CHUNK = 16  # images a task
POOL_FROM = 64  # decodings (images times settings) from which processes pay


def decode(
    maps: StoredMaps,
    truths,
    settings: list[HVSettings],
    workers: int | None = None,
    progress=None,
    tiling: str = "none",
) -> list[Records]:
    """Records of every setting.

    Args:
        truths: `truths[i]` gives image i's true Nuclei for each of `maps.images`; it is pickled into each worker.
        settings: what to decode with.
        workers: processes; None: the cores this process may use, none for little work.
        progress: called with (images done, images in all).
        tiling: the run's `recipe.tiling`: how the nuclei of the tiles are joined.

    Returns:
        Records for each setting, images in ascending order.

    Raises:
        InputError: the maps are not of the HV family, belong to other images, or are not finite.
    """
    if not {"np", "hv"} <= set(maps.names):
        raise InputError(f"the kept maps are {', '.join(maps.names)}; expected np and hv, as HV methods have them.")
    images = maps.images
    if workers is None:
        workers = usable_cores() if len(images) * len(settings) >= POOL_FROM else 0
    jobs = ((images[start : start + CHUNK],) for start in range(0, len(images), CHUNK))
    state = (maps, truths, settings, tiling)
    rows: list[list[ScoredImage]] = []  # of each image, one per setting
    for chunk in in_order(_decode_chunk, jobs, workers, ahead=2, start=_start, arguments=state):
        rows += chunk
        if progress:
            progress(len(rows), len(images))
    return [collect(row[k] for row in rows) for k in range(len(settings))]


_state: tuple = ()


def _start(*state) -> None:
    global _state
    _state = state


def _decode_chunk(images: list[int]) -> list[list[ScoredImage]]:
    """Of each image, its scores under every setting."""
    maps, truths, settings, tiling = _state
    out = []
    for i in images:
        stored, truth = maps.read(i), truths[i]
        if stored["np"].shape[-2:] != truth.instances.shape:
            raise InputError(
                f"image {i}: the kept maps have shape {stored['np'].shape[-2:]}, the truth {truth.instances.shape}; "
                "they belong to other data."
            )
        if stored["np"].ndim != (3 if tiling == "none" else 4):
            raise InputError(
                f"image {i}: the kept maps have shape {stored['np'].shape}, which the run's tiling '{tiling}' "
                "does not give; run the cell again with KEEP_MAPS=1."
            )
        check_finite(stored, f"image {i}")
        decoded = [_nuclei(stored, one, truth.mpp, tiling) for one in settings]
        out.append([score_image(i, truth, nuclei, "tp" in stored) for nuclei in decoded])
    return out


def _nuclei(stored: dict[str, np.ndarray], settings: HVSettings, mpp: float, tiling: str) -> Nuclei:
    """Nuclei of one image's maps; with a tiling of each tile's, stitched as the run did."""
    types = stored["tp"].argmax(-3) if "tp" in stored else None
    if tiling == "none":
        return decode_hv(stored["np"], stored["hv"], types, settings, mpp)
    grid = Tiling.of(*stored["np"].shape[-2:])
    tiles = [
        decode_hv(np_map, hv, None if types is None else types[t], settings, grid.enlarged_mpp(mpp))
        for t, (np_map, hv) in enumerate(zip(stored["np"], stored["hv"]))
    ]
    return STITCHED[tiling](tiles, grid.corners, types is not None, mpp)


class Truths:
    """The true nuclei of a prepared subset by position; picklable."""

    def __init__(self, subset):
        self.subset = subset

    def __getitem__(self, i: int):
        return self.subset[i].nuclei

    def __len__(self) -> int:
        return len(self.subset)
