"""Stored predictions of images that differ in size, given to `import` and `score`."""

import json

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.data.registry import dataset
from benchmark.data.store.prepare import prepare
from benchmark.results.collect import runs
from benchmark.results.run_folder import RunFolder
from tests.support import field_files


def called(*words) -> int:
    return main([str(word) for word in words])


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """(folder, its run of `classical` on MoNuSAC's two test regions of 96 x 80 and 70 x 100 px, the test side)."""
    folder = tmp_path_factory.mktemp("sizes")
    data = field_files.monusac(folder / "monusac")
    words = ("--dataset", "monusac", "--data-root", data, "--cache", folder / "cache", "--results", folder / "results")
    assert called("run", "--method", "classical", "--fold", 1, "--preset", "debug", "--device", "cpu", *words) == 0
    (run,) = runs(folder / "results")
    test = prepare(dataset("monusac", str(data)), folder / "cache", 1, progress=False).subset(1, "test")
    assert len({test[k].nuclei.instances.shape for k in range(len(test))}) == 2
    return folder, run, test


def test_predictions_of_a_run_are_imported_with_its_scores(study, tmp_path):
    folder, run, _ = study
    line = ("import", "--name", "again", "--pred", RunFolder(run.folder).predictions, "--results", tmp_path)
    data = ("--dataset", "monusac", "--data-root", folder / "monusac", "--cache", folder / "cache")
    assert called(*line, *data) == 0
    (again,) = runs(tmp_path)
    for protocol in ("cellvit", "hovernet", "clean"):
        stored = run.metrics["protocols"][protocol]
        assert again.metrics["protocols"][protocol]["bPQ"] == pytest.approx(stored["bPQ"]), protocol
    one, other = RunFolder(run.folder).predictions, RunFolder(again.folder).predictions
    with np.load(one) as stored, np.load(other) as written:
        assert np.array_equal(stored["instances"], written["instances"])
        assert np.array_equal(stored["sizes"], written["sizes"])


def test_predictions_of_a_run_are_scored_against_a_stack_of_the_truth(study, tmp_path):
    _, run, test = study
    shapes = np.array([test[k].nuclei.instances.shape for k in range(len(test))])
    truth = np.zeros((len(test), *shapes.max(0)), np.int32)
    for k, (height, width) in enumerate(shapes):
        truth[k, :height, :width] = test[k].nuclei.instances
    np.savez(tmp_path / "truth.npz", instances=truth, sizes=shapes)
    pred = RunFolder(run.folder).predictions
    line = ("score", "--true", tmp_path / "truth.npz", "--mpp", 0.25, "--out", tmp_path / "scores")
    assert called(*line, "--pred", pred) == 0
    scores = json.loads((tmp_path / "scores" / "metrics.json").read_text())
    for protocol in ("cellvit", "hovernet", "clean"):
        assert scores[protocol]["bPQ"] == pytest.approx(run.metrics["protocols"][protocol]["bPQ"]), protocol


def test_without_sizes_they_are_refused_in_one_sentence(study, tmp_path, capsys):
    folder, run, _ = study
    with np.load(RunFolder(run.folder).predictions) as stored:
        np.savez(tmp_path / "p.npz", **{name: stored[name] for name in stored.files if name != "sizes"})
    line = ("import", "--name", "again", "--pred", tmp_path / "p.npz", "--results", tmp_path / "results")
    capsys.readouterr()
    assert called(*line, "--dataset", "monusac", "--data-root", folder / "monusac", "--cache", folder / "cache") == 2
    (sentence,) = [row for row in capsys.readouterr().err.splitlines() if row.startswith("error: ")]
    assert "p.npz image 0: expected a label map of the truth's shape (96, 80)" in sentence
    assert "found (96, 100); " in sentence and "sizes (N, 2)" in sentence
    assert not list((tmp_path / "results").rglob("*.json"))
