"""Experiments: read a file under `experiments/`, apply overrides, refuse what nobody declared."""

import hashlib
import json
from pathlib import Path

from mmengine.config import Config

from benchmark import registry
from benchmark.errors import InputError, near_miss
from benchmark.paths import EXPERIMENTS

SCALES = ("debug", "small", "paper")
EXPERIMENT_KEYS = {"kind", "protocol", "recipes", "methods", "folds", "seeds"}


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
    config = Config.fromfile(str(path))
    for key in config:
        if key not in EXPERIMENT_KEYS:
            raise InputError(f"{path}: unknown key '{key}'.{near_miss(key, EXPERIMENT_KEYS)}")
    for scale, recipe in config.recipes.items():
        reference = set(config.recipes["paper"])
        for key in recipe:
            if key not in reference:
                raise InputError(f"{path}: recipe '{scale}' has the unknown key '{key}'.{near_miss(key, reference)}")
    return config


def recipe_for(config: Config, spec: registry.Spec, overrides: dict[str, object] | None = None) -> dict:
    """The recipe of one cell as a plain dict: the scale's matched recipe, or with the method's published values.

    Args:
        overrides: dotted keys below the recipe, such as {"optimiser.lr": 1e-3}.

    Raises:
        InputError: an override whose key does not exist, with a near-miss hint, or whose value has another type.
    """
    scale = spec.row if spec.row in SCALES else "paper"
    recipe = _plain(config.recipes[scale])
    if config.kind == "published":
        own = registry.method_class(spec.name).published
        merge(recipe, own.get(spec.row, own.get(scale, {})), f"published recipe of {spec}")
    for dotted, value in (overrides or {}).items():
        merge(recipe, _nest(dotted, value), "the command line")
    for key, choices in {"precision": ("auto", "fp32", "bf16", "fp16")}.items():
        if recipe[key] not in choices:
            raise InputError(f"recipe.{key} is '{recipe[key]}'; expected one of {', '.join(choices)}.")
    for key in ("epochs", "batch", "crop", "eval_every", "eval_batch"):
        if not isinstance(recipe[key], int) or recipe[key] < 1:
            raise InputError(f"recipe.{key} is {recipe[key]!r}; expected a whole number of at least 1.")
    return recipe


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


def parse_overrides(words: list[str]) -> dict[str, object]:
    """`["recipe.epochs=3"]` -> {"epochs": 3}. Raises InputError for words without `recipe.` or `=`."""
    out = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or not key.startswith("recipe."):
            raise InputError(f"'{word}' is not an override; expected recipe.<key>=<value>, such as recipe.epochs=3.")
        out[key.removeprefix("recipe.")] = registry.value_of(value)
    return out


def key(parts: dict) -> str:
    """16 hex digits over canonical JSON: the identity of a result."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=list).encode()).hexdigest()[:16]


def differing(old: dict, new: dict, path: str = "") -> list[str]:
    """Dotted names of the entries in which two nested dicts differ, with both values."""
    out = []
    for k in sorted(set(old) | set(new)):
        a, b = old.get(k), new.get(k)
        if isinstance(a, dict) and isinstance(b, dict):
            out += differing(a, b, f"{path}{k}.")
        elif json.dumps(a, default=list) != json.dumps(b, default=list):
            out.append(f"{path}{k}: {a} -> {b}")
    return out


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
