"""`ablation --keep-maps` on finished cells predicts once more, as `run --keep-maps` does, whatever starts the cells."""

import shutil

import pytest

from benchmark.experiment import queue
from benchmark.experiment.estimate import done
from benchmark.experiment.grid import cells
from benchmark.experiment.launchers.base import Job
from benchmark.experiment.state import state_of
from benchmark.results.collect import runs
from benchmark.results.raw_maps import StoredMaps
from benchmark.results.run_folder import RunFolder
from tests.support.grids import setup


@pytest.fixture
def finished(ablation, tmp_path):
    """A copy of the results of an ablation, which the test may change."""
    return shutil.copytree(ablation.results, tmp_path / "results")


@pytest.fixture
def trained(finished, cache):
    """The finished cell of `decoder_only`."""
    return cells(setup(finished, cache), ["decoder_only"])[0]


def test_finished_cells_predict_once_more_for_their_maps(finished, ablation, command_here, tmp_path):
    words = (*ablation.words, "--keep-maps", "--reports", tmp_path / "reports")
    before = {run.id: run.metrics["protocols"] for run in runs(finished)}
    done = command_here("ablation", *words, results=finished)
    assert done.returncode == 0 and "0 of 2 cells are done, 2 to run." in done.stderr, done.stderr
    assert "2 of 2 cells ran" in done.stderr
    for run in runs(finished):
        assert StoredMaps(RunFolder(run.folder)).images == list(range(run.metrics["n_images"]))
        assert run.metrics["protocols"] == before[run.id]
    again = command_here("ablation", *words, results=finished)
    assert again.returncode == 0 and "Nothing to run: 2 of 2 cells are done" in again.stderr


def test_maps_that_cannot_be_made_fail_the_call_and_leave_the_result(trained, command_here, tmp_path):
    content = trained.folder.weights.read_bytes()
    trained.folder.weights.write_bytes(content[:-1] + bytes([content[-1] ^ 4]))
    words = ("--methods", "decoder_only", "recipe.epochs=1", "--keep-maps", "--reports", tmp_path / "reports")
    done = command_here("ablation", *words, results=trained.setup.results)
    assert done.returncode == 1 and f"failed: {trained.run}: done but for its raw maps" in done.stderr, done.stderr
    assert state_of(trained).name == "done" and not trained.folder.failed.exists()


def test_without_weights_the_maps_are_skipped_with_the_reason(trained, command_here, tmp_path):
    trained.folder.weights.unlink()
    words = ("--methods", "decoder_only", "recipe.epochs=1", "--keep-maps", "--reports", tmp_path / "reports")
    done = command_here("ablation", *words, results=trained.setup.results)
    assert done.returncode == 0 and f"skipped: {trained.run}: it is done; its weights" in done.stderr, done.stderr
    assert not trained.folder.all_raw_maps


def test_launchers_see_a_cell_whose_maps_are_due_as_unfinished(trained, monkeypatch):
    job, plain = Job(trained, keep_maps=True), Job(trained)
    assert (job.state.name, job.is_due(), plain.state.name, plain.is_due()) == ("partial", True, "done", False)
    assert done(trained) == 1, "nothing of its training is left"
    monkeypatch.setattr(queue, "word_on", lambda name: "PENDING")
    trained.folder.queue("7_0")
    assert job.state == ("queued", "job 7_0, PENDING") and not job.is_due()
    with trained.folder.lock():
        assert job.state.name == "running" and plain.state.name == "done"
