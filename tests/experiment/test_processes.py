"""One cell in several processes: who says why it failed, and two machines that share a folder, or do not."""

import os
import signal
import socket
import subprocess
import time
from types import SimpleNamespace

import pytest
import torch

from benchmark.experiment.run import Attempt
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.distributed import World
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import read_json
from tests.support.kills import content
from tests.support.processes import family

METHOD = "cellvta@debug,drop_path=0.3"  # random numbers are drawn inside the network
SHORT = ("recipe.epochs=4", "recipe.samples=8", "recipe.eval_every=2", "recipe.ema=0.9")
PARTS = ("recipe.accumulate=2", "recipe.recompute=true")


class One(World):
    """A process of two whose other one never answers differently."""

    def barrier(self):
        pass

    def gather(self, value):
        return [value] * self.size


def attempt(path, rank: int, error: BaseException) -> Attempt:
    """A process's part in a run that fails."""

    def fail():
        raise error

    weights = SimpleNamespace(prediction=lambda cell: None)
    cell = SimpleNamespace(run="a cell", folder=RunFolder(path), weights=weights)
    out = Attempt(cell, None, One(rank, 2, torch.device("cpu")), False)
    out._train_and_test = fail
    return out


def test_the_first_failure_is_kept_and_names_its_process(tmp_path):
    folder = RunFolder(tmp_path)
    folder.begin()
    with pytest.raises(ZeroDivisionError):
        attempt(tmp_path, 1, ZeroDivisionError("by what"))._run()
    text = folder.failed.read_text()
    assert text.startswith("Traceback") and "in fail" in text
    assert text.splitlines()[-1] == (
        f"process 1 of 2 (counted from 0, on {socket.gethostname()}): ZeroDivisionError: by what"
    )
    assert folder.owner.exists(), "the first process still runs"


def test_the_first_process_does_not_overwrite_it_with_what_followed(tmp_path):
    first = attempt(tmp_path, 0, RuntimeError("Connection closed by peer"))
    first.folder.begin()

    def lost():
        with pytest.raises(InputError):
            attempt(tmp_path, 1, InputError("bad image 7."))._run()
        raise RuntimeError("Connection closed by peer")

    first._train_and_test = lost
    with pytest.raises(RuntimeError):
        first._run()
    assert first.folder.failed.read_text() == (
        f"process 1 of 2 (counted from 0, on {socket.gethostname()}): bad image 7.\n"
    )
    again = attempt(tmp_path, 0, InputError("another attempt."))
    with pytest.raises(InputError):
        again._run()
    assert again.folder.failed.read_text() == "another attempt.\n" and not again.folder.owner.exists()


def nodes(benchmark_command, *words, results) -> list[subprocess.Popen]:
    """A cell by two torchruns, each of one process, as on two machines. results: one folder, or one for each."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    out = []
    for rank in range(2):
        launcher = ("-m", "torch.distributed.run", "--nnodes=2", "--nproc_per_node=1", f"--node_rank={rank}")
        launcher += ("--master_addr=127.0.0.1", f"--master_port={port}", "-m", "benchmark")
        where = results[rank] if isinstance(results, list) else results
        out.append(benchmark_command("run", *words, results=where, launcher=launcher, wait=False))
    return out


def ended(processes: list[subprocess.Popen]) -> tuple[list[int], str]:
    """Exit codes, and what the first printed."""
    errors = [process.communicate(timeout=240)[1] for process in processes]
    return [process.returncode for process in processes], "\n".join(errors)


@pytest.mark.slow  # three times two processes
def test_two_machines_killed_and_resumed_equal_unbroken_ones(benchmark_command, tmp_path):
    words = ("--method", METHOD, *SHORT, *PARTS, "--fold", "2")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    codes, errors = ended(nodes(benchmark_command, *words, results=whole))
    assert codes == [0, 0], errors
    assert "blocks recomputed in the backward pass: 22" in errors
    assert (
        "of the 4 images of an update, batch norm has the statistics of 1 at a time and "
        "the loss is the mean of 2 processes', each over its own 2" in errors
    )
    (folder,) = [p.parent for p in whole.rglob("metrics.json")]
    assert "recipe.accumulate=2" in str(folder) and "recompute" not in str(folder)
    assert read_json(folder / "provenance.json")["execution"]["recompute"] is True
    assert read_json(folder / "cost.json")["processes"] == 2
    twin = broken / folder.relative_to(whole)

    log, end = twin / "log.jsonl", time.monotonic() + 240
    processes = nodes(benchmark_command, *words, results=broken)
    while time.monotonic() < end and not (log.exists() and len(log.read_text().splitlines()) >= 2):
        assert not any(process.poll() for process in processes)
        time.sleep(0.02)
    time.sleep(0.15)  # into the next epoch
    for process in processes:
        for pid in family(process.pid):
            os.kill(pid, signal.SIGKILL)
        process.communicate()
    assert (twin / "checkpoint.pt").exists() and not (twin / "metrics.json").exists()

    codes, errors = ended(nodes(benchmark_command, *words, results=broken))
    assert codes == [0, 0] and "resuming after epoch" in errors, errors
    files = sorted(p.name for p in folder.iterdir() if p.name != ".lock")
    assert files == sorted(p.name for p in twin.iterdir() if p.name != ".lock") and len(files) > 8
    assert not [name for name in files if content(folder / name) != content(twin / name)]


@pytest.mark.slow  # two processes
def test_machines_that_do_not_share_the_results_are_refused(benchmark_command, tmp_path):
    results = [tmp_path / "one", tmp_path / "other"]
    codes, errors = ended(nodes(benchmark_command, "--method", METHOD, *SHORT, "--fold", "2", results=results))
    assert 0 not in codes
    (failed,) = tmp_path.rglob("failed.txt")
    assert failed.is_relative_to(results[0])
    expected = f"expected a folder that all 2 processes see, those on {socket.gethostname()} do not; set RESULTS= to"
    assert expected in failed.read_text() and expected in errors
