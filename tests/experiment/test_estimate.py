"""How long cells will take: by their method's own times, with these or other settings, else by the reference runs."""

from datetime import datetime

import pytest

from benchmark.cli import main
from benchmark.experiment import launch
from benchmark.experiment.estimate import REFERENCE, Estimate, done
from benchmark.experiment.grid import cells
from benchmark.experiment.state import State
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.files import read_json, write_json
from tests.support.grids import setup
from tests.support.tiny_data import TINY


def _store(cell, seconds: float, epochs: int = 1, images: int = 0) -> None:
    write_json(cell.folder.config, {"recipe": {"samples": cell.recipe.samples} if epochs else {}})
    write_json(cell.folder.cost, {"train_seconds": seconds, "images_per_second": 10.0, "epochs": epochs})
    write_json(cell.folder.metrics, {"n_images": images})


def test_a_cell_takes_as_long_as_its_method_took_before(tmp_path, cache):
    one, two, other = cells(setup(tmp_path, cache), ["decoder_only", "cellvta"], [1], [0, 1])[:3]
    stored, fresh = (one, two) if one.name == two.name else (one, other)
    _store(stored, 40.0, images=20)
    estimate = Estimate([stored, fresh])
    assert estimate.whole(fresh) == pytest.approx(42.0), "training, and the test of 20 images"
    estimate.ended(stored, 30.0, 0.5)
    assert estimate.whole(fresh) == pytest.approx(60.0), "half of it was done before"
    assert estimate.left([(stored, 10.0, 0.5)], [fresh, fresh], 2) == pytest.approx((20 + 60 + 60) / 2)
    assert estimate.left([(stored, 100.0, 0.5)], [fresh], 2) == pytest.approx(60.0), "no less than the longest one"


def test_methods_that_never_ran_here_are_scaled_by_the_reference_runs(tmp_path, cache):
    plain = setup(tmp_path, cache, overrides=())
    known, other, longer = cells(plain, ["decoder_only", "cellvta", "cellvta@debug,recipe.epochs=6"])
    assert (known.recipe.epochs, longer.recipe.epochs) == (2, 6)
    assert Estimate([known, other]).whole(other) is None, "nothing is known of this scale"
    _store(known, 10.0)
    estimate = Estimate([known, other, longer])
    ratio = estimate.whole(other) / 10.0
    assert 1.5 < ratio < 4, "an epoch of cellvta's reference run took about twice as long"
    assert estimate.whole(longer) == pytest.approx(3 * estimate.whole(other))
    small = cells(setup(tmp_path, cache, preset="small", dataset="synthetic", overrides=()), ["cellvta"])[0]
    assert Estimate([small]).whole(small) > 10, "the reference run itself, at its own scale"


def test_a_method_without_training_says_nothing_about_one_with(tmp_path, cache):
    classical, trained = cells(setup(tmp_path, cache), ["classical", "decoder_only"])
    _store(classical, 0.0, epochs=0, images=100)
    assert Estimate([classical, trained]).whole(trained) is None


def test_the_time_of_other_settings_counts_by_the_images_drawn(tmp_path, cache):
    plain = setup(tmp_path, cache, overrides=())
    known, longer, fewer, slower, of_paper, other = cells(
        plain,
        [
            *("cellvta", "cellvta@debug,recipe.epochs=6", "cellvta@debug,recipe.samples=4"),
            *("cellvta@debug,points=8", "cellvta@paper", "decoder_only"),
        ],
    )
    assert (known.recipe.epochs, known.recipe.samples) == (2, 8)
    _store(known, 10.0, epochs=2)
    for cell, seconds in ((longer, 30.0), (fewer, 5.0), (slower, 10.0), (of_paper, None), (other, None)):
        assert Estimate([cell]).whole(cell) == (seconds and pytest.approx(seconds)), cell.name
    _store(slower, 14.0, epochs=2)
    assert Estimate([slower]).whole(slower) == pytest.approx(14.0), "its own settings tell more"
    assert Estimate([longer]).whole(longer) == pytest.approx(36.0), "the mean of both"


def test_the_embedded_ablation_before_its_first_cell(tmp_path, cache):
    """Against the times between start and end of the reference runs, process and all."""
    grid = cells(setup(tmp_path, cache, preset="small", dataset="synthetic", overrides=()))
    estimate, took = Estimate(grid), {}
    for cell in grid:
        (provenance,) = (REFERENCE / cell.name).glob("*/provenance.json")
        began, end = (datetime.fromisoformat(read_json(provenance)[key]) for key in ("started", "finished"))
        took[cell.name] = (end - began).total_seconds()
        assert abs(estimate.whole(cell) - took[cell.name]) < 8, cell.name
    assert estimate.whole(grid[-1]) < 5 and took[grid[-1].name] < 5, "nothing is trained"
    assert estimate.left([], grid, 1) == pytest.approx(sum(took.values()), rel=0.1)


def test_a_method_without_training_takes_little_beside_those_with(tmp_path, cache):
    trained, classical = cells(setup(tmp_path, cache, preset="small", overrides=()), ["cellvta", "classical"])
    _store(trained, 300.0, epochs=20)
    estimate = Estimate([trained, classical])
    assert 1 < estimate.whole(classical) < 10, "1.8 s there, on a machine of half the speed"
    assert estimate.left([], [trained, classical], 1) == pytest.approx(300.0 + estimate.whole(classical))
    trained, classical = cells(setup(tmp_path, cache, overrides=()), ["cellvta", "classical"])
    _store(trained, 9.0, epochs=2)
    assert Estimate([trained, classical]).whole(classical) <= 9, "of a few images the start takes most"


def test_weights_of_small_vits_are_made_before_the_first_cell(tmp_path, cache, monkeypatch):
    """Their time would else count as the first cell's, and double what is expected of all others."""
    calls = []
    monkeypatch.setattr("benchmark.training.pretrain.ensure_apart", lambda name, *_: calls.append(name))
    monkeypatch.setattr("benchmark.experiment.launch.run_missing", lambda *_, **__: calls.append("cells") or 0)
    words = ["ablation", "--methods", "cellvta", "--preset", "debug", "--dataset", TINY, "--device", "cpu", "--detach"]
    words += ["recipe.pretrain=3", "--results", str(tmp_path), "--cache", str(cache)]
    monkeypatch.setattr("benchmark.commands.ablation._check_launcher", lambda options: None)  # --detach prints no table
    assert main(words) == 0
    assert len(calls) == 2 and calls[1] == "cells"


def test_stale_cells_that_run_anew_have_their_weights_made_too(tmp_path, cache, monkeypatch):
    calls = []
    monkeypatch.setattr("benchmark.training.pretrain.ensure_apart", lambda name, *_: calls.append(name))
    monkeypatch.setattr(launch, "state_of", lambda cell: State("stale", ""))
    grid = cells(setup(tmp_path, cache, overrides=(("pretrain", 3),)), ["cellvta"])
    launch.pretrain(grid, None)
    assert calls == []
    launch.pretrain(grid, None, stale=True)
    assert len(calls) == 1


def test_half_the_images_take_half_the_time(tmp_path, cache):
    of_reference = setup(tmp_path, cache, preset="small", dataset="synthetic", overrides=())
    every, half = cells(of_reference, ["cellvta", "cellvta@small,recipe.samples=48"])
    estimate = Estimate([every, half])
    assert estimate.whole(half) == pytest.approx(estimate.whole(every) / 2) and estimate.whole(half) > 10


def test_the_share_that_is_done(tmp_path, cache):
    (cell,) = cells(setup(tmp_path, cache, overrides=(("epochs", 4),)), ["decoder_only"])
    assert done(cell) == 0.0
    folder = RunFolder(cell.folder.path)
    folder.path.mkdir(parents=True)
    folder.checkpoint.touch()
    folder.log.write_text('{"epoch": 0}\n{"epoch": 1}\n')
    assert done(cell) == 0.5
    folder.log.write_text("{")
    assert done(cell) == 0.0
