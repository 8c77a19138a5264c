"""Experiments: reads a file under `experiments/` or the user's, checks it, and parses overrides.

Finding an experiment and parsing overrides import no torch: a slip on the command line is answered at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from benchmark.experiment import experiment_file
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.results.method_name import HASH
from benchmark.runtime import plugins
from benchmark.runtime.errors import InputError, near_miss, short
from benchmark.runtime.scales import SCALES as SCALE_NAMES
from benchmark.training.recipe import Check, Recipe, changed, nested, one_of

if TYPE_CHECKING:
    from mmengine.config import Config

KEYS = ("kind", "protocol", "dataset", "preset", "recipes", "recipes_on", "methods", "folds", "seeds", "postprocess")


def _list_of(kind: type, expected: str) -> Check:
    def fits(value) -> bool:
        if not isinstance(value, list | tuple) or not value:
            return False
        return all(isinstance(item, kind) and not isinstance(item, bool) for item in value)

    return Check(fits, expected)


def _of_scales(value) -> bool:
    """Whether a value is {scale: {key: value}}."""
    return isinstance(value, dict) and {*value} <= {*SCALE_NAMES} and all(isinstance(v, dict) for v in value.values())


CHANGES = f"a dict of changes to the recipe for some of {', '.join(SCALE_NAMES)}"

# keys that every experiment has
REQUIRED = {
    "kind": one_of("main", "published"),
    "protocol": one_of(*PROTOCOLS),
    "methods": _list_of(str, "a list of names of methods"),
    "folds": _list_of(int, "a list of whole numbers"),
    "seeds": _list_of(int, "a list of whole numbers"),
}
OPTIONAL = {
    "dataset": Check(lambda value: isinstance(value, str), "the data set that the experiment is about"),
    "preset": one_of(*SCALE_NAMES),
    "recipes": Check(_of_scales, CHANGES),
    "recipes_on": Check(
        lambda value: isinstance(value, dict) and all(map(_of_scales, value.values())),
        f"for some data sets, {CHANGES}",
    ),
}


def load(experiment: str) -> Config:
    """Load an experiment by name ("main") or from a file of the user's, see `find`.

    A Python file is executed, so are those that its `_base_` names: they are ours, or named by the user.

    Raises:
        InputError: it is not there, cannot be read, or has an unknown key or a value that its check refuses.
    """
    path = find(experiment)
    from benchmark.data.registry import dataset_names  # these import torch
    from benchmark.training.scales import SCALES

    config = experiment_file.read(path)
    for key in config:
        if key not in KEYS:
            raise InputError(f"{path}: unknown key '{key}'.{near_miss(key, KEYS)}")
    for key, check in (REQUIRED | OPTIONAL).items():
        if (key in config or key in REQUIRED) and not check.fits(config.get(key)):
            raise InputError(f"{path}: '{key}' is {short(repr(config.get(key)))}; expected {check.expected}.")
    for scale, recipe in SCALES.items():
        recipe = changed(recipe, config.get("recipes", {}).get(scale, {}), f"{path}: recipe '{scale}'")
        for dataset, changes in config.get("recipes_on", {}).items():
            if dataset not in dataset_names():
                hint = near_miss(dataset, dataset_names())
                raise InputError(f"{path}: 'recipes_on' names the unknown data set '{dataset}'.{hint}")
            changed(recipe, changes.get(scale, {}), f"{path}: recipe '{scale}' on '{dataset}'")
    return config


def find(experiment: str) -> Path:
    """The file of an experiment: one under `experiments/` by name, or a .py or .yaml file by path.

    Raises:
        InputError: it does not exist.
    """
    return experiment_file.find(experiment, Path.cwd())


def parse_overrides(words: list[str], where: str = "the command line") -> dict[str, object]:
    """`["recipe.epochs=3"]` -> {"epochs": 3}; a group as a dict counts as its keys.

    Args:
        where: who asks for them, in messages.

    Raises:
        InputError: words without `recipe.` or `=`, unknown keys, values that their check refuses, two values for a key.
    """
    out: dict[str, object] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key.startswith("recipe."):
            raise InputError(
                f"'{short(word)}' is not an override; expected recipe.<key>=<value>, such as recipe.epochs=3."
            )
        dotted, value = key.removeprefix("recipe."), plugins.value_of(text)
        changed(Recipe(), nested(dotted, value), where)
        for leaf, own in _leaves(dotted, value).items():
            if out.setdefault(leaf, own) != own:
                values = f"{short(str(out[leaf]))} and to {short(str(own))}"
                raise InputError(f"{where} sets recipe.{leaf} to {values}; leave one of them out.")
    return out


def parse_row(text: str, overrides: Iterable[tuple[str, object]] = ()) -> tuple[str, dict[str, object]]:
    """A method as an experiment or METHOD= names it -> (the method with its arguments, its own overrides).

    "cellvta@small,points=8,recipe.optimiser.lr=2e-3" -> ("cellvta@small,points=8", {"optimiser.lr": 0.002}).

    Args:
        overrides: the command line's.

    Raises:
        InputError: as `parse_overrides`; a word that can only be given otherwise: `weights=`, a hash; a key that the
            command line sets to another value.
    """
    name, _, rest = text.partition("@")
    words = plugins.words_of(rest)
    for word in words:
        key, equals, value = word.partition("=")
        if key == "weights":
            raise InputError(
                f"'{text}': the weights of an encoder are no part of METHOD; give them as BACKBONE=, such as "
                "BACKBONE=random or BACKBONE=uni.bin."
            )
        if HASH.fullmatch(value if equals else word):
            raise InputError(
                f"'{text}': {word} stands for a value that a folder's name cannot hold; write it out as the run's "
                "config.json has it, under 'settings' or 'arguments'."
            )
    own = [word for word in words if word.startswith("recipe.")]
    if not own:
        return text, {}
    rest = ",".join(word for word in words if word not in own)
    values = parse_overrides(own, f"'{short(text)}'")
    for leaf, other in overrides:
        if values.get(leaf, other) != other:
            raise InputError(
                f"'{short(text)}' sets recipe.{leaf} to {short(str(values[leaf]))}, the command line to "
                f"{short(str(other))}; leave one of them out."
            )
    return f"{name}@{rest}" if rest else name, values


def check_numbers(splits: Iterable[int], seeds: Iterable[int]) -> None:
    """Raises InputError for what is a split of no data set, or no seed."""
    for split in splits:
        if split < 1:
            raise InputError(f"FOLD={split}: published splits are counted from 1; choose one that the data set has.")
    for seed in seeds:
        if not 0 <= seed < 2**63:
            raise InputError(f"SEED={seed}: expected a whole number of at least 0 (and below 2^63).")


def _leaves(dotted: str, value) -> dict[str, object]:
    """("optimiser", {"lr": 1e-3}) -> {"optimiser.lr": 1e-3}: a group's values by dotted keys."""
    if not isinstance(value, dict):
        return {dotted: value}
    return {leaf: own for key, inner in value.items() for leaf, own in _leaves(f"{dotted}.{key}", inner).items()}
