"""Cells whose weights come from a file: what they take over from the run that made it."""

from dataclasses import replace

import pytest

from benchmark.data.overlap import Overlap
from benchmark.experiment.cell import Cell
from benchmark.experiment.setup import Setup
from benchmark.experiment.weights_source import FromFile
from benchmark.methods import registry
from benchmark.results.run_id import RunId
from benchmark.runtime.errors import InputError
from benchmark.weights.recognise import Facts
from tests.support.tiny_data import TINY


def cell_of(tmp_path, stored: dict, **overrides) -> Cell:
    setup = Setup(
        dataset=TINY,
        data_root=None,
        preset="debug",
        experiment="main",
        results=tmp_path,
        cache=tmp_path,
        overrides=tuple(overrides.items()),
    )
    facts = Facts(tmp_path / "weights.safetensors", "cellvta", "debug", 5, 6, "own", own=True, recipe=stored)
    return Cell(setup, registry.parse("cellvta@debug"), 1, 0, FromFile(facts))


def test_a_recipe_stored_under_other_keys_is_read_for_what_decides_the_prediction(tmp_path):
    stored = {"select": "best", "selection": "raw", "workers": 0, "precision": "bf16", "tiling": "conic40", "new": [1]}
    cell = cell_of(tmp_path, stored, eval_batch=3)
    assert (cell.recipe.precision, cell.recipe.tiling, cell.recipe.eval_batch) == ("bf16", "conic40", 3)
    assert cell_of(tmp_path, {}).recipe.precision == "fp32"
    assert cell_of(tmp_path, stored, precision="fp32").recipe.precision == "fp32", "the command line comes last"


def test_a_stored_value_that_no_recipe_has_is_one_sentence(tmp_path):
    with pytest.raises(InputError, match=r"recipe\.tiling is 'x80'; expected one of none, conic40"):
        _ = cell_of(tmp_path, {"tiling": "x80"}).recipe


def test_classes_that_are_predicted_as_they_are_leave_the_identity_alone(tmp_path):
    """Results that were stored before stay done; another order is an entry of its own."""
    names = ("Neoplastic", "Inflammatory", "Connective", "Dead", "Epithelial")  # as the synthetic data have them
    entries = []
    for own in (names, names[::-1]):
        cell = cell_of(tmp_path, {})
        facts = replace(cell.weights.facts, class_names=own)
        facts.path.write_bytes(b"weights")
        cell = replace(cell, weights=FromFile(facts))
        entries.append(cell.weights.identity(cell))
    assert set(entries[0]) == {"kind", "sha256", "any_fold", "recipe"}
    assert entries[1] == entries[0] | {"classes": list(names[::-1])}


def test_what_is_not_tested_has_a_folder_and_a_row_of_its_own(tmp_path):
    """`evaluate`, which knows no training images, and `transfer` moved each other's result aside, again and again."""
    cell = cell_of(tmp_path, {})
    facts = cell.weights.facts
    facts.path.write_bytes(b"weights")
    name = f"fold1-weights-{facts.sha256[:8]}"
    plain, none, some, others, untyped = (
        replace(cell, weights=FromFile(facts, **entries))
        for entries in (
            {},
            {"overlap": Overlap(9, unknown="why")},
            {"overlap": Overlap(9, (1, 2), 2)},
            {"overlap": Overlap(9, (1, 3), 2)},
            {"saw_types": False},
        )
    )
    assert plain.folder == none.folder and plain.folder.path.name == name, "as before"
    assert len({one.folder for one in (plain, some, others, untyped)}) == 4
    assert some.folder.path.name.startswith(f"{name},left_out=2-")
    assert RunId.of(some.folder.path) == some.run
    assert plain.encoder.label == none.encoder.label == f"{facts.name}, sha256 {facts.sha256[:8]}"
    assert some.encoder.label == others.encoder.label == f"{plain.encoder.label}, without images known to the training"
    assert untyped.encoder.label == f"{plain.encoder.label}, without types"
