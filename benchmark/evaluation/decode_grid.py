"""Stored raw maps decoded under several settings of the HV watershed; each image's maps are read once.

Runs in worker processes that never import torch; memory is bounded by the images in flight.
"""

import collections
import os

import numpy as np

from benchmark.data.nuclei import Nuclei
from benchmark.data.tiles import Tiling
from benchmark.evaluation.scoring import image_meta, match_nuclei
from benchmark.metrics.match import Match
from benchmark.metrics.records import Records
from benchmark.postproc.hv import HVSettings, decode_hv
from benchmark.postproc.stitch import STITCHED
from benchmark.results.raw_maps import StoredMaps
from benchmark.runtime.errors import InputError
from benchmark.runtime.workers import pool

CHUNK = 16  # images a task
POOL_FROM = 64  # decodings (images times settings) from which processes pay


def decode(
    maps: StoredMaps,
    truths,
    settings: list[HVSettings],
    workers: int | None = None,
    progress=None,
    tiling: str = "none",
):
    """Records of every setting.

    Args:
        truths: `truths[i]` gives image i's true Nuclei for each of `maps.images`; it is pickled into each worker.
        settings: what to decode with.
        workers: processes; None: the cores this process may use, none for little work.
        progress: called with (images done, images in all).
        tiling: the run's `recipe.tiling`: how the nuclei of the tiles are joined.

    Returns:
        list of Records, one for each setting, images in ascending order.

    Raises:
        InputError: the maps are not of the HV family, or belong to other images.
    """
    if not {"np", "hv"} <= set(maps.names):
        raise InputError(f"the kept maps are {', '.join(maps.names)}; expected np and hv, as HV methods have them.")
    images = maps.images
    if workers is None:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        workers = cores if len(images) * len(settings) >= POOL_FROM else 0
    chunks = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
    matches: list[list[Match]] = [[] for _ in settings]
    meta = []
    for rows in _in_order(chunks, (maps, truths, settings, tiling), workers):
        for found, about in rows:
            meta.append(about)
            for k, one in enumerate(found):
                matches[k].append(one)
        if progress:
            progress(len(meta), len(images))
    return [Records.collect(found, meta) for found in matches]


def _in_order(chunks: list, state: tuple, workers: int):
    """Results of `_decode_chunk` in the order of `chunks`; a few wait at a time."""
    if not workers:
        _start(*state)
        yield from map(_decode_chunk, chunks)
        return
    with pool(workers, _start, state) as processes:
        waiting: collections.deque = collections.deque()
        for chunk in chunks:
            waiting.append(processes.submit(_decode_chunk, chunk))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


_state: tuple = ()


def _start(*state) -> None:
    global _state
    _state = state


def _decode_chunk(images: list[int]) -> list[tuple[list[Match], dict]]:
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
        found = [_nuclei(stored, one, truth.mpp, tiling) for one in settings]
        out.append(([match_nuclei(truth, nuclei) for nuclei in found], image_meta(i, truth, "tp" in stored)))
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
