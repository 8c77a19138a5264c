"""What the worker processes of an evaluation do with one image: decode its raw maps and score them.

Without torch, whose import is most of what starting such a process takes; they are started for every validation.
"""

import time

import numpy as np

from benchmark.data.nuclei import Nuclei
from benchmark.evaluation import decoding, resampling, scoring
from benchmark.evaluation.scoring import ScoredImage


def decode_and_score(
    representation,
    index: int,
    truth: Nuclei,
    maps: dict[str, np.ndarray],
    tiling: str,
    typed: bool,
    keep: bool,
    types: np.ndarray | None = None,
    mpp: float | None = None,
) -> ScoredImage:
    """One image's raw maps, of `mpp` µm/px where they are not at the truth's, against its truth; may run in a worker
    process."""
    began = time.perf_counter()
    if mpp is None or not resampling.differs(truth.mpp, mpp):
        predicted = decoding.decode(representation, maps, truth.mpp, tiling)
    else:
        decoded = decoding.decode(representation, maps, mpp, tiling)
        predicted = resampling.brought_back(decoded, truth.instances.shape, truth.mpp, mpp)
    if types is not None:
        predicted = predicted.retyped(types)
    seconds = time.perf_counter() - began
    return scoring.score_image(index, truth, predicted, typed, keep=keep, decode_seconds=seconds)


def score_ideal(representation, index: int, truth: Nuclei, classes: int, tiling: str) -> ScoredImage:
    """What decoding makes of the truth's own targets, against the truth; may run in a worker process."""
    perfect = decoding.ideal(representation, truth, classes, tiling)
    decoded = decoding.decode(representation, perfect, truth.mpp, tiling)
    return scoring.score_image(index, truth, decoded, False, shapes=False)
