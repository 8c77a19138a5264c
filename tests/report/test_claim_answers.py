"""The claim's answers follow from kept runs: which of them count, what is written beside them, what the page says."""

import csv
import json
from dataclasses import replace

import pytest

from benchmark.report import claim_answers, readme
from benchmark.results.collect import runs
from benchmark.results.kept import keep
from benchmark.runtime.errors import InputError
from tests.support.report_runs import make_run, squares

ARMS = ["cellvta@mini,recipe.optimiser.lr=0.002", "decoder_only@mini,recipe.optimiser.lr=0.004"]
GRID = [1], [0, 1]  # splits, seeds
# arm -> rate -> validation bPQ of the search
SEARCH = {"cellvta": {0.001: 0.70, 0.002: 0.75, 0.004: 0.74}, "decoder_only": {0.002: 0.6, 0.004: 0.65}}


def train(results, stored, arm, rate, seed=0, epochs=64, val=0.5):
    words = {"recipe.epochs": epochs} if epochs != 64 else {}
    words |= {"recipe.optimiser.lr": rate}
    name = ",".join([f"{arm}@mini", *(f"{key}={value}" for key, value in words.items())])
    recipe = {"epochs": epochs, "samples": 192, "batch": 8, "optimiser": {"lr": rate}}
    more = {"spec": f"{arm}@mini", "settings": words, "recipe": recipe, "dataset": "synthetic@patches=168"}
    folder = make_run(results, stored, name, seed=seed, cost={"train_seconds": 60.0 * epochs}, **more)
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(metrics | {"val_bPQ": val}))


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("claim")
    squares().save(folder / "records")
    for arm, rates in SEARCH.items():
        for rate, val in rates.items():
            train(folder / "results", folder / "records", arm, rate, val=val)
    for epochs, gain in ((64, 0.0), (128, 0.02)):
        for arm, rate in (("cellvta", 0.002), ("decoder_only", 0.004)):
            for seed in (0, 1):
                if (epochs, seed) != (64, 0):
                    val = SEARCH[arm][rate] + gain * (arm == "cellvta")
                    train(folder / "results", folder / "records", arm, rate, seed, epochs, val=val)
    for arm, rate in (("cellvta", 0.002), ("decoder_only", 0.004)):
        train(folder / "results", folder / "records", arm, rate, 0, 256, val=0.8)
    (folder / "kept").mkdir()
    for name in ("old.csv", "old.png"):
        (folder / "kept" / name).touch()  # of runs that are no longer kept
    list(keep(runs(folder / "results"), folder / "kept" / "runs"))
    claim_answers.renew(folder / "kept", ARMS, *GRID)
    return folder / "kept"


def lines(path) -> list[dict]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def test_the_search_shows_every_rate_and_its_price(out):
    searched = {(line["arm"], float(line["lr"])): float(line["val_bPQ"]) for line in lines(out / "rates.csv")}
    assert searched == {(arm, rate): val for arm, rates in SEARCH.items() for rate, val in rates.items()}
    text = claim_answers.section(out, ARMS, *GRID, "kept", whole=True)
    (row,) = [line for line in text.splitlines() if line.startswith("| cellvta ") and "0.700" in line]
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["0.700", "**0.750**", "0.740", "192"]


def test_only_the_chosen_rates_answer_the_questions(out):
    assert {line["method"] for line in lines(out / "main-cellvit.csv")} == {*ARMS}
    assert {line["b"] for line in lines(out / "claim.csv") if line["difference"]} == {"decoder_only"}
    assert sum(line["not_measured"].startswith("no single row") for line in lines(out / "claim.csv")) == 2
    assert (out / "gain.png").is_file(), "each arm has its own rate, and the gain is drawn all the same"


def test_the_budget_compares_lengths_over_the_seeds_that_have_them(out):
    trained = {(line["arm"], line["epochs"], line["seed"]) for line in lines(out / "schedule.csv")}
    two = {(arm, e, s) for arm in SEARCH for e in ("64", "128") for s in ("0", "1")}
    assert trained == two | {(arm, "256", "0") for arm in SEARCH}, (
        "a length with fewer seeds takes none from the others"
    )
    text = claim_answers.section(out, ARMS, *GRID, "kept", whole=True)
    assert (
        "(128 epochs for 64, 2 seeds) changes validation bPQ of cellvta by +0.020" in text and "not converged" in text
    )
    assert "After the longest training (256 epochs, 1 seed of 2) the gain is +0.000 bPQ" in text
    assert "below the smallest effect of interest in bPQ and mPQ" in text
    gains = ", ".join(f"+0.000 and +0.000 at {epochs}" for epochs in (64, 128, 256))
    assert f"Of seed 0 alone the gains are {gains} epochs, while cellvta itself has 0." in text


def test_the_verdicts_say_how_long_the_trainings_were(out):
    with claim_answers.answers([out / "runs"], ARMS, *GRID) as found:
        assert found.converged == (64, False)
        assert claim_answers._length(found).startswith(", 64 epochs each, which are not converged")
        assert "which count as converged" in claim_answers._length(replace(found, converged=(64, True)))
        assert claim_answers._length(replace(found, converged=None)) == ""


def test_one_seed_of_the_budget_allows_no_verdict(tmp_path):
    squares().save(tmp_path / "records")
    for arm, rate in (("cellvta", 0.002), ("decoder_only", 0.004)):
        for epochs in (64, 128):
            train(tmp_path / "results", tmp_path / "records", arm, rate, 0, epochs)
    list(keep(runs(tmp_path / "results"), tmp_path / "kept" / "runs"))
    text = claim_answers.section(tmp_path / "kept", ARMS, *GRID, "kept", whole=False)
    assert "128 epochs for 64, 1 seed) changes validation bPQ of cellvta by +0.000" in text
    assert "no verdict before all 2 seeds were run" in text and "not converged" not in text


def test_what_was_not_run_is_listed_and_what_is_no_longer_kept_goes(out):
    text = claim_answers.section(out, ARMS, *GRID, "kept", whole=True)
    assert (
        "Not run: `cellvit`, `cellvit@tune=lora`, `hovernet`, `classical`, the ablations of `EXPERIMENT=adapter`"
        in text
    )
    assert not list(out.glob("old.*"))


def test_arms_and_ablations_with_some_runs_are_named_and_what_trains_nothing_needs_one_seed(tmp_path):
    """A single run of an arm or of one ablation once took all of it from the list of what was not run."""
    squares().save(tmp_path / "records")
    for seed in (0, 1):
        train(tmp_path / "results", tmp_path / "records", "cellvta", 0.002, seed)
    more = {"dataset": "synthetic@patches=168", "recipe": {"epochs": 64, "samples": 192, "batch": 8}}
    for name, cost in (
        ("hovernet@mini", {"epochs": 64}),
        ("classical@mini", {"epochs": 0}),
        ("cellvta@mini,points=8", {"epochs": 64}),
        ("cellvta@mini,drop_path=0.4", {"epochs": 64}),
    ):
        make_run(tmp_path / "results", tmp_path / "records", name, cost=cost, spec=name, **more)
    list(keep(runs(tmp_path / "results"), tmp_path / "kept" / "runs"))
    text = claim_answers.section(tmp_path / "kept", ARMS, *GRID, "kept", whole=True)
    assert (
        "Not run: `cellvit`, `cellvit@tune=lora`, `hovernet` (1 of 2 runs are there), the ablations of "
        "`EXPERIMENT=adapter` but for `points=8`, the ablations of `EXPERIMENT=quirks` but for `drop_path=0.4`."
    ) in text
    assert "What trains nothing" in text and "Beside them" not in text, "hovernet lacks a seed"
    (row,) = [line for line in text.splitlines() if line.startswith("| classical")]
    assert row.rstrip(" |").endswith("1/1")


def test_the_short_section_has_the_questions_and_two_figures(out):
    text = claim_answers.section(out, ARMS, *GRID, "docs/kept", whole=False)
    assert "4 of 4 trainings (2 arms, 1 splits, 2 seeds)" in text
    assert "| cellvta − decoder_only in bPQ" in text and text.count("![") == 2
    assert "/gain.png)" in text and "/budget.png)" in text, "what may be concluded depends on the length"
    assert "Validation bPQ of each arm" not in text
    fewer = claim_answers.section(out, ARMS, [1, 2, 3], [0, 1], "kept", whole=False)
    assert "4 of 12 trainings" in fewer


def test_runs_of_two_data_sets_are_no_answer(tmp_path):
    squares().save(tmp_path / "records")
    for dataset in ("synthetic", "pannuke"):
        make_run(tmp_path / "results", tmp_path / "records", "cellvta@mini", dataset=dataset)
    list(keep(runs(tmp_path / "results"), tmp_path / "kept" / "runs"))
    with pytest.raises(InputError, match="one data set and preset"):
        claim_answers.section(tmp_path / "kept", ["cellvta@mini"], [1], [0], "kept", whole=True)


def test_what_was_kept_stays_until_the_new_is_whole(tmp_path, monkeypatch):
    """The folder was emptied before the first run was stored."""
    squares().save(tmp_path / "records")
    make_run(tmp_path / "results", tmp_path / "records", "cellvta@small")
    report, kept = tmp_path / "reports/synthetic/main-small", tmp_path / "kept"
    for folder in (report, kept):
        folder.mkdir(parents=True)
    for name in readme.FIGURES:
        (report / f"{name}.png").touch()
    (kept / "earlier.csv").touch()

    def fails(*_):
        raise InputError("a damaged run")

    monkeypatch.setattr(readme, "store", fails)
    with pytest.raises(InputError, match="a damaged run"):
        readme.keep(tmp_path / "results", tmp_path / "reports", kept)
    assert [path.name for path in kept.iterdir()] == ["earlier.csv"]
