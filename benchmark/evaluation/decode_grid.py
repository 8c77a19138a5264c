"""Stored raw maps decoded under several settings of their representation; each image's maps are read once.

Runs in worker processes that never import torch; memory is bounded by the images in flight.
"""

from benchmark.evaluation import decoding
from benchmark.evaluation.prediction import check_finite
from benchmark.evaluation.scoring import ScoredImage, collect, score_image
from benchmark.metrics.records import Records
from benchmark.representations.base import Representation
from benchmark.results.raw_maps import StoredMaps
from benchmark.runtime.errors import InputError
from benchmark.runtime.workers import in_order, usable_cores

CHUNK = 16  # images a task
POOL_FROM = 64  # decodings (images times settings) from which processes pay


def decode(
    maps: StoredMaps,
    truths,
    settings: list,
    representation: Representation,
    workers: int | None = None,
    progress=None,
    tiling: str = "none",
) -> list[Records]:
    """Records of every setting.

    Args:
        truths: `truths[i]` gives image i's true Nuclei for each of `maps.images`; it is pickled into each worker.
        settings: what to decode with, each as `representation.settings` returns it.
        representation: of the method whose maps they are.
        workers: processes; None: the cores this process may use, none for little work.
        progress: called with (images done, images in all).
        tiling: the run's `recipe.tiling`: how the nuclei of the tiles are joined.

    Returns:
        Records for each setting, images in ascending order.

    Raises:
        InputError: the maps are not of this representation, belong to other images, or are not finite.
    """
    own = representation.channels()
    if not own.keys() <= set(maps.names):
        raise InputError(
            f"the kept maps are {', '.join(maps.names)}; expected {' and '.join(own)}, as methods with "
            f"instances={representation.name} have them."
        )
    images = maps.images
    if workers is None:
        workers = usable_cores() if len(images) * len(settings) >= POOL_FROM else 0
    jobs = ((images[start : start + CHUNK],) for start in range(0, len(images), CHUNK))
    state = (maps, truths, settings, representation, tiling)
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
    maps, truths, settings, representation, tiling = _state
    first = next(iter(representation.channels()))
    out = []
    for i in images:
        stored, truth = maps.read(i), truths[i]
        if stored[first].shape[-2:] != truth.instances.shape:
            raise InputError(
                f"image {i}: the kept maps have shape {stored[first].shape[-2:]}, the truth {truth.instances.shape}; "
                "they belong to other data."
            )
        if stored[first].ndim != (3 if tiling == "none" else 4):
            raise InputError(
                f"image {i}: the kept maps have shape {stored[first].shape}, which the run's tiling '{tiling}' "
                "does not give; run the cell again with KEEP_MAPS=1."
            )
        check_finite(stored, f"image {i}")
        decoded = [decoding.decode(representation, stored, truth.mpp, tiling, one) for one in settings]
        out.append([score_image(i, truth, nuclei, "tp" in stored) for nuclei in decoded])
    return out


class Truths:
    """The true nuclei of a prepared subset by position; picklable."""

    def __init__(self, subset):
        self.subset = subset

    def __getitem__(self, i: int):
        return self.subset[i].nuclei

    def __len__(self) -> int:
        return len(self.subset)
