"""A method over a validation or test side: predict, decode, score; the pixels are not touched again after that."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from benchmark.data.nuclei import Sample
from benchmark.evaluation import decode_score, resampling, scoring, tiled
from benchmark.evaluation.forward import Forward, one_ahead
from benchmark.evaluation.prediction import Prediction, check_finite
from benchmark.evaluation.scoring import ScoredImage
from benchmark.metrics.aggregate import nanmean
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.metrics.records import Records
from benchmark.metrics.sizes import by_size
from benchmark.results.predictions import Packed
from benchmark.runtime import precision
from benchmark.runtime.workers import Lasting, in_order, usable_cores

LARGE = 512**2  # pixels of an image, from which on fewer are predicted at once
POOL_FROM = 200  # below this many images, starting worker processes costs more than it saves


@dataclass(frozen=True)
class Share:
    """What one process predicted of a subset, and the seconds of its forward passes."""

    images: list[ScoredImage]
    forward_seconds: float


@dataclass(frozen=True)
class Evaluation:
    """What one pass over a subset gave.

    Attributes:
        predictions: a `results.predictions.Packed` per image, None where they were not kept.
        forward_seconds, decode_seconds: of the forward passes and of decoding alone, over all processes.
        images: their number.
    """

    records: Records
    predictions: list[Packed | None]
    forward_seconds: float
    decode_seconds: float
    images: int


def evaluate(
    method,
    subset,
    prediction: Prediction,
    world,
    typed: bool,
    *,
    keep: bool = False,
    progress=None,
    put=None,
    types: np.ndarray | None = None,
    true_types: np.ndarray | None = None,
    lasting: Lasting | None = None,
) -> Share:
    """Predict and score this rank's share of `subset`.

    Args:
        world: a `runtime.distributed.World`.
        typed: whether the method names types on these data.
        keep: keep the predictions too.
        progress: called with (images done, images in all).
        put: called with (index, raw maps) of each image, as `results.raw_maps.writing` yields it.
        types: uint8, the data's type of each of the method's, see `class_names.Matched`; None: the same numbers.
        true_types: uint8, the type that each of the truth's counts as; None: itself.
        lasting: whose processes decode, where there are enough images for any; None: own ones, which end with this.

    Raises:
        InputError: the method's output for an image is not finite.
    """
    method.eval()
    device, size = world.device, prediction.batch
    indices = list(range(len(subset)))[world.rank :: world.size]
    workers = max(1, usable_cores() // world.local) if len(indices) >= POOL_FROM else 0
    number_format, tiling = precision.precision_on(prediction.precision, device), tiled.of(method, prediction.tiling)
    predict = partial(_predicted, method, tiling, put is not None)
    seconds = 0.0

    def started() -> Iterator[tuple[list[int], list, Forward]]:
        for rows, samples in batches(subset, indices, size, prediction.mpp):
            images = np.stack([seen_at(s, prediction.mpp) for s in samples])
            yield rows, samples, Forward(predict, images, number_format, device)

    def jobs() -> Iterator[tuple]:
        nonlocal seconds
        done = 0
        for rows, samples, forward in one_ahead(started()):
            maps = forward.maps()
            seconds += forward.seconds
            for j, (i, sample) in enumerate(zip(rows, samples)):
                own = {k: v[j] for k, v in maps.items()}
                check_finite(own, f"image {i}" + (f" ('{sample.nuclei.image_id}')" if sample.nuclei.image_id else ""))
                if put:
                    put(i, own)
                truth = sample.nuclei if true_types is None else sample.nuclei.retyped(true_types)
                yield method.representation, i, truth, own, tiling, typed, keep, types, prediction.mpp
            done += len(rows)
            if progress:
                progress(done, len(indices))

    # four batches wait for the processes at most: their maps stand in memory
    ahead = max(2, -(-4 * size // max(1, workers)))
    scored = list(in_order(decode_score.decode_and_score, jobs(), workers, ahead=ahead, lasting=lasting))
    return Share(scored, seconds)


def _predicted(method, tiling: str, whole: bool, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """Raw maps, whole or as decoding needs them: of HV maps three tenths of the bytes go to the decoding processes."""
    maps = {name: values.float() for name, values in tiled.predict(method, images, tiling).items()}
    return maps if whole else method.representation.condensed(maps)


def seen_at(sample: Sample, mpp: float | None) -> np.ndarray:
    """uint8 (H, W, 3): the image as a network that sees `mpp` µm/px sees it; None: as it is."""
    if mpp is None or not resampling.differs(sample.nuclei.mpp, mpp):
        return sample.image
    return resampling.resized(sample.image, *_seen_sides(sample, mpp))


def _seen_sides(sample: Sample, mpp: float | None) -> tuple[int, int]:
    """Height and width of `seen_at`, without its pixels."""
    shape = sample.image.shape
    if mpp is None or not resampling.differs(sample.nuclei.mpp, mpp):
        return shape[0], shape[1]
    height, width = resampling.sides(shape, sample.nuclei.mpp, mpp)
    return max(height, resampling.LEAST), max(width, resampling.LEAST)


def batches(subset, indices: list[int], size: int, mpp: float | None = None) -> Iterator[tuple[list[int], list]]:
    """(indices, samples) of the images that are predicted at once, in their order.

    They are of one shape, stored and as the network sees them (those of joined data sets may differ in either), and
    `size` of them; of images of more than LARGE pixels, as many as hold the pixels of `size` images of 256 x 256, at
    least one: whole fields of a data set are dozens of patches each. Pixels are those that the network sees, see
    `seen_at`.
    """
    rows: list[int] = []
    samples: list = []
    shapes = None
    for i in indices:
        sample = subset[i]
        height, width = _seen_sides(sample, mpp)
        pixels, own = height * width, (sample.image.shape, height, width)
        most = size if pixels <= LARGE else max(1, size * 256**2 // pixels)
        if samples and (len(samples) >= most or own != shapes):
            yield rows, samples
            rows, samples = [], []
        shapes = own
        rows.append(i)
        samples.append(sample)
    if samples:
        yield rows, samples


def join(shares: list[Share]) -> Evaluation:
    """The shares of all ranks as one, in the order of the subset."""
    images = sorted((image for share in shares for image in share.images), key=lambda image: image.meta["image"])
    return Evaluation(
        records=scoring.collect(images),
        predictions=[image.prediction for image in images],
        forward_seconds=sum(share.forward_seconds for share in shares),
        decode_seconds=sum(image.decode_seconds for image in images),
        images=len(images),
    )


def ceiling(method, subset, classes: int, prediction: Prediction) -> dict:
    """What the method's decoding would score if its network were perfect: decode(ideal(targets)) against the truth.

    Small and crowded nuclei are lost there before any network is to blame.

    Returns:
        {"bPQ": image mean (`cellvit` protocol; NaN without nuclei), "sizes": rows of `metrics.sizes.by_size`}.
    """
    workers = usable_cores() if len(subset) >= POOL_FROM else 0
    way = method.representation
    jobs = ((way, i, subset[i].nuclei, classes, prediction.tiling) for i in range(len(subset)))
    records = scoring.collect(in_order(decode_score.score_ideal, jobs, workers, ahead=8))
    return {
        "bPQ": float(nanmean(PROTOCOLS["cellvit"].images(records, 0)["bPQ"])),
        "sizes": by_size(records).to_dict("records"),
    }
