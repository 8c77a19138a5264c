"""What perf/train_step.py makes of rows that are not what their names say, and what its variants leave behind."""

import csv
import time

import pytest
import torch

from benchmark.data.registry import dataset
from benchmark.data.store.prepare import prepare
from benchmark.methods import registry
from benchmark.runtime import distributed
from benchmark.runtime.paths import ROOT
from benchmark.training.graphed import CaptureFailed

GRAPHED = "network graphed for batches of 8"
OUTCOMES = [
    ({"compile": "blocks compiled: 22", "graph": GRAPHED}, False),
    ({"compile": "blocks compiled: 0, Unsupported: x", "graph": GRAPHED}, True),
    ({"compile": "blocks compiled: 22", "graph": "network not graphed, RuntimeError: x"}, True),
]


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "perf")
    import step_parts

    return step_parts


@pytest.fixture
def bench(script, tmp_path):
    world = distributed.World(0, 1, torch.device("cpu"))
    return script.Bench(world, None, "debug", 1, 1, tmp_path, time.monotonic() + 60, {"fp32": 1.0}, [])


@pytest.mark.parametrize(("outcomes", "failed"), OUTCOMES)
def test_a_row_that_is_not_what_it_is_named_has_failed(script, bench, capsys, outcomes, failed):
    values = {"images_per_s": 2.0, "note": script.of_outcomes(outcomes)}
    row = bench.row("goal", "cellvta@debug", script.FAST.what, lambda: values)
    assert (row is None) == failed and values["note"].endswith("; ".join(outcomes.values()))
    script.table(bench.rows)
    assert capsys.readouterr().out.strip().endswith(f"2.00 images/s   1.00x  {values['note']}")


def test_the_goal_takes_what_the_split_measured(script, bench, monkeypatch):
    monkeypatch.setattr(script, "GOAL", (script.HARNESS,))
    monkeypatch.setattr(
        script, "train", lambda bench, name, variant: (name, variant.what, lambda: {"images_per_s": 3.0})
    )
    bench.row("split", "cellvta@debug", script.HARNESS.what, lambda: {"images_per_s": 2.0, "note": "measured"})
    script.goal(bench)
    assert bench.rows[-1] == bench.rows[0] | {"part": "goal"}
    bench.rows[0]["note"] = "failed: x"
    script.goal(bench)
    assert bench.rows[-1]["images_per_s"] == 3.0


def test_validation_is_timed_with_blocks_as_they_are_and_compiled(script, bench, cache, monkeypatch):
    calls = []
    monkeypatch.setattr(
        script.loop.compiled, "BACKEND", lambda module, inputs: lambda *x: calls.append(1) or module(*x)
    )
    bench.data = prepare(dataset("synthetic@patches=8"), cache, 1, progress=False)
    seen = []
    plain = script.validation_rate
    monkeypatch.setattr(script, "validation_rate", lambda *x: (plain(*x), seen.append(len(calls)))[0])
    bench.until += 600
    script.validation(bench)
    assert [row["what"] for row in bench.rows] == ["blocks as they are", "blocks compiled"]
    assert all(row["images_per_s"] > 0 for row in bench.rows) and seen[0] == 0 < seen[1]


def test_a_split_is_not_reckoned_from_such_a_row(script, bench, capsys):
    note = script.of_outcomes(OUTCOMES[1][0])
    bench.row("goal", "cellvta@debug", script.HARNESS.what, lambda: {"images_per_s": 2.0, "note": note})
    script.split(bench)
    assert "split: not run without the rate of" in capsys.readouterr().out and len(bench.rows) == 1


def fails(error: Exception):
    def measure():
        raise error

    return measure


def test_after_a_capture_that_torch_did_not_clean_up_nothing_is_measured(script, bench, capsys):
    assert bench.row("goal", "a", "eager", lambda: {"images_per_s": 2.0})
    assert bench.row("goal", "a", "unfit", fails(ValueError("x"))) is None
    assert bench.row("goal", "a", "another", lambda: {"images_per_s": 1.0})["ratio"] == 0.5
    assert bench.row("goal", "a", "graph", fails(CaptureFailed("no capture."))) is None
    assert bench.row("goal", "a", "after", lambda: pytest.fail("measured")) is None
    assert "after: not run, a capture failed" in capsys.readouterr().out
    with open(bench.out / "train_step.csv", newline="", encoding="utf-8") as file:
        notes = {row["what"]: row["note"] for row in csv.DictReader(file)}
    expected = {"unfit": "failed: ValueError: x", "graph": "failed: CaptureFailed: no capture."}
    assert notes == {"eager": "", "another": ""} | expected


def test_variants_leave_nothing_behind(script):
    method, tf32 = registry.build("cellvta@debug", 3, 2), torch.backends.cuda.matmul.allow_tf32
    own, images = {*vars(method)}, torch.rand(1, 3, 64, 64)
    expected = method.normalise(images)
    for variant in script.GOAL + script.LEVERS:
        for context in variant.around:
            with context(method):
                assert torch.equal(method.normalise(images), expected)
            assert {*vars(method)} == own, "an attribute that is a bound method keeps the network in a cycle"
            assert torch.backends.cuda.matmul.allow_tf32 == tf32
