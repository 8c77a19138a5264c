"""Cells at once on the devices of this machine: which ones, which when, and what becomes of those that die."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import pytest

from benchmark.experiment.grid import cells
from benchmark.experiment.launch import run_missing
from benchmark.experiment.launchers import devices, local
from benchmark.experiment.launchers.base import Job
from benchmark.experiment.launchers.board import Board, _row
from benchmark.experiment.launchers.local import Local
from benchmark.experiment.state import state_of
from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import ROOT
from benchmark.runtime.progress import MARKED
from tests.support.grids import setup
from tests.support.processes import heeds_interrupts, is_running
from tests.support.tiny_data import TINY, file_bytes


@pytest.fixture
def one_torch_has(monkeypatch):
    """Have torch see this number of GPUs."""

    def has(gpus: int) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
        monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)

    return has


def test_which_devices_take_cells(one_torch_has):
    one_torch_has(2)
    assert devices.slots(None) == devices.slots("auto") == ["cuda:0", "cuda:1"]
    assert devices.slots("cuda:1") == devices.slots(None, "cuda:1") == ["cuda:1"]
    assert devices.slots("cuda:0,cpu:2") == devices.slots("cuda:0 cpu cpu") == ["cuda:0", "cpu", "cpu"]
    assert devices.slots(None, "cpu") == ["cpu"]
    one_torch_has(0)
    assert devices.slots("auto") == ["cpu"]


@pytest.mark.parametrize("text", ["", "cpu:0", "gpu", "cuda:x", "cuda:7", "cpu:2;cuda:0", "cpu:99999", "auto,cpu"])
def test_words_that_name_no_device(one_torch_has, text):
    one_torch_has(2)
    with pytest.raises(InputError, match=r"^DEVICES .*(expected|there are 2|auto stands for all devices)"):
        devices.slots(text)


def test_devices_and_device_do_not_go_together():
    with pytest.raises(InputError, match="DEVICES alone"):
        devices.slots("cpu:2", "cpu")


def test_cells_share_the_threads_unless_the_user_chose(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 7)
    for chosen, at_once, expected in ((None, 1, None), (None, 3, "2"), (None, 9, "1"), ("5", 3, "5")):
        with monkeypatch.context() as changed:
            changed.delenv("OMP_NUM_THREADS", raising=False)
            changed.delenv("MKL_NUM_THREADS", raising=False)
            if chosen:
                changed.setenv("OMP_NUM_THREADS", chosen)
            devices.share_threads(at_once)
            assert os.environ.get("OMP_NUM_THREADS") == expected
            assert Local(["cpu"] * at_once).threads == (expected and int(expected))
            os.environ.pop("OMP_NUM_THREADS", None)
            os.environ.pop("MKL_NUM_THREADS", None)


def test_the_threads_of_the_libraries_are_the_users_where_one_is_set(monkeypatch):
    monkeypatch.setattr("torch.get_num_threads", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "1")
    devices.share_threads(2)
    assert (os.environ.pop("OMP_NUM_THREADS"), os.environ["MKL_NUM_THREADS"]) == ("4", "1")


def test_cells_at_once_share_the_cores_for_their_other_processes(jobs, tmp_path, monkeypatch):
    monkeypatch.delenv("BENCHMARK_CELLS_AT_ONCE", raising=False)
    show = "import os, sys; open(sys.argv[2] + '/SEED.txt', 'w').write(os.environ.get('BENCHMARK_CELLS_AT_ONCE', '-'))"
    for slots, shown in ((["cpu"], "-"), (["cpu", "cpu"], "2")):
        list(Local(slots).submit(jobs(1, show)))
        assert (tmp_path / "0.txt").read_text() == shown


@pytest.fixture
def jobs(tmp_path, cache, monkeypatch):
    """jobs(number, script): jobs whose processes run a script of Python, which has the device as its argument."""

    def make(number: int, script: str) -> list[Job]:
        def command(self, device=None):
            return [sys.executable, "-c", script.replace("SEED", str(self.cell.seed)), str(device), str(tmp_path)]

        monkeypatch.setattr(Job, "command", command)
        return [Job(cell) for cell in cells(setup(tmp_path, cache), ["classical"], [1], list(range(number)))]

    return make


TIMED = """
import sys, time, pathlib
folder = pathlib.Path(sys.argv[2])
began = time.time(); time.sleep(0.4)
(folder / "SEED.txt").write_text(f"{began} {time.time()} {sys.argv[1]}")
sys.exit(SEED % 2)
"""


def test_as_many_cells_at_once_as_slots_and_each_once(jobs, tmp_path, capfd):
    ended = list(Local(["cpu", "cpu"]).submit(jobs(5, TIMED)))
    assert sorted((job.cell.seed, code) for job, code in ended) == [(seed, seed % 2) for seed in range(5)]
    spans = [(tmp_path / f"{seed}.txt").read_text().split() for seed in range(5)]
    assert {device for *_, device in spans} == {"cpu"}
    times = sorted((float(began), float(end)) for began, end, _ in spans)
    at_once = [sum(other[0] <= began < other[1] for other in times) for began, _ in times]
    assert max(at_once) == 2
    assert capfd.readouterr().err.count("=== cell") == 5


def test_one_cell_after_the_other_on_one_device(jobs, tmp_path):
    list(Local(["cuda:3"]).submit(jobs(2, TIMED)))
    (first, second) = [(tmp_path / f"{seed}.txt").read_text().split() for seed in range(2)]
    assert float(first[1]) <= float(second[0]) and first[2] == second[2] == "cuda:3"


@pytest.mark.parametrize(
    "slots, order", [(["cpu"], ["0", "1", "2", "3"]), (["cpu", "cpu"], ["3", "1", "2", "0"])], ids=["one", "two"]
)
def test_of_cells_that_run_at_once_the_longest_begin_first(jobs, capfd, monkeypatch, slots, order):
    """Else the last one may be long, and every other device waits for it."""
    monkeypatch.setattr(local, "load", lambda cell: (0, 7, 7, 9)[cell.seed])
    list(Local(slots).submit(jobs(4, "pass")))
    begun = re.findall(r"=== cell .* seed (\d)", capfd.readouterr().err)
    assert begun == order


def test_what_another_machine_took_meanwhile_is_not_started(jobs, tmp_path):
    one, two = jobs(2, TIMED)
    with two.cell.folder.lock():
        assert [job for job, _ in Local(["cpu"]).submit([one, two])] == [one]
    assert not (tmp_path / "1.txt").exists()


OF_MEMORY = """
import os, signal, sys, time, pathlib
folder = pathlib.Path(sys.argv[2])
mark = folder / f"runs-{os.getpid()}"
mark.touch()
time.sleep(0.5)
beside = [p for p in folder.glob("runs-*") if p != mark]
with open(folder / "SEED.log", "a") as log: log.write(f"{len(beside)}\\n")
time.sleep(0.5)
mark.unlink()
if SEED == 0 and (beside or NEVER): END
"""


@pytest.mark.parametrize("end", ["sys.exit(12)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_cell_that_dies_of_memory_runs_once_more_alone(jobs, tmp_path, capfd, end):
    script = OF_MEMORY.replace("END", end).replace("NEVER", "False")
    ended = list(Local(["cpu", "cpu"]).submit(jobs(3, script)))
    assert [(job.cell.seed, code) for job, code in ended][-1] == (0, 0) and len(ended) == 3
    assert [line != "0" for line in (tmp_path / "0.log").read_text().split()] == [True, False]
    assert "runs alone later" in capfd.readouterr().err


def test_a_cell_that_dies_of_memory_twice_is_named(jobs, tmp_path, capfd):
    script = OF_MEMORY.replace("END", "os.kill(os.getpid(), signal.SIGKILL)").replace("NEVER", "True")
    grid_jobs = jobs(2, script)
    grid_jobs[0].cell.folder.path.mkdir(parents=True)
    assert run_missing([job.cell for job in grid_jobs], Local(["cpu", "cpu"])) == 1
    assert len((tmp_path / "0.log").read_text().split()) == 2
    state, why = state_of(grid_jobs[0].cell)
    assert state == "failed" and "main memory ran out" in why
    assert f"failed: {grid_jobs[0]}: {why}" in capfd.readouterr().err


def test_memory_that_does_not_suffice_has_its_own_exit_code(command_here, tmp_path, monkeypatch):
    def full(*_, **__):
        raise MemoryError("Unable to allocate 24.0 GiB")

    monkeypatch.setattr("benchmark.evaluation.test_set.evaluate", full)
    done = command_here("run", "--method", "classical", results=tmp_path)
    assert done.returncode == 12 and "did not suffice (Unable to allocate 24.0 GiB)" in done.stderr
    (failed,) = tmp_path.rglob("failed.txt")
    assert "classical@debug" in failed.read_text() and "recipe.accumulate" in failed.read_text()


LINES = """
import sys, time
print("a line that stays", file=sys.stderr, flush=True)
for i in range(3): print(f"\\repoch {i}", file=sys.stderr, flush=True)
print("the last words SEED", file=sys.stderr)
"""


def test_lines_of_several_cells_are_told_apart(jobs, capfd, monkeypatch):
    list(Local(["cpu", "cuda:0"]).submit(jobs(2, LINES)))
    printed = capfd.readouterr().err.splitlines()
    for slot in ("cpu", "cuda:0"):
        own = [line.partition(" | ")[2] for line in printed if line.startswith(f"{slot} | ")]
        assert own[0] == "a line that stays" and own[-1].startswith("the last words") and len(own) == 2


def test_a_board_shows_the_last_line_of_each_cell(capsys, monkeypatch):
    monkeypatch.setattr("benchmark.experiment.launchers.board.EVERY", 0)
    with Board(several=True) as board:
        board.begin("cuda:0", "cellvta fold 1")
        board.begin("cuda:1", "hovernet fold 1")
        board.line("cuda:0", "\repoch 1/2: 3/9 updates\n")
        board.line("cuda:0", "\repoch 1/2: 4/9 updates\n")
        board.end("cuda:1")
        board.show("1 of 2 cells ended, about 5 s left")
    assert capsys.readouterr().err.splitlines() == [
        "cuda:0 | cellvta fold 1: epoch 1/2: 4/9 updates",
        "1 of 2 cells ended, about 5 s left",
    ]


def test_on_a_narrow_terminal_names_give_way_to_progress():
    name, state = "synthetic cellvta@debug,points=8 fold 1 seed 0", "epoch 1/2: 4/9 updates, 3 s left"
    assert _row("cpu 1", name, state, None) == f"cpu 1 | {name}: {state}"
    assert _row("cpu 1", name, state, 60) == f"cpu 1 | {name[:17]}…: {state}"
    assert _row("cpu 1", name, state, 20) == f"cpu 1 | {name[:11]}…: {state}"


def test_progress_that_another_process_shows_is_marked(capsys, monkeypatch):
    from benchmark.runtime.progress import Progress

    monkeypatch.setenv(MARKED, "1")
    show = Progress("epoch 1/2:", "updates")
    show(0, 2)
    show(2, 2)
    assert capsys.readouterr().err.startswith("\repoch 1/2: 2/2 updates")


@pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks for processes in /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_to_the_grid_ends_its_cells_too(number, tmp_path, cache):
    script = f"import os, time; open({str(tmp_path)!r} + f'/pid-{{os.getpid()}}', 'w'); time.sleep(60)"
    grid = "import sys; from benchmark.experiment.launchers import base, local; from tests.support.grids import setup; "
    grid += "from benchmark.experiment.grid import cells; "
    grid += f"base.Job.command = lambda self, device=None: [sys.executable, '-c', {script!r}]; "
    grid += f"grid_jobs = cells(setup({str(tmp_path)!r}, {str(cache)!r}), ['classical'], [1], [0, 1]); "
    grid += "list(local.Local(['cpu', 'cpu']).submit([base.Job(cell) for cell in grid_jobs]))"
    process = subprocess.Popen(
        [sys.executable, "-c", grid], cwd=ROOT, stderr=subprocess.DEVNULL, preexec_fn=heeds_interrupts
    )
    try:
        end = time.monotonic() + 60
        while len(pids := [int(path.name[4:]) for path in tmp_path.glob("pid-*")]) < 2:
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        assert process.wait(20) != 0
        end = time.monotonic() + 20  # after SIGKILL the kernel ends them, and nobody waits for them
        while any(is_running(pid) for pid in pids):
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        process.kill()


def test_two_cells_at_once_equal_the_serial_run(ablation, benchmark_command, tmp_path):
    words = [word for word in map(str, ablation.words)]
    words[words.index("--reports") + 1] = str(tmp_path / "reports")
    twice = benchmark_command("ablation", *words, "--devices", "cpu:2", results=tmp_path / "results")
    assert twice.returncode == 2 and "DEVICES alone" in twice.stderr  # the tests' commands name a device
    both = benchmark_command(
        "ablation", *words, "--dataset", TINY, "--preset", "debug", "--devices", "cpu:2", "--cache",
        _cache(ablation), "--results", tmp_path / "results", results=None, data=False,
    )  # fmt: skip
    assert both.returncode == 0, both.stderr
    serial, parallel = file_bytes(ablation.results), file_bytes(tmp_path / "results")
    assert serial.keys() == parallel.keys()
    timed = ("provenance.json", "cost.json", "log.jsonl", "card.md")  # the card has commands of the provenance
    assert all(serial[name] == parallel[name] for name in serial if not name.endswith(timed))
    for name in serial:
        if name.endswith("provenance.json"):
            assert json.loads(parallel[name])["execution"]["threads"] == 1


def _cache(ablation):
    return ablation.results.parents[1] / "cache"
