"""Worker processes end with their parent: killed, interrupted or failed."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import ROOT
from benchmark.runtime.workers import AT_ONCE, Lasting, in_order, pool, usable_cores
from tests.support.processes import heeds_interrupts

SLEEPER = """
import sys
from tests.runtime.test_workers import sleep
from benchmark.runtime.workers import pool
if __name__ == "__main__":
    with pool(1) as processes:
        processes.submit(sleep, sys.argv[1]).result()
"""


def sleep(told: str) -> None:
    with open(f"{told}.part", "w") as handle:
        handle.write(str(os.getpid()))
    os.replace(f"{told}.part", told)
    time.sleep(120)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_worker_does_not_outlive_its_parent(number, tmp_path):
    told = tmp_path / "worker"
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    line = [sys.executable, tmp_path / "sleeper.py", told]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(
        line, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=heeds_interrupts
    )
    try:
        until(lambda: told.exists() or parent.poll() is not None)
        worker = int(told.read_text())
        parent.send_signal(number)
        _, error = parent.communicate(timeout=30)  # ends once the worker has closed its stderr too
        assert not alive(worker)
        assert "SpawnProcess" not in error, "the worker has nothing to say about a Ctrl-C"
    finally:
        parent.kill()


def test_a_worker_that_is_killed_is_one_sentence():
    with pytest.raises(InputError, match="main memory ran out"), pool(1) as processes:
        processes.submit(die).result(timeout=60)


def square(x: int) -> int:
    return x * x


@pytest.mark.parametrize("workers", [0, 2])
def test_results_come_in_order_while_few_jobs_wait(workers):
    drawn = []

    def jobs():
        for x in range(12):
            drawn.append(x)
            yield (x,)

    for k, result in enumerate(in_order(square, jobs(), workers, ahead=2)):
        assert result == k * k
        assert len(drawn) == min(12, k + 1 + 2 * workers)
    assert k == 11


@pytest.mark.parametrize(("most", "at_once"), [(5, 1), (25, 2), (1000, 5)])
def test_jobs_wait_where_those_handed_out_are_large(most, at_once):
    """A job larger than `most` goes alone; the next one is made meanwhile."""
    drawn, ended = [], []

    def jobs():
        for x in range(9):
            drawn.append(x)
            yield (x,)

    for result in in_order(square, jobs(), 2, ahead=2, size=lambda x: 10, most=most):
        assert len(drawn) - len(ended) <= at_once + 1
        ended.append(result)
    assert ended == [x * x for x in range(9)]


def own_process(_):
    return os.getpid()


def test_lasting_processes_serve_several_calls_and_end_with_their_context():
    with Lasting() as lasting:
        assert not multiprocessing.active_children(), "none before they are needed"
        pids = [set(in_order(own_process, [(k,) for k in range(8)], 2, ahead=1, lasting=lasting)) for _ in range(2)]
        assert len(pids[0] | pids[1]) <= 2 and os.getpid() not in pids[0]
        assert list(in_order(own_process, [(0,)], 0, ahead=1, lasting=lasting)) == [os.getpid()]
        other = set(in_order(own_process, [(0,)], 1, ahead=1, lasting=lasting))
        assert not other & (pids[0] | pids[1]) and len(multiprocessing.active_children()) == 1
    assert not multiprocessing.active_children()


def test_lasting_processes_of_which_one_was_killed_are_one_sentence():
    with pytest.raises(InputError, match="main memory ran out"), Lasting() as lasting:
        list(in_order(die, [()], 1, ahead=1, lasting=lasting))


def test_processes_begin_with_the_arguments_of_start_and_end_with_a_failure():
    before = len(multiprocessing.active_children())
    for workers in (0, 1):
        assert list(in_order(remembered, [(2,), (3,)], workers, ahead=1, start=remember, arguments=(10,))) == [12, 13]
        with pytest.raises(TypeError):
            list(in_order(remembered, [(2,), ("x",), (3,)], workers, ahead=1, start=remember, arguments=(10,)))
    assert len(multiprocessing.active_children()) == before


def remember(value: int) -> None:
    global _value
    _value = value


def remembered(more: int) -> int:
    return _value + more


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # a process whose parent is gone waits for init to reap it
    if os.path.isdir("/proc/self"):  # a small container has no ps
        try:
            with open(f"/proc/{pid}/stat") as handle:
                return handle.read().rpartition(")")[2].split()[0] != "Z"
        except (FileNotFoundError, ProcessLookupError):
            return False
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return bool(state.strip()) and not state.startswith("Z")


def until(true, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(("cells", "cores"), [("", 12), ("1", 12), ("4", 3), ("50", 1), ("x", 12), ("0", 12)])
def test_cells_that_run_at_once_share_the_cores(monkeypatch, cells, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)), raising=False)
    monkeypatch.setenv(AT_ONCE, cells)
    assert usable_cores() == cores
