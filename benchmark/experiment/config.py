"""Experiments: reads a file under `experiments/`, checks it, and parses overrides."""

from pathlib import Path

from mmengine.config import Config

from benchmark.data.registry import dataset_names
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.runtime import plugins
from benchmark.runtime.errors import InputError, near_miss
from benchmark.runtime.paths import EXPERIMENTS
from benchmark.training.recipe import Check, changed, one_of
from benchmark.training.scales import SCALES

EXPERIMENT_KEYS = {"kind", "protocol", "recipes", "recipes_on", "methods", "folds", "seeds", "postprocess"}


def _list_of(kind: type, expected: str) -> Check:
    def fits(value) -> bool:
        if not isinstance(value, list | tuple) or not value:
            return False
        return all(isinstance(item, kind) and not isinstance(item, bool) for item in value)

    return Check(fits, expected)


def _of_scales(value) -> bool:
    """Whether a value is {scale: {key: value}}."""
    return isinstance(value, dict) and {*value} <= {*SCALES} and all(isinstance(v, dict) for v in value.values())


CHANGES = f"a dict of changes to the recipe for some of {', '.join(SCALES)}"

# keys that every experiment has
REQUIRED = {
    "kind": one_of("main", "published"),
    "protocol": one_of(*PROTOCOLS),
    "methods": _list_of(str, "a list of names of methods"),
    "folds": _list_of(int, "a list of whole numbers"),
    "seeds": _list_of(int, "a list of whole numbers"),
}
OPTIONAL = {
    "recipes": Check(_of_scales, CHANGES),
    "recipes_on": Check(
        lambda value: isinstance(value, dict) and all(map(_of_scales, value.values())),
        f"for some data sets, {CHANGES}",
    ),
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
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is no experiment that can be read ({type(error).__name__}: {reason}).") from error
    for key in config:
        if key not in EXPERIMENT_KEYS:
            raise InputError(f"{path}: unknown key '{key}'.{near_miss(key, EXPERIMENT_KEYS)}")
    for key, check in (REQUIRED | OPTIONAL).items():
        if (key in config or key in REQUIRED) and not check.fits(config.get(key)):
            raise InputError(f"{path}: '{key}' is {config.get(key)!r}; expected {check.expected}.")
    for scale, recipe in SCALES.items():
        recipe = changed(recipe, config.get("recipes", {}).get(scale, {}), f"{path}: recipe '{scale}'")
        for dataset, changes in config.get("recipes_on", {}).items():
            if dataset not in dataset_names():
                hint = near_miss(dataset, dataset_names())
                raise InputError(f"{path}: 'recipes_on' names the unknown data set '{dataset}'.{hint}")
            changed(recipe, changes.get(scale, {}), f"{path}: recipe '{scale}' on '{dataset}'")
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
