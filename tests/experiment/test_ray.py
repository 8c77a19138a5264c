"""Cells on Ray: what becomes of those that end by another's hand, and what a cluster lacks; no Ray runs."""

import json
import os
import signal
import socket
import sys
import tempfile
import threading
import time

import filelock
import pytest

from benchmark.experiment.grid import cells
from benchmark.experiment.launch import run_missing
from benchmark.experiment.launchers import ray as launcher
from benchmark.experiment.launchers.base import Job
from benchmark.experiment.state import state_of
from benchmark.runtime.errors import OUT_OF_MEMORY, InputError
from benchmark.runtime.paths import ROOT
from tests.support import ray as support
from tests.support.grids import setup
from tests.support.tiny_data import TINY

DONE = (0, 1.0, "")
DIED = support.WorkerCrashedError("The worker died unexpectedly.\nSee the files of its log.")
FULL = support.OutOfMemoryError("Memory on the node (IP: 10.0.0.7) was 61GB / 64GB\nMore.")


@pytest.fixture
def jobs(tmp_path, cache):
    """jobs(number, **changes): as many jobs, whose seeds are 0, 1, …"""

    def make(number: int, **changes) -> list[Job]:
        base = setup(tmp_path, cache, **{"device": "cpu"} | changes)
        return [Job(cell) for cell in cells(base, ["classical"], [1], [*range(number)])]

    return make


@pytest.fixture
def ray(monkeypatch):
    """ray(outcomes, …): `support.module` in place of the package, and looks at it follow each other closely."""

    def use(outcomes: dict[int, list], **options):
        fake = support.module(outcomes, **options)
        monkeypatch.setattr(launcher, "_ray", lambda alone: fake)
        return fake

    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(launcher, "LOOK", 0.02)
    return use


def ended(jobs, address=None) -> dict[int, int]:
    """Seed -> exit code."""
    return {job.cell.seed: code for job, code in launcher.Ray(address).submit(jobs)}


# ---- how cells end


def test_a_cell_whose_node_died_is_tried_again(jobs, ray, capsys):
    fake = ray({0: [DIED, DONE], 1: [DONE]})
    assert ended(jobs(2)) == {0: 0, 1: 0} and fake.down
    assert sorted(seed for seed, *_ in fake.begun) == [0, 0, 1]
    assert all(asked["max_retries"] == 0 for _, asked, _ in fake.begun), "Ray itself says nothing when it tries again"
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "again" in line]
    reason = "its node or its worker died (WorkerCrashedError: The worker died unexpectedly.)"
    assert line == f"{TINY} classical@debug fold 1 seed 0: {reason}; tried again (2 of 4)"


ENDINGS = {
    "dead node": ([DIED], 4, "its node or its worker died"),
    "Ray's memory monitor": (
        [FULL],
        2,
        "Ray ended it because the memory of its node ran out (Memory on the node (IP: 10",
    ),
    "the kernel": ([(-signal.SIGKILL, 9.0, "")], 2, "was killed (signal 9), most often because the memory"),
    "itself": ([(OUT_OF_MEMORY, 9.0, "")], 2, "memory did not suffice"),
    "no process": ([support.RayTaskError("Traceback\nOSError: Cannot allocate")], 4, "could not start it (OSError"),
}


@pytest.mark.parametrize(("outcome", "tries", "reason"), ENDINGS.values(), ids=ENDINGS)
def test_a_cell_that_never_ends_well_is_named_and_not_tried_for_ever(jobs, ray, capsys, outcome, tries, reason):
    fake = ray({0: outcome * 9, 1: [DONE]})
    one, other = jobs(2)
    assert run_missing([one.cell, other.cell], launcher.Ray(None)) == 1
    assert [seed for seed, *_ in fake.begun].count(0) == tries
    state, why = state_of(one.cell)
    assert state == "failed" and reason in why and why.endswith(f", {tries} times")
    assert one.cell.folder.failed.read_text().strip() == why
    printed = capsys.readouterr().err
    assert printed.count("tried again") == tries - 1 and f"failed: {one}: {why}" in printed


def test_memory_and_nodes_are_counted_apart(jobs, ray):
    fake = ray({0: [DIED, DIED, FULL, DONE]})
    assert ended(jobs(1)) == {0: 0} and len(fake.begun) == 4


def test_a_failure_is_of_its_cell_alone(jobs, ray):
    fake = ray({0: [(2, 1.0, "")], 1: [(1, 1.0, "")], 2: [DONE], 3: [(-signal.SIGTERM, 1.0, "")]})
    grid_jobs = jobs(4)
    assert ended(grid_jobs) == {0: 2, 1: 1, 2: 0, 3: -signal.SIGTERM} and len(fake.begun) == 4
    assert not grid_jobs[0].cell.folder.failed.exists(), "its process keeps why"
    assert state_of(grid_jobs[3].cell) == ("failed", "its process was ended from outside, by signal 15")


def test_a_try_waits_until_nobody_holds_the_lock(jobs, ray):
    (job,) = jobs(1)
    lock = filelock.FileLock(job.cell.folder.lock().lock_file, thread_local=False)

    def die():
        lock.acquire()
        threading.Timer(0.5, lock.release).start()
        raise DIED

    def again():
        assert not lock.is_locked
        return DONE

    fake = ray({0: [die, again]})
    assert ended([job]) == {0: 0} and len(fake.begun) == 2


def test_a_lock_that_nobody_frees_does_not_stop_the_grid(jobs, ray, monkeypatch):
    monkeypatch.setattr(launcher, "LOCK", 0.1)
    (job,) = jobs(1)
    fake = ray({0: [DIED, (2, 0.1, "")]})
    began = time.monotonic()
    submitted = launcher.Ray(None).submit([job])
    with job.cell.folder.lock():
        monkeypatch.setattr(Job, "is_due", lambda self: True)
        assert next(submitted) == (job, 2) and len(fake.begun) == 2
    assert time.monotonic() - began < 20


def test_cells_end_with_whoever_waits_for_them(jobs, ray):
    fake = ray({0: [DONE], 1: [DONE], 2: [DONE]})
    submitted = launcher.Ray(None).submit(jobs(3))
    next(submitted)
    submitted.close()
    assert fake.cancelled == [1, 2] and fake.down


def test_what_another_machine_took_meanwhile_is_not_started(jobs, ray):
    fake = ray({0: [DONE]})
    one, two = jobs(2)
    with two.cell.folder.lock():
        assert ended([one, two]) == {0: 0} and len(fake.begun) == 1


# ---- what a cell has, and what a cluster lacks


@pytest.mark.parametrize(
    ("device", "gpus", "taken", "word"),
    [("cpu", 2, 0, "cpu"), ("auto", 2, 1, "cuda"), ("auto", 0, 0, "cpu"), ("cuda", 1, 1, "cuda")],
)
def test_the_gpu_of_a_cell(jobs, ray, device, gpus, taken, word):
    fake = ray({0: [DONE]}, gpus=gpus)
    ended(jobs(1, device=device))
    ((_, asked, (words, *_)),) = fake.begun
    assert asked["num_gpus"] == taken and json.loads(words[-1])["setup"]["device"] == word


@pytest.mark.parametrize(("device", "gpus"), [("cuda", 0), ("cuda:1", 2), ("banana", 2), ("banana", 0)])
def test_a_device_that_no_cell_can_have(jobs, ray, device, gpus):
    fake = ray({}, gpus=gpus)
    with pytest.raises(InputError, match=f"--device is '?{device}"):
        ended(jobs(1, device=device))
    assert not fake.begun and fake.down


def test_a_cell_has_as_many_threads_as_its_task_has_cpus(jobs, ray, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    fake = ray({0: [DONE]}, cpus=4)
    ended(jobs(1))
    ((_, asked, (_, variables, _)),) = fake.begun
    assert asked["num_cpus"] == 3 and variables["OMP_NUM_THREADS"] == variables["MKL_NUM_THREADS"] == "3"
    monkeypatch.setenv("OMP_NUM_THREADS", "many")
    with pytest.raises(InputError, match="OMP_NUM_THREADS is 'many'"):
        ended(jobs(1))


def test_a_machine_with_too_few_cpus_is_not_waited_for(jobs, ray, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    fake = ray({}, cpus=4)
    with pytest.raises(InputError, match=r"needs 8 CPUs \(OMP_NUM_THREADS\), .* the largest has 4 CPUs; set"):
        ended(jobs(1))
    assert not fake.begun


def test_a_cluster_with_too_few_cpus_is_named_once(jobs, ray, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    monkeypatch.setattr(launcher, "SHOW", 0.0)
    fake = ray({0: [DONE]}, cpus=4)
    looks = iter(range(5))
    fake.wait = lambda references, **_: (references if next(looks, None) is None else [], [])
    assert ended(jobs(1), "auto") == {0: 0}
    printed = capsys.readouterr().err
    assert printed.count("no node of the Ray cluster has them") == 1 and "wait until one joins" in printed
    assert printed.count("ray: 0 of 1 cells ended, 0 running, 1 waiting") == 5


def test_a_line_says_how_far_all_cells_are(jobs, ray, monkeypatch, capsys):
    monkeypatch.setattr(launcher, "SHOW", 0.0)
    monkeypatch.setattr(launcher.Estimate, "whole", lambda self, cell: 100.0)
    fake = ray({0: [DONE], 1: [DONE], 2: [DONE]})
    grid_jobs = jobs(3)
    locks = [grid_jobs[1].cell.folder.lock()]
    began = iter((True, False))

    def wait(references, **_):
        if next(began, False):  # the second cell begins, and nothing has ended
            locks[0].acquire()
            return [], references
        return references[:1], references[1:]

    fake.wait = wait
    ended(grid_jobs)
    locks[0].release()
    first, second, *_ = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ray: ")]
    assert first == "ray: 0 of 3 cells ended, 0 running, 3 waiting, about 300 s left"
    assert second == f"ray: 1 of 3 cells ended, 1 running ({grid_jobs[1]} 0 %), 1 waiting, about 200 s left"


def test_a_node_without_our_files_ends_the_grid_with_one_sentence(jobs, ray):
    fake = ray({0: [(2, 0.0, "The node n7 does not see the folder /home/me, which all nodes must share")], 1: [DONE]})
    with pytest.raises(InputError, match=r"^The node n7 does not see .* share; mend that, or take the node out"):
        ended(jobs(2))
    assert fake.cancelled == [1] and fake.down


def test_what_a_node_runs(tmp_path):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "benchmark.py").write_text("raise ImportError\n")
    script = ["-c", "import os, sys; assert os.getcwd() == sys.argv[1]; sys.exit(int(os.environ['OMP_NUM_THREADS']))"]
    words, threads = [*script, os.path.realpath(tmp_path)], {"OMP_NUM_THREADS": "7", "PYTHONPATH": str(ROOT)}
    folders = [str(tmp_path), str(tmp_path)]
    code, seconds, lack = launcher._run(words, threads, folders)
    assert (code, lack) == (7, "") and 0 < seconds < 60
    for beside, gone in (([str(tmp_path), "/of/another"], "/of/another"), (["/of/another", str(tmp_path)], "/of/an")):
        assert f"{socket.gethostname()} does not see the folder {gone}" in launcher._run(words, threads, beside)[2]
    lacking = launcher._run(words, threads | {"PYTHONPATH": str(tmp_path / "bare")}, folders)[2]
    assert "cannot import the package benchmark" in lacking and sys.executable in lacking


# ---- no Ray


def test_a_ray_that_is_not_installed_is_one_sentence(jobs, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"needs the package ray; install it with `.* -m pip install -e '.\[ray\]'`"):
        ended(jobs(1))


def test_an_address_where_nobody_listens_is_not_tried_for_minutes(jobs, ray):
    fake = ray({})
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{held.getsockname()[1]}"
        with pytest.raises(InputError, match=f"no Ray cluster to join at '{address}' .*refused.*; start one with"):
            ended(jobs(1), address)
    assert not fake.connections


def test_a_ray_of_this_machine_is_small_and_leaves_no_folder(jobs, ray):
    fake = ray({0: [DONE]})
    ended(jobs(1))
    (asked,) = fake.connections
    assert asked["address"] == "local" and asked["include_dashboard"] is False
    assert asked["object_store_memory"] < 100e6 and not os.path.exists(asked["_temp_dir"])


def test_a_long_temporary_folder_leaves_room_for_the_names_of_sockets(jobs, ray, tmp_path, monkeypatch):
    long = tmp_path / ("scratch" * 6)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    fake = ray({0: [DONE]})
    ended(jobs(1))
    assert len(fake.connections[0]["_temp_dir"]) <= 40


@pytest.mark.parametrize("address", ["first", "127.0.0.1", "first:", ":6379"])
def test_an_address_without_a_port(jobs, ray, address):
    ray({})
    with pytest.raises(InputError, match=rf"RAY is '{address}'; expected a machine and its port"):
        ended(jobs(1), address)


def test_a_cluster_without_gpus_is_said(jobs, ray, capsys):
    for device, gpus, times in (("auto", 0, 1), ("auto", 1, 0), ("cpu", 0, 0)):
        ray({0: [DONE]}, gpus=gpus)
        ended(jobs(1, device=device))
        assert capsys.readouterr().err.count("no node has a GPU now") == times


def test_a_ray_that_does_not_start_is_one_sentence(jobs, ray):
    def init(**_):
        raise RuntimeError("no\nsockets")

    ray({}).init = init
    with pytest.raises(InputError, match=r"Ray does not start on this machine \(no sockets\)"):
        ended(jobs(1))
