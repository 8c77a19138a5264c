"""Overrides with which weights from a file are evaluated: those that an evaluation reads, and tiles where they fit."""

from collections.abc import Iterable

from benchmark.evaluation import resampling
from benchmark.experiment.weights_source import PREDICTS
from benchmark.runtime.errors import InputError
from benchmark.weights.trained_at import MAGNIFIED

EVALUATES = (*PREDICTS, "eval_batch")  # recipe keys that an evaluation reads at all


def check_overrides(overrides: Iterable[str]) -> None:
    """Raise InputError for overridden keys below the recipe that an evaluation of a file does not read."""
    if unused := [f"recipe.{key}" for key in dict.fromkeys(overrides) if key not in EVALUATES]:
        read = ", ".join(f"recipe.{key}" for key in EVALUATES)
        raise InputError(
            f"{', '.join(unused)}: of no effect on weights from a file, which are evaluated and not trained; leave out "
            f"what is none of {read}."
        )


def check_tiling(cell) -> None:
    """Raise InputError where the user asks for x40 tiles of images that are not x20, or that are resampled already.

    Args:
        cell: of a `FromFile`. Weights that were trained in tiles may have any.
    """
    tiling, own, mpp = cell.recipe.tiling, cell.weights.untouched(cell).tiling, cell.setup.source.mpp
    if tiling == own or tiling == "none":
        return
    if (seen := cell.weights.prediction(cell).mpp) is not None:
        why = f"those of {cell.setup.label} are resampled to the {seen:g} µm/px of the training already"
    elif own == "none" and resampling.differs(mpp, MAGNIFIED[20]):
        why = f"those of {cell.setup.label} have {mpp:g} µm/px"
    else:
        return
    raise InputError(
        f"recipe.tiling={tiling} shows images of {MAGNIFIED[20]:g} µm/px (x20) as x40 tiles, {why}; leave it out."
    )
