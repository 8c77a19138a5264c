"""The figure of accuracy against the length of the training, and what stands below the search for the rates."""

from types import SimpleNamespace

import pandas as pd
import pytest

from benchmark.report.figures import budget
from benchmark.report.figures.budget import budget_figure
from benchmark.report.select.groups import Group, Row
from benchmark.report.select.observations import Observed
from benchmark.report.tables import schedule
from tests.support.report_runs import Stub, read_csv


def trained(name: str, epochs: int, seed: int, bpq: float, lr: float = 1e-3) -> tuple[Stub, pd.DataFrame]:
    run = Stub(f"{name}-{epochs}-{seed}-{lr}", 1, seed)
    run.backbone, run.metrics, run.cost = ("tiny", "pretext"), {"val_bPQ": bpq}, {"train_seconds": 2.0 * epochs}
    run.config |= {"name": name, "arguments": {"points": 4}, "recipe": {"epochs": epochs, "samples": 96, "batch": 8}}
    run.config["recipe"]["optimiser"] = {"lr": lr}
    return run, pd.DataFrame({"bPQ": [bpq, bpq], "mPQ": [bpq / 2] * 2, "cluster": [0, 1], "tissue": ""})


def group_of(trainings) -> tuple[Group, Observed]:
    rows = [Row(f"{run.config['name']}@mini", ("", ""), [run], run.folder) for run, _ in trainings]
    frames = {run.folder: frame for run, frame in trainings}
    return Group("synthetic", "main", "mini", [1], [0], rows), Observed(["a", "b"], True, frames)


@pytest.mark.filterwarnings("error")
def test_runs_of_one_recipe_but_its_length_are_one_line(tmp_path):
    trainings = [trained("cellvta", e, s, 0.5 + e / 1000 + s / 100) for e in (10, 20, 40) for s in (0, 1)]
    trainings += [trained("cellvta", 20, 0, 0.1, lr=5e-3)]  # another rate: another arm, of one length only
    assert budget_figure(*group_of(trainings), tmp_path)
    lines = read_csv(tmp_path / "budget.csv")
    assert {line["arm"] for line in lines} == {"cellvta"} and len(lines) == 6
    first = lines[0]
    assert (first["updates"], first["seconds"]) == ("120", "20")
    assert float(first["bPQ"]) == pytest.approx(0.51) and float(first["mPQ"]) == pytest.approx(0.255)
    assert (tmp_path / "budget.png").is_file()


def test_an_argument_at_its_neutral_value_makes_no_other_arm(tmp_path):
    """config.json of newer runs spells it out; the identity, by which results are compared, leaves it out."""
    old, new = trained("cellvta", 10, 0, 0.5), trained("cellvta", 20, 0, 0.6)
    late, other = trained("cellvta", 10, 1, 0.7), trained("cellvta", 10, 2, 0.8)
    for (run, _), instances in ((new, "hv"), (late, "hv"), (other, "flows")):
        identity = dict(run.config["arguments"]) | ({"instances": instances} if instances != "hv" else {})
        run.metrics["identity"] = {"arguments": identity}
        run.config["arguments"] = run.config["arguments"] | {"instances": instances}
    assert budget_figure(*group_of([old, new, late, other]), tmp_path)
    lines = read_csv(tmp_path / "budget.csv")
    assert {line["arm"] for line in lines} == {"cellvta"}
    assert [(line["updates"], line["seed"]) for line in lines] == [("120", "0"), ("240", "0"), ("120", "1")]


def test_no_figure_without_two_lengths(tmp_path):
    assert not budget_figure(*group_of([trained("cellvta", 10, seed, 0.5) for seed in (0, 1)]), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_line_joins_the_seeds_that_every_length_has(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(budget, "save", lambda figure, *_: figures.append(figure))
    trainings = [trained("cellvta", epochs, 0, 0.5 + epochs / 1000) for epochs in (10, 20)]
    assert budget_figure(*group_of([*trainings, trained("cellvta", 10, 1, 0.9)]), tmp_path)
    (line,) = figures[0].axes[0].lines
    assert list(line.get_ydata()) == pytest.approx([0.51, 0.52])
    assert 0.9 in [pytest.approx(y) for dots in figures[0].axes[0].collections for _, y in dots.get_offsets()]


def test_the_search_says_how_many_cores_its_trainings_had():
    def run(cores):
        return SimpleNamespace(provenance={"hardware": cores if isinstance(cores, str) else {"cores": cores}})

    mixed = {"a": {0.1: run(1), 0.2: run(2)}, "b": {0.1: run(2), 0.2: run("a laptop")}}
    assert schedule._cores(mixed) == " Of the 3 trainings 1 had 1 core and 2 had 2 cores."
    assert schedule._cores({"a": {0.1: run(2), 0.2: run(2)}}) == ""
