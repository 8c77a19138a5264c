"""Validation during training: on which images, and the score by which epochs are compared."""

from dataclasses import replace

import numpy as np

from benchmark.data.files.resolution import differs
from benchmark.data.joint_sides import JointSubset
from benchmark.data.store.prepare import Prepared
from benchmark.data.tiles import Tiles, random_tiles
from benchmark.evaluation import test_set
from benchmark.evaluation.prediction import Prediction
from benchmark.metrics.panoptic import tally
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.runtime.distributed import World
from benchmark.runtime.errors import InputError
from benchmark.runtime.workers import Lasting
from benchmark.training.recipe import Recipe


def sides(data: Prepared, fold: int, recipe: Recipe, seed: int) -> tuple:
    """(training images, validation images, how these are predicted): whole patches, or x40 tiles of them.

    With `validation="split"` validation patches are predicted whole, stitched like test patches, and share no source
    image with the training; `random_tiles` is the published CoNIC recipe: a fifth of all tiles outside the test side.

    Raises:
        InputError: several data sets in tiles, or images of one that resampling makes smaller than the crop.
    """
    training, validation = data.subset(fold, "train"), data.subset(fold, "val")
    if isinstance(training, JointSubset):
        if recipe.tiling != "none":
            raise InputError(
                f"{data.name}: recipe.tiling={recipe.tiling} is for images of CoNIC alone; those of several data sets "
                "are resampled to one resolution instead, use recipe.tiling=none."
            )
        check_sizes(training, data, recipe.crop)
        return training, validation, replace(recipe.prediction, mpp=data.mpp)
    if recipe.tiling == "none":
        return training, validation, recipe.prediction
    classes = len(data.classes)
    if recipe.validation == "random_tiles":
        return *random_tiles([training, validation], classes, 0.2, seed), replace(recipe.prediction, tiling="none")
    return Tiles([training], classes), validation, recipe.prediction


def check_sizes(training, data: Prepared, crop: int) -> None:
    """Raise InputError where resampling shrinks images of a fixed size below the crop: most of it would be mirrored."""
    for one, own in zip(training.sets, data.sets):
        if own.train_patch is not None or not len(one):
            continue
        side = min(min(shape) for shape in one.images.shapes)
        seen = round(side * own.mpp / data.mpp)
        if differs(own.mpp, data.mpp) and seen < min(side, crop):
            raise InputError(
                f"{data.name}: the images of {one.label}, {side} px at {own.mpp:g} µm/px, are {seen} px at the "
                f"{data.mpp:g} µm/px of the first set, less than recipe.crop={crop}; name the set of the finest "
                f"resolution first, or set recipe.crop={seen}."
            )


def of_sets(subset) -> dict:
    """Data set -> its images, of a side of several; {"": the side} of one."""
    return {one.label: one for one in subset.sets} if isinstance(subset, JointSubset) else {"": subset}


def mean_of(scores: dict[str, float | None]) -> float | None:
    """The score by which epochs are compared: the mean over the data sets that have one; of one set, its own."""
    values = [score for score in scores.values() if score is not None]
    return values[0] if len(scores) == 1 and values else float(np.mean(values)) if values else None


def validate(
    method,
    subset,
    prediction: Prediction,
    world: World,
    data: Prepared,
    monitor: str,
    lasting: Lasting | None = None,
) -> float | None:
    """Mean image bPQ on the validation subset: in the `cellvit` protocol (images without nuclei left out), or "raw".

    None where no image has a value, since none holds nuclei. lasting: as for `test_set.evaluate`.
    """
    typed = method.has_types and bool(data.classes)
    shares = world.gather_first(test_set.evaluate(method, subset, prediction, world, typed, lasting=lasting))
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
