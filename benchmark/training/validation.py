"""Validation during training: on which images, and the score by which epochs are compared."""

from dataclasses import replace

import numpy as np

from benchmark.data.store.prepare import Prepared
from benchmark.data.tiles import Tiles, random_tiles
from benchmark.evaluation import test_set
from benchmark.evaluation.prediction import Prediction
from benchmark.metrics.panoptic import tally
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.runtime.distributed import World
from benchmark.training.recipe import Recipe


def sides(data: Prepared, fold: int, recipe: Recipe, seed: int) -> tuple:
    """(training images, validation images, how these are predicted): whole patches, or x40 tiles of them.

    With `validation="split"` validation patches are predicted whole, stitched like test patches, and share no source
    image with the training; `random_tiles` is the published CoNIC recipe: a fifth of all tiles outside the test side.
    """
    training, validation = data.subset(fold, "train"), data.subset(fold, "val")
    if recipe.tiling == "none":
        return training, validation, recipe.prediction
    classes = len(data.classes)
    if recipe.validation == "random_tiles":
        return *random_tiles([training, validation], classes, 0.2, seed), replace(recipe.prediction, tiling="none")
    return Tiles([training], classes), validation, recipe.prediction


def validate(method, subset, prediction: Prediction, world: World, data: Prepared, monitor: str) -> float | None:
    """Mean image bPQ on the validation subset: in the `cellvit` protocol (images without nuclei left out), or "raw".

    None where no image has a value, since none holds nuclei.
    """
    typed = method.has_types and bool(data.classes)
    shares = world.gather_first(test_set.evaluate(method, subset, prediction, world, typed))
    return world.share_first(_bpq(shares, data, monitor) if world.first else None)


def _bpq(shares: list, data: Prepared, monitor: str) -> float | None:
    records = test_set.join(shares).records
    if monitor == "raw":
        return raw_bpq(records)
    images = PROTOCOLS["cellvit"].images(records, len(data.classes))
    return float(np.nanmean(images["bPQ"])) if images["bPQ"].notna().any() else None


def raw_bpq(records) -> float:
    """Mean image bPQ as the published trainings select by: every instance of the decoded map counts, those without
    type or outline too, and an image whose truth is empty scores 0 instead of being left out."""
    columns = records.columns
    counts = tally(columns.image, columns.true, columns.pred, columns.pixels, columns.n)
    return float(np.mean(counts.quality(dq_eps=1e-6)[2])) if columns.n else 0.0
