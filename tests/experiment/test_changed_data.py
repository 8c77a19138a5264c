"""A data set whose images changed after a run: states are of the data as they are now, in the first command."""

import os
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.experiment.grid import cells
from benchmark.experiment.setup import Setup
from benchmark.experiment.state import UNKNOWN_DATA, state_of, stored
from benchmark.results.collect import runs
from benchmark.results.run_folder import STALE
from tests.support import joint_sets


class Study:
    """A folder of images with a finished run of the classical baseline, whose images then changed."""

    def __init__(self, path, capsys):
        self.path, self.capsys = path, capsys
        self.data = joint_sets.folder(path / "data", "one")
        self.results, self.cache = path / "results", path / "cache"

    def call(self, command, *words):
        """(exit code, stdout, stderr)"""
        self.capsys.readouterr()
        line = [command, "--dataset", "folder", "--data-root", self.data, "--cache", self.cache, *words]
        if command != "prepare":
            line += ["--preset", "debug", "--device", "cpu", "--results", self.results]
        if command == "ablation":
            line += ["--reports", self.path / "reports"]
        with mock.patch.dict(os.environ):
            code = main([str(word) for word in line])
        return code, *self.capsys.readouterr()

    def blacken(self):
        for picture in (self.data / "images").glob("test*.png"):
            Image.fromarray(np.zeros((joint_sets.SIDE, joint_sets.SIDE, 3), np.uint8)).save(picture)

    def prepared(self):
        return sorted(path.name for path in self.cache.iterdir() if path.is_dir())


@pytest.fixture
def study(tmp_path, capsys):
    study = Study(tmp_path, capsys)
    code, _, err = study.call("ablation", "--methods", "classical")
    assert code == 0, err
    study.blacken()
    return study


def test_the_first_ablation_after_a_change_calls_the_result_stale(study):
    code, out, err = study.call("ablation", "--methods", "classical")
    assert code == 0 and "stale: one classical@debug fold 1 seed 0: data: " in err, err
    assert "Nothing to run: 0 of 1 cells are done." in err
    assert "Stale: one classical@debug fold 1 seed 0 (data: " in out


def test_the_first_ablation_after_a_change_runs_stale_cells_anew(study):
    (before,) = runs(study.results)
    code, out, err = study.call("ablation", "--methods", "classical", "--stale", "rerun")
    assert code == 0 and "0 of 1 cells are done, 1 to run." in err and "1 of 1 cells ran" in err, err
    (after,) = runs(study.results)
    assert after.provenance["data_fingerprint"] != before.provenance["data_fingerprint"] and "Stale" not in out
    assert list((study.results / STALE).rglob("metrics.json"))


def test_status_does_not_call_a_result_done_without_a_word_and_prepares_nothing(study):
    before = study.prepared()
    code, out, err = study.call("status", "--methods", "classical")
    assert code == 0 and UNKNOWN_DATA in " ".join(out.split()), (out, err)
    assert study.prepared() == before
    study.call("prepare")
    code, out, err = study.call("status", "--methods", "classical")
    assert "stale" in out and UNKNOWN_DATA not in " ".join(out.split())


def test_a_cell_that_was_looked_at_before_its_data_were_prepared_is_looked_at_anew(study):
    setup = Setup("folder", str(study.data), "debug", "main", study.results, study.cache, "cpu")
    (cell,) = cells(setup, ["classical"])
    key = cell.key
    assert stored(cell) == ("done", UNKNOWN_DATA) and cell.identity["data"] is None
    study.call("prepare")
    assert state_of(cell).name == "stale" and cell.key != key
