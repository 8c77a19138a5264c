"""Runs as DataFrames: one run, all runs of a results folder, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest

from benchmark.metrics.records import TABLES
from benchmark.results import load
from benchmark.results.frames import KEY, Frames
from benchmark.runtime.errors import InputError
from tests.support.report_runs import make_run, squares


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    squares().save(folder)
    return folder


def test_one_run(tmp_path, stored):
    folder = make_run(tmp_path, stored, fold=2, seed=3, bpq=0.5, cost={"gflops": None})
    frames = load(folder)
    assert frames._fields == Frames._fields == ("runs", "scores", *TABLES)
    assert all(tuple(frame)[: len(KEY)] == KEY and list(frame.index) == list(range(len(frame))) for frame in frames)
    (run,) = frames.runs.to_dict("records")
    assert [run[name] for name in KEY] == ["synthetic", "cellvta@small", "main", 2, 3, ""]
    assert (run["folder"], run["preset"], run["backbone"], run["weights"]) == (str(folder), "small", "tiny", "random")
    assert run["params"] == 1_500_000 and run["n_images"] == 2 and run["commit"] == "0123456789abcdef"
    scores = frames.scores.query("protocol == 'cellvit'").set_index("score")
    assert scores.loc["bPQ", "value"] == 0.5 and np.isnan(scores.loc["AJI", "value"]) and "version" not in scores.index
    assert scores["version"].unique().tolist() == [1] and scores["value"].dtype == np.float64
    for name in TABLES:
        frame = getattr(frames, name)
        pd.testing.assert_frame_equal(frame.drop(columns=list(KEY)), getattr(squares(), name))
        words = ("dataset", "method", "kind", "file")
        assert all(isinstance(frame[word].dtype, pd.CategoricalDtype) for word in words)
        assert frame["fold"].dtype == frame["seed"].dtype == np.int64


def test_all_complete_runs_of_a_results_folder(tmp_path, stored, capsys):
    results = tmp_path / "results"
    for fold in (1, 2):
        make_run(results, stored, fold=fold, bpq=0.4 + fold / 10, cost={"gflops": 7.5 if fold == 1 else None})
    make_run(results, stored, method="hovernet@small")
    (make_run(results, stored, fold=3) / "metrics.json").unlink()
    damaged = make_run(results, stored, seed=1)
    (damaged / "nuclei.parquet").write_bytes(b"no")
    frames = load(str(results))
    assert f"skipped {damaged}" in capsys.readouterr().err
    read = list(zip(frames.runs["method"], frames.runs["fold"]))
    assert read == [("cellvta@small", 1), ("cellvta@small", 2), ("hovernet@small", 1)]
    assert frames.runs["gflops"].tolist() == pytest.approx([7.5, np.nan, 7.5], nan_ok=True)
    bpq = frames.scores.query("protocol == 'clean' and score == 'bPQ'")
    assert bpq["value"].tolist() == pytest.approx([0.5, 0.6, 0.5])
    for name in TABLES:
        frame, one = getattr(frames, name), getattr(squares(), name)
        assert len(frame) == 3 * len(one) and frame["method"].dtype == "category"
        part = frame.query("method == 'cellvta@small' and fold == 2").reset_index(drop=True)
        pd.testing.assert_frame_equal(part.drop(columns=list(KEY)), one)


def test_runs_that_only_evaluate_are_known_by_their_file(tmp_path, stored):
    file = {"tag": "CellVTA_split1", "name": "CellVTA_split1.pth"}
    folder = make_run(tmp_path, stored, kind="official", file=file)
    folder.rename(folder.with_name("fold1-CellVTA_split1"))
    frames = load(tmp_path)
    assert frames.runs[["kind", "file", "seed"]].to_numpy().tolist() == [["official", "CellVTA_split1", 0]]


def test_what_is_refused(tmp_path, stored):
    with pytest.raises(InputError, match=r"away: expected a folder of results or of a run, found nothing\."):
        load(tmp_path / "away")
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="found a file"):
        load(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"No complete runs in .*empty"):
        load(tmp_path / "empty")
    folder = make_run(tmp_path / "results", stored)
    (folder / "overlaps.parquet").unlink()
    with pytest.raises(InputError, match=r"fold1-seed0: its records cannot be read \(.* no overlaps\.parquet"):
        load(folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(metrics | {"protocols": []}))
    with pytest.raises(InputError, match=r"expected the folder of a finished run \(.*'protocols' is missing"):
        load(folder)
    (folder / "metrics.json").unlink()
    with pytest.raises(InputError, match="expected the folder of a finished run"):
        load(folder)
