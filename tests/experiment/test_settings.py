"""What the user chooses and what decides a result stands in its name and folder: no setting replaces a result."""

import json
import shutil
from dataclasses import replace

import pytest

from benchmark.cli import main
from benchmark.experiment.cell import Cell
from benchmark.experiment.config import parse_overrides, parse_row
from benchmark.experiment.grid import cells
from benchmark.experiment.launch import status
from benchmark.experiment.request import Request
from benchmark.experiment.state import state_of
from benchmark.methods import registry
from benchmark.methods.registry import method_class
from benchmark.results import aside, collect
from benchmark.results.identity import key
from benchmark.results.method_name import parts
from benchmark.runtime.errors import InputError
from tests.support.grids import setup
from tests.support.tiny_data import TINY, file_bytes


def names(*methods, overrides=(), **changes):
    return [cell.name for cell in cells(setup("results", "cache", overrides=overrides, **changes), list(methods))]


def own(tmp_path, text):
    """An experiment of the user's that builds on `main`."""
    path = tmp_path / "mine.py"
    path.write_text(f'_base_ = ["main.py"]\n{text}\n')
    return str(path)


def test_settings_are_sorted_and_those_of_the_matched_recipe_left_out():
    overrides = (("optimiser.lr", 5e-4), ("clip", 2), ("epochs", 2), ("workers", 3), ("eval_batch", 7))
    assert names("cellvta@debug,points=8", "cellvta@debug,points=2", overrides=overrides) == [
        "cellvta@debug,points=8,recipe.clip=2.0,recipe.optimiser.lr=0.0005",
        "cellvta@debug,recipe.clip=2.0,recipe.optimiser.lr=0.0005",
    ]
    assert names("classical", overrides=overrides) == ["classical@debug"], "it is not trained"
    assert names("cellvta", overrides=(("optimiser.lr", 1e-3),)) == names("cellvta") == ["cellvta@debug"]
    assert names("cellvta", overrides=(("clip", 2),)) == names("cellvta", overrides=(("clip", 2.0),))


def test_what_all_cells_of_a_kind_share_is_no_setting():
    full = {"dataset": "conic", "preset": "paper"}
    made = setup("results", "cache", overrides=(), **full)
    made.__dict__["source"] = type("Source", (), {"splits": lambda self: [1]})()
    (cell,) = cells(made, ["cellvta"])
    assert cell.recipe.tiling == "conic40_corrected" and cell.name == "cellvta@matched"
    published = Cell(replace(made, experiment="published"), registry.parse("hovernet@paper"), 1, 0)
    assert published.name == "hovernet@paper" and published.recipe.schedule.name == "step"
    other = replace(made, experiment="published", overrides=(("schedule.name", "constant"),))
    assert Cell(other, registry.parse("hovernet@paper"), 1, 0).name == "hovernet@paper,recipe.schedule.name=constant"


def test_results_of_another_stitching_are_stale():
    for tiling, version in (("none", None), ("conic40", None), ("conic40_corrected", 2)):
        (cell,) = cells(setup("results", "cache", overrides=(("tiling", tiling),)), ["hovernet"])
        assert cell.recipe.tiling == tiling and cell.identity.get("stitching") == version


def test_an_experiment_s_recipe_counts_as_settings(tmp_path):
    experiment = own(tmp_path, "recipes = dict(debug=dict(epochs=3, workers=1, clip=1.0))")
    assert names("hovernet", experiment=experiment) == ["hovernet@debug,recipe.epochs=3"]
    on = own(tmp_path, "recipes_on = dict(synthetic=dict(debug=dict(clip=2)), conic=dict(debug=dict(ema=0.5)))")
    assert names("hovernet", experiment=on) == ["hovernet@debug,recipe.clip=2.0"]
    assert names("hovernet", experiment=on, overrides=(("clip", 1.0),)) == ["hovernet@debug"]


def test_weights_stand_in_the_name(tmp_path):
    file, other = tmp_path / "vit.bin", tmp_path / "my weights.bin"
    for path in (file, other):
        path.write_bytes(b"weights")
    assert names("cellvta", backbone="random") == ["cellvta@debug,weights=random"]
    assert names("cellvta", backbone="random", overrides=(("pretrain", 0),)) == ["cellvta@debug,recipe.pretrain=0"]
    assert names("cellvta@paper", backbone="hub") == ["cellvta@paper,weights=hub"]
    (cell,) = cells(setup("results", "cache", overrides=(), backbone=str(file)), ["cellvta"])
    assert cell.name == f"cellvta@debug,weights=vit.bin-{cell.encoder.mark.rpartition(':')[2][:8]}"
    assert cell.settings == {"weights": cell.encoder.label}
    assert "weights=~" in names("cellvta", backbone=str(other))[0], "a space is not for names"
    assert names("classical", backbone="random") == ["classical@debug"]


@pytest.mark.parametrize(
    "text",
    [
        "cellvta@debug,recipe.optimiser.lr=2e-3",
        "cellvta@recipe.optimiser.lr=2e-3,points=8",
        "cellvta@debug,recipe.optimiser.betas=(0.8,0.9),recipe.clip=3",
        "decoder_only@debug,recipe.augment=hovernet",
    ],
)
def test_a_name_given_back_is_the_same_cell(text):
    base = setup("results", "cache", overrides=())
    (cell,) = cells(base, [text])
    (again,) = cells(base, [cell.name])
    assert (again.name, again.identity) == (cell.name, cell.identity)
    sent = Request.from_text(Request.of(cell, keep_maps=True).to_text())
    assert (sent.cell().name, sent.cell().key, sent.keep_maps) == (cell.name, cell.key, True)
    assert cell.overrides and parts(cell.name)[1]


def test_a_row_s_own_override_is_of_that_row_alone(tmp_path):
    grid = 'methods = ["hovernet", "hovernet@debug,recipe.epochs=5", "hovernet@recipe.epochs=2", "classical"]'
    experiment = own(tmp_path, grid)
    made = cells(setup("results", "cache", overrides=(("clip", 2),), experiment=experiment))
    assert [(cell.name, cell.recipe.epochs, cell.recipe.clip) for cell in made] == [
        ("hovernet@debug,recipe.clip=2.0", 2, 2.0),
        ("hovernet@debug,recipe.clip=2.0,recipe.epochs=5", 5, 2.0),
        ("classical@debug", 2, 2.0),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("cellvta@debug,recipe.lr=1", "'cellvta@debug,recipe.lr=1': unknown key 'recipe.lr'. Did you mean"),
        ("cellvta@debug,recipe.epochs=0", "recipe.epochs is 0; expected a whole number"),
        ("cellvta@debug,recipe.epochs", "is not an override"),
        ("cellvta@debug,weights=random", "give them as BACKBONE="),
        ("cellvta@debug,recipe.augment=~1a2b3c4d", "write it out as the run's config.json has it"),
        ("cellvta@debug,points=~1a2b3c4d", "write it out"),
        ("cellvta@debug,~1a2b3c4d", "write it out"),
        ("cellvta@debug,recipe.epochs=2,recipe.epochs=3", "sets recipe.epochs to 2 and to 3; leave one of them out"),
        ("cellvta,recipe.epochs=2", "is not a method name; expected method@row,key=value"),
    ],
)
def test_rows_that_are_refused(text, says):
    with pytest.raises(InputError) as caught:
        cells(setup("results", "cache"), [text])
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_row_and_command_line_must_agree():
    with pytest.raises(InputError, match=r"sets recipe\.epochs to 3, the command line to 1; leave one of them out"):
        cells(setup("results", "cache"), ["cellvta@debug,recipe.epochs=3"])
    assert names("cellvta@debug,recipe.clip=2", overrides=(("clip", 2.0),)) == ["cellvta@debug,recipe.clip=2.0"]


def test_overrides_of_a_group_are_those_of_its_keys():
    assert parse_overrides(["recipe.optimiser={'lr':1,'betas':(0.5,0.5)}"]) == {
        "optimiser.lr": 1,
        "optimiser.betas": (0.5, 0.5),
    }
    with pytest.raises(InputError, match=r"sets recipe\.optimiser\.lr to 1 and to 2"):
        parse_overrides(["recipe.optimiser={'lr':1}", "recipe.optimiser.lr=2"])
    assert parse_row("cellvta@small,points=8") == ("cellvta@small,points=8", {})


def test_a_long_or_unfit_value_is_spelt_out_elsewhere(tmp_path, cache):
    steps = [{"name": "flip"}, {"name": "blur", "p": 0.25}]
    (cell,) = cells(setup(tmp_path, cache, overrides=(("augment", steps),)), ["decoder_only"])
    assert cell.name.startswith("decoder_only@debug,recipe.augment=~") and len(cell.name) < 60
    assert cell.hidden == cell.settings == {"recipe.augment": tuple(steps)}
    assert "(recipe.augment=({'name':'flip'},{'name':'blur','p':0.25}))" in status([cell])
    (plain,) = cells(setup(tmp_path, cache), ["decoder_only"])
    assert "(recipe" not in status([plain])


def test_settings_change_no_identity(tmp_path):
    """The key of a stored result is what it was before settings had a name; fixed here by value."""
    (cell,) = cells(setup("results", tmp_path, overrides=(("optimiser.lr", 5e-4),)), ["decoder_only@debug"])
    assert "spec" not in cell.identity and cell.identity["method"] == "decoder_only@debug"
    assert set(cell.identity) == {
        *("method", "method_version", "arguments", "dataset", "data", "fold", "records"),
        *("kind", "recipe", "backbone", "seed"),
    }
    assert key(cell.identity | {"method_version": 1, "records": 2, "data": None, "backbone": "x"}) == "46e85c82d739eaa5"


@pytest.fixture
def run_here(command_here, tmp_path):
    """run_here(*words) -> stderr of a run on tiny data, which must succeed."""

    def call(*words):
        done = command_here("run", *words, "recipe.epochs=1", "recipe.samples=4", results=tmp_path)
        assert done.returncode == 0, done.stderr
        return done.stderr

    return call


def test_two_learning_rates_and_two_weights_keep_their_results(run_here, tmp_path):
    run_here("--method", "decoder_only", "recipe.optimiser.lr=1e-3")  # the matched one
    first = file_bytes(tmp_path)
    run_here("--method", "decoder_only@debug,recipe.optimiser.lr=5e-4")
    run_here("--method", "decoder_only", "--backbone", "random")
    assert first.items() <= file_bytes(tmp_path).items(), "nothing of it is touched"
    assert not (tmp_path / "_stale").exists()
    short = {"recipe.epochs": 1, "recipe.samples": 4}
    runs = {run.id.method: run for run in collect.runs(tmp_path)}
    start = "decoder_only@debug,recipe.epochs=1"
    assert {name: run.config["settings"] for name, run in runs.items()} == {
        f"{start},recipe.samples=4": short,
        f"{start},recipe.optimiser.lr=0.0005,recipe.samples=4": short | {"recipe.optimiser.lr": 0.0005},
        f"{start},recipe.samples=4,weights=random": short | {"weights": "random"},
    }
    assert {run.spec for run in runs.values()} == {"decoder_only@debug"}
    assert "already done" in run_here("--method", "decoder_only@debug,recipe.optimiser.lr=0.0005")
    assert "already done" in run_here("--method", "decoder_only")


def test_a_kill_while_a_stale_result_is_moved_loses_nothing(run_here, tmp_path, cache, monkeypatch):
    run_here("--method", "classical")
    (cell,) = cells(setup(tmp_path, cache), ["classical"])
    before, old = file_bytes(cell.folder.path), cell.key
    monkeypatch.setattr(method_class("classical"), "version", 99)
    real, moved = shutil.move, []

    def killed(source, target):
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(real(source, target))

    monkeypatch.setattr(shutil, "move", killed)
    (cell,) = cells(setup(tmp_path, cache), ["classical"])
    assert state_of(cell).name == "stale"
    with pytest.raises(KeyboardInterrupt):
        aside.move(cell.folder)
    monkeypatch.setattr(shutil, "move", real)
    assert state_of(cell) == ("missing", "an earlier result is being moved aside; not run yet")
    assert collect.runs(tmp_path) == []
    assert "what was here is moved to" in run_here("--method", "classical")
    assert file_bytes(tmp_path / "_stale" / TINY / "classical@debug" / f"fold1-seed0-{old}") == before
    assert state_of(cell).name == "done"


def test_stale_cells_are_moved_aside_by_the_grid_when_asked(run_here, tmp_path, cache, monkeypatch, capsys):
    run_here("--method", "classical")
    (path,) = tmp_path.rglob("metrics.json")
    metrics = json.loads(path.read_text())
    metrics["identity"]["method_version"] = 0
    path.write_text(json.dumps({"key": "0123", "identity": metrics["identity"], "protocols": metrics["protocols"]}))
    words = ["ablation", "--dataset", TINY, "--preset", "debug", "--device", "cpu", "--methods", "classical"]
    words += ["--results", str(tmp_path), "--cache", str(cache), "--reports", str(tmp_path / "reports")]
    assert main(words) == 0
    assert "STALE=rerun moves it aside and runs it anew" in capsys.readouterr().err
    assert json.loads(path.read_text())["key"] == "0123"
    assert main([*words, "--stale", "rerun"]) == 0
    assert json.loads(path.read_text())["key"] == metrics["key"]
    (moved,) = (tmp_path / "_stale").rglob("metrics.json")
    assert json.loads(moved.read_text())["key"] == "0123" and moved.parent.name == "fold1-seed0-0123"


def test_runs_stored_before_settings_were_kept_are_read(run_here, tmp_path):
    run_here("--method", "classical")
    (path,) = tmp_path.rglob("config.json")
    config = json.loads(path.read_text())
    del config["settings"], config["spec"]
    path.write_text(json.dumps(config))
    metrics = path.with_name("metrics.json")
    kept = {name: value for name, value in json.loads(metrics.read_text()).items() if name not in ("files", "checksum")}
    metrics.write_text(json.dumps(kept))
    (run,) = collect.runs(tmp_path)
    assert (run.spec, run.settings) == ("classical@debug", "")
