"""Experiments: read a file under `experiments/`, apply overrides, refuse what nobody declared."""

from pathlib import Path

from mmengine.config import Config

from benchmark.metrics.protocols import PROTOCOLS
from benchmark.runtime import plugins
from benchmark.runtime.errors import InputError, near_miss
from benchmark.runtime.paths import EXPERIMENTS
from benchmark.training.recipe import SCALES, _one_of

EXPERIMENT_KEYS = {"kind", "protocol", "recipes", "recipes_on", "methods", "folds", "seeds", "postprocess"}


def _list_of(kind: type):
    return lambda v: (
        isinstance(v, list | tuple) and v and all(isinstance(x, kind) and not isinstance(x, bool) for x in v)
    )


# key of an experiment -> (test, what is expected)
REQUIRED = {
    "kind": _one_of("main", "published"),
    "protocol": _one_of(*PROTOCOLS),
    "recipes": (lambda v: isinstance(v, dict) and {*SCALES} == {*v}, f"a recipe for each of {', '.join(SCALES)}"),
    "methods": (_list_of(str), "a list of names of methods"),
    "folds": (_list_of(int), "a list of whole numbers"),
    "seeds": (_list_of(int), "a list of whole numbers"),
}


def load(experiment: str) -> Config:
    """Load an experiment by name ("main") or by path ("my/grid.py"). Raises InputError when it is not there.

    The file is executed: it must be one of ours or one that the user names.
    """
    path = Path(experiment) if experiment.endswith(".py") else EXPERIMENTS / f"{experiment}.py"
    if not path.is_file():
        known = sorted(p.stem for p in EXPERIMENTS.glob("*.py"))
        raise InputError(
            f"No experiment '{experiment}': {path} does not exist; known are {', '.join(known)}."
            f"{near_miss(experiment, known)}"
        )
    try:
        config = Config.fromfile(str(path))
    except Exception as error:  # the file is Python: it can raise anything
        told = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is no experiment that can be read ({type(error).__name__}: {told}).") from error
    for key in config:
        if key not in EXPERIMENT_KEYS:
            raise InputError(f"{path}: unknown key '{key}'.{near_miss(key, EXPERIMENT_KEYS)}")
    for key, (fits, expected) in REQUIRED.items():
        if not fits(config.get(key)):
            raise InputError(f"{path}: '{key}' is {config.get(key)!r}; expected {expected}.")
    for scale, recipe in config.recipes.items():
        reference = set(config.recipes["paper"])
        for key in recipe:
            if key not in reference:
                raise InputError(f"{path}: recipe '{scale}' has the unknown key '{key}'.{near_miss(key, reference)}")
    return config


def parse_overrides(words: list[str]) -> dict[str, object]:
    """`["recipe.epochs=3"]` -> {"epochs": 3}. Raises InputError for words without `recipe.` or `=`."""
    out = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.startswith("recipe."):
            raise InputError(f"'{word}' is not an override; expected recipe.<key>=<value>, such as recipe.epochs=3.")
        out[key.removeprefix("recipe.")] = plugins.value_of(value)
    return out
