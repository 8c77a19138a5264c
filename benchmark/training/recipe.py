"""Recipes: the values that a cell is trained with, checked, and what replaces them."""

from mmengine.config import Config

from benchmark.evaluation.prediction import Prediction
from benchmark.methods import registry
from benchmark.runtime.errors import InputError, near_miss

SCALES = ("debug", "small", "paper")


def _whole(least: int, none: bool = False):
    return lambda v: (none and v is None) or (isinstance(v, int) and not isinstance(v, bool) and v >= least)


def _number(low: float, high: float, open_low: bool = False):
    return lambda v: (
        isinstance(v, int | float) and not isinstance(v, bool) and low <= v <= high and not (open_low and v == low)
    )


def _one_of(*choices: str):
    return lambda v: v in choices, f"one of {', '.join(choices)}"


def _steps(value) -> bool:
    return value in ("matched", "cellvta", "cellvit", "hovernet") or (
        isinstance(value, list | tuple) and all(isinstance(step, dict) and "name" in step for step in value)
    )


# recipe key -> (test, what is expected)
VALID = {
    **{key: (_whole(1), "a whole number of at least 1") for key in ("epochs", "batch", "eval_every", "eval_batch")},
    "crop": (_whole(16), "a whole number of pixels, at least 16"),
    "crop_at": _one_of("random", "centre"),
    "tiling": _one_of("none", "conic40", "conic40_corrected"),
    "validation": _one_of("split", "random_tiles"),
    "select": _one_of("best", "last"),
    "selection": _one_of("protocol", "raw"),
    "samples": (_whole(1, none=True), "a whole number of at least 1, or none for as many as there are images"),
    "patience": (_whole(0), "a whole number of validations without improvement, 0 for no early stopping"),
    "workers": (_whole(0, none=True), "a whole number of processes, or none for a choice by device"),
    "pretrain": (_whole(0, none=True), "a whole number of updates, 0 for random weights, or none for the default"),
    "optimiser.name": _one_of("adamw", "adam", "sgd"),
    "optimiser.lr": (_number(0, 10, open_low=True), "a number above 0"),
    "optimiser.weight_decay": (_number(0, 10), "a number of at least 0"),
    "optimiser.betas": (
        lambda v: isinstance(v, list | tuple) and len(v) == 2 and all(_number(0, 0.999999)(b) for b in v),
        "two numbers in [0, 1), such as (0.9,0.95)",
    ),
    "schedule.name": _one_of("cosine", "exponential", "step", "constant"),
    "schedule.warmup": (_number(0, 0.99), "a share of all updates in [0, 1)"),
    "schedule.gamma": (_number(0, 1, open_low=True), "a number in (0, 1]"),
    "schedule.final": (_number(0, 1), "a number in [0, 1]"),
    "precision": _one_of("auto", "fp32", "bf16", "fp16"),
    "ema": (_number(0, 0.999999), "a decay in [0, 1), 0 for none"),
    "clip": (_number(0, 1e9), "a norm, 0 for no clipping"),
    "augment": (_steps, "matched, cellvta, cellvit, hovernet, or a list of steps with a name each"),
    "sampling.strategy": _one_of("random", "cell", "tissue", "cell+tissue"),
    "sampling.gamma": (_number(0, 1), "a number in [0, 1]"),
    "sampling.factors": _one_of("counted", "pannuke"),
}


def recipe_for(
    config: Config, spec: registry.Spec, overrides: dict[str, object] | None = None, dataset: str = ""
) -> dict:
    """The recipe of one cell as a plain dict: the scale's matched recipe, or with the method's published values.

    Args:
        overrides: dotted keys below the recipe, such as {"optimiser.lr": 1e-3}.
        dataset: registered name; some recipes differ between datasets (`recipes_on` of the experiment,
            `published_on` of the method).

    Raises:
        InputError: an override whose key does not exist, with a near-miss hint, or whose value has another type.
    """
    scale = spec.row if spec.row in SCALES else "paper"
    recipe = _plain(config.recipes[scale])
    if config.kind == "main":
        merge(recipe, _plain(config.get("recipes_on", {})).get(dataset, {}).get(scale, {}), f"recipe on '{dataset}'")
    if config.kind == "published":
        cls = registry.method_class(spec.name)
        own = cls.published
        if spec.row not in own:
            rows = ", ".join(own) or "none"
            raise InputError(
                f"{spec} has no published recipe (rows of '{spec.name}' that have one: {rows}); choose such a row, "
                "PRESET=paper, or EXPERIMENT=main."
            )
        merge(recipe, own[spec.row], f"published recipe of {spec}")
        merge(recipe, cls.published_on.get(dataset, {}).get(spec.row, {}), f"published recipe of {spec} on '{dataset}'")
    for dotted, value in (overrides or {}).items():
        merge(recipe, _nest(dotted, value), "the command line")
    for dotted, (fits, expected) in VALID.items():
        value = recipe
        for part in dotted.split("."):
            value = value[part]
        if not fits(value):
            raise InputError(f"recipe.{dotted} is {value!r}; expected {expected}.")
    if recipe["validation"] == "random_tiles" and recipe["tiling"] == "none":
        raise InputError(
            "recipe.validation=random_tiles draws tiles; set recipe.tiling=conic40 too, or validation=split."
        )
    return recipe


def prediction_of(recipe: dict) -> Prediction:
    """How the method is evaluated under a recipe."""
    return Prediction(recipe["precision"], recipe["tiling"], recipe["eval_batch"])


def merge(into: dict, new: dict, where: str, path: str = "recipe") -> None:
    """Merge nested `new` into `into` in place; unknown keys and changed kinds of value are refused."""
    for key, value in new.items():
        name = f"{path}.{key}"
        if key not in into:
            raise InputError(f"{where}: unknown key '{name}'.{near_miss(key, into)}")
        old = into[key]
        if isinstance(old, dict):
            if not isinstance(value, dict):
                raise InputError(f"{where}: '{name}' is a group of settings ({', '.join(old)}); set one of these.")
            merge(old, value, where, name)
            continue
        numbers = isinstance(old, int | float) and isinstance(value, int | float)
        if old is not None and value is not None and not numbers and not isinstance(value, type(old)):
            if not {type(old), type(value)} <= {tuple, list}:
                raise InputError(f"{where}: '{name}' is {value!r}; expected a value like {old!r}.")
        into[key] = value


def _nest(dotted: str, value) -> dict:
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return value


def _plain(value):
    if hasattr(value, "to_dict"):
        value = value.to_dict()
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value
