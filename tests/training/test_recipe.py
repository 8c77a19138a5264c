"""The recipe's fields: their checks, what identifies a result, the help and the page that follow from them."""

import argparse
import json
import math
import re
from dataclasses import dataclass, fields, replace

import pytest

from benchmark.commands import _options
from benchmark.experiment import config
from benchmark.methods import registry
from benchmark.results import identity
from benchmark.results.run import scale_of
from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import ROOT
from benchmark.training.recipe import (
    COUNT,
    Group,
    Recipe,
    Sampling,
    changed,
    execution_field,
    help_text,
    identity_field,
    leaves,
    nested,
    one_of,
)
from benchmark.training.scales import BASE, SCALES, recipe_for, table

BAD = {
    "epochs": [0, -1, 1.5, True, None, "3"],
    "samples": [0, 2.5, False, "many"],
    "crop": [15, 64.0],
    "crop_at": ["left", None, 3],
    "patience": [-1, None],
    "pretrain": [-1, 0.5],
    "workers": [-1, True],
    "deterministic": [1, "yes", None],
    "compile": [0, "no", None],
    "graph": [1, "yes", None],
    "accumulate": [0, 1.5, True, None],
    "recompute": [1, "yes", None],
    "ema": [-0.1, 1, "0.9", None],
    "clip": [-1, float("nan")],
    "keep": ["first"],
    "monitor": ["bPQ"],
    "shares": ["all", None],
    "augment": ["none", 3, [{"p": 0.5}], ["rot90"]],
    "optimiser.lr": [0, 11, "1e-3", None],
    "optimiser.betas": [(0.9,), 0.9, (0.9, 1.0), (True, 0.9), "(0.9,0.95)"],
    "schedule.gamma": [0, 1.1],
    "schedule.warmup": [1],
    "sampling.strategy": ["nuclei", ["cell"]],
}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in BAD.items() for value in values])
def test_values_that_are_refused(key, value):
    group, _, name = key.rpartition(".")
    changes = {group: {name: value}} if group else {name: value}
    with pytest.raises(InputError) as caught:
        changed(BASE, changes, "here")
    (expected,) = [one.metadata["check"].expected for path, one, _ in leaves(BASE) if path == f"recipe.{key}"]
    assert str(caught.value) == f"here: recipe.{key} is {value!r}; expected {expected}."


def test_what_is_expected_of_a_number_names_both_true_bounds():
    """lr 1e6 was answered by "expected a number above 0"."""
    with pytest.raises(
        InputError, match=r"recipe\.optimiser\.lr is 1000000\.0; expected a number above 0 and at most 10\.$"
    ):
        changed(BASE, {"optimiser": {"lr": 1e6}}, "here")
    bounded = 0
    for name, one, value in leaves(BASE):
        check = one.metadata["check"]
        if not isinstance(value, float):
            continue
        bounded += 1
        left, low, high = re.search(r"(above |in \[)(\S+?)(?: and at most |, )([\d.e+]+)", check.expected).groups()
        low, high = float(low), float(high)
        assert check.fits(high) and not check.fits(math.nextafter(high, math.inf)), name
        assert check.fits(low) == (left == "in [") and not check.fits(math.nextafter(low, -math.inf)), name
        assert check.fits(math.nextafter(low, math.inf)), name
    assert bounded >= 8


def test_every_field_is_checked_documented_and_of_one_role():
    named = list(leaves(BASE))
    assert len(named) == len({name for name, _, _ in named}) > 25
    for name, one, value in named:
        assert one.metadata["doc"] and "\n" not in one.metadata["doc"], name
        assert one.metadata["check"].fits(value) and one.metadata["check"].expected, name
    assert {name for name, one, _ in named if one.metadata["execution"]} == {
        "recipe.recompute", "recipe.workers", "recipe.eval_batch"
    }  # fmt: skip


def test_a_recipe_cannot_be_made_or_changed_into_a_wrong_one():
    with pytest.raises(InputError, match=r"recipe\.epochs is 0"):
        Recipe(epochs=0)
    with pytest.raises(InputError, match=r"recipe\.sampling\.gamma is 2"):
        replace(BASE.sampling, gamma=2)
    with pytest.raises(AttributeError):
        BASE.epochs = 3
    with pytest.raises(InputError, match=r"'recipe.optimiser' is a group of settings \(name, lr, betas, "):
        changed(BASE, {"optimiser": "sgd"}, "here")


def test_values_are_kept_in_one_form():
    """`1` and `1.0`, a list and a tuple are one recipe and one identity."""
    one, other = Recipe(clip=1, augment=[{"name": "rot90"}]), Recipe(clip=1.0, augment=({"name": "rot90"},))
    assert one == other and json.dumps(one.identity()) == json.dumps(other.identity())
    assert changed(BASE, {"optimiser": {"betas": [0, 0.5]}}, "here").optimiser.betas == (0.0, 0.5)


def test_identity_and_execution_share_all_values_between_them():
    recipe = replace(BASE, recompute=True, workers=3, eval_batch=5)
    assert recipe.execution() == {"recompute": True, "workers": 3, "eval_batch": 5}
    assert recipe.identity() == BASE.identity()
    neutral = {
        "accumulate": 1,
        "deterministic": True,
        "compile": False,
        "graph": False,
        "shares": "images",
    }  # fields that came later, with the values of before
    assert (
        recipe.identity() | recipe.execution() | neutral == recipe.as_dict()
        and not neutral.keys() & recipe.identity().keys()
    )
    other = replace(BASE, accumulate=4, deterministic=False, compile=True, graph=True)
    changes = {"accumulate": 4, "deterministic": False, "compile": True, "graph": True}
    assert other.identity() == BASE.identity() | changes
    assert json.loads(json.dumps(recipe.identity()))["optimiser"]["betas"] == [0.9, 0.95]
    for name, one, _ in leaves(BASE):
        assert "neutral" in one.metadata, name


@dataclass(frozen=True)
class Distillation(Group):
    """A group that a later version might add."""

    PATH = "recipe.distillation"

    teacher: str = identity_field("none", "whose maps are learnt", one_of("none", "uni"), neutral="none")


@dataclass(frozen=True)
class LaterSampling(Sampling):
    """A group of today with one field more."""

    at_most: int = identity_field(4, "draws of an image per epoch", COUNT, neutral=1)


@dataclass(frozen=True)
class Later(Recipe):
    """A recipe with fields that a later version might add; the default of one is not the behaviour before it."""

    restarts: int = identity_field(1, "rounds of the schedule", COUNT, neutral=1)
    kernels: str = execution_field("plain", "kernels", one_of("plain", "fused"))
    distillation: Distillation = Distillation()
    sampling: LaterSampling = LaterSampling(at_most=1)


@pytest.mark.parametrize("scale", SCALES)
def test_an_identity_survives_new_fields(scale):
    before = SCALES[scale]
    values = {one.name: getattr(before, one.name) for one in fields(before) if one.name != "sampling"}
    after = Later(**values, sampling=LaterSampling(**before.as_dict()["sampling"], at_most=1))
    assert after.identity() == before.identity() and identity.key(after.identity()) == identity.key(before.identity())
    assert after.as_dict() != before.as_dict() and after.as_dict()["distillation"] == {"teacher": "none"}
    assert replace(after, kernels="fused").identity() == before.identity()
    assert replace(after, kernels="fused").execution()["kernels"] == "fused"
    for change in ({"restarts": 2}, {"distillation": {"teacher": "uni"}}, {"sampling": {"at_most": 4}}):
        new = changed(after, change, "here").identity()
        assert new != before.identity() and identity.differing(before.identity(), new)


def recipe_of(run: dict) -> Recipe:
    """Today's recipe of a stored run, by its config.json: of its scale, with its settings."""
    recipe = SCALES[scale_of(run["method"])]
    for key, value in (run.get("settings") or {}).items():
        recipe = changed(recipe, nested(key.removeprefix("recipe."), value), "a stored run")
    return recipe


def stored_runs() -> list[tuple[dict, dict]]:
    """(metrics, config) of every trained run under docs/reference."""
    paths = sorted((ROOT / "docs" / "reference").rglob("metrics.json"))
    read = [
        tuple(json.loads(path.with_name(name).read_text()) for name in ("metrics.json", "config.json"))
        for path in paths
    ]
    return [(metrics, config) for metrics, config in read if config["recipe"]]


def test_new_fields_leave_the_keys_of_the_stored_runs_unchanged():
    """Every run under docs/reference: trained under today's recipe, and done still once the recipe has grown."""
    stored = stored_runs()
    assert len(stored) >= 5
    for metrics, run in stored:
        recipe, parts = recipe_of(run), metrics["identity"]
        values = {one.name: getattr(recipe, one.name) for one in fields(recipe) if one.name != "sampling"}
        grown = Later(**values, sampling=LaterSampling(**recipe.as_dict()["sampling"], at_most=1))
        assert identity.key(parts) == metrics["key"]
        assert identity.differing(parts["recipe"], json.loads(json.dumps(recipe.identity()))) == []
        assert identity.key(parts | {"recipe": grown.identity()}) == metrics["key"]


def test_scales_are_what_they_were():
    """The values that results under docs/reference were made with, and their neighbours at the other scales."""
    debug, small, paper = (SCALES[scale].as_dict() for scale in ("debug", "small", "paper"))
    shared = {
        "crop_at": "random", "tiling": "none", "patience": 0, "validation": "split", "keep": "best",
        "monitor": "protocol", "ema": 0.0, "deterministic": True, "compile": False, "graph": False, "accumulate": 1,
        "recompute": False,
        "shares": "images",
        "sampling": {"strategy": "cell+tissue", "gamma": 0.85, "factors": "counted"},
    }  # fmt: skip
    laptop = {"precision": "fp32", "clip": 1.0, "augment": "matched", "workers": 0}
    adamw = {"name": "adamw", "betas": (0.9, 0.95), "weight_decay": 1e-4}
    cosine = {"name": "cosine", "gamma": 0.95, "final": 0.01}
    assert debug == shared | laptop | {
        "epochs": 2, "samples": 8, "batch": 4, "crop": 64, "eval_every": 1, "pretrain": 2, "eval_batch": 4,
        "optimiser": adamw | {"lr": 1e-3}, "schedule": cosine | {"warmup": 0.1},
    }  # fmt: skip
    assert small == shared | laptop | {
        "epochs": 20, "samples": 96, "batch": 8, "crop": 128, "eval_every": 5, "pretrain": None, "eval_batch": 8,
        "optimiser": adamw | {"lr": 3e-3}, "schedule": cosine | {"warmup": 0.05},
    }  # fmt: skip
    assert paper == shared | {
        "epochs": 100, "samples": None, "batch": 8, "crop": 256, "eval_every": 1, "pretrain": None, "eval_batch": 16,
        "optimiser": adamw | {"lr": 3e-4, "betas": (0.85, 0.95)},
        "schedule": {"name": "exponential", "warmup": 0.0, "gamma": 0.95, "final": 0.0},
        "precision": "auto", "clip": 0.0, "augment": "cellvta", "workers": None,
    }  # fmt: skip


def test_stored_recipes_have_today_s_values():
    """The runs under docs/reference were trained under today's scales, whatever keys had other names then."""
    former = {one.metadata["formerly"]: name.removeprefix("recipe.") for name, one, _ in leaves(BASE)}
    stored = stored_runs()
    assert len(stored) >= 5
    for _, run in stored:
        recipe = {former.get(key, key): value for key, value in run["recipe"].items()}
        assert recipe.items() <= json.loads(json.dumps(recipe_of(run).as_dict())).items()
        assert recipe_of(run).identity().keys() <= recipe.keys()


def test_the_page_has_the_table_of_the_fields():
    page = (ROOT / "docs" / "recipe.md").read_text(encoding="utf-8")
    written = page.partition("<!-- table -->\n")[2].partition("\n<!-- /table -->")[0]
    assert written == table(), "put what benchmark.training.scales.table() returns there"


def test_the_help_names_every_key_with_what_is_expected():
    text = " ".join(help_text().split())
    for name, one, _ in leaves(BASE):
        assert f"{name} {one.metadata['doc']}: {one.metadata['check'].expected}" in text
    parser = argparse.ArgumentParser(epilog="example: x", formatter_class=argparse.RawDescriptionHelpFormatter)
    _options.grid(parser)
    assert help_text() in parser.format_help() and parser.format_help().rstrip().endswith("example: x")


def test_a_published_recipe_that_has_no_such_key_is_refused(monkeypatch):
    cls = registry.method_class("cellvta")
    monkeypatch.setattr(cls, "published", {"paper": {"select": "last"}})
    with pytest.raises(InputError, match=r"recipe of cellvta@paper: unknown key 'recipe\.select'.*recipe\.keep"):
        recipe_for(config.load("published"), registry.parse("cellvta@paper"))
