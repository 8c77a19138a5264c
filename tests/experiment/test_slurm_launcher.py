"""The launcher for Slurm without one: its words, what it submits, the queue, and a node that is told to leave."""

import argparse
import re
import shutil
import signal
import subprocess
import sys

import pytest

from benchmark.commands._options import written_tables
from benchmark.experiment import queue
from benchmark.experiment.grid import cells
from benchmark.experiment.launch import run_missing
from benchmark.experiment.launchers.base import Job
from benchmark.experiment.state import state_of
from benchmark.methods.registry import method_class
from benchmark.results import training_log
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.errors import InputError
from tests.support import slurm as support
from tests.support.grids import setup

launcher = pytest.importorskip("benchmark.experiment.launchers.slurm")


@pytest.fixture(scope="module")
def submitit():
    return support.submitit()


# ---- words


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("90", 90), ("4:00:00", 240), ("0:30", 1), ("90:01", 91), ("2-12", 3600), ("1-0:30", 1470), ("1-00:00:30", 1441)],
)
def test_times_as_slurm_writes_them(submitit, text, minutes):
    assert launcher.parse(f"time={text}") == {"time": minutes}


def test_options_of_sbatch(submitit):
    text = "partition=gpu gpus_per_node=2 --cpus-per-task=8 mem=32GB"
    assert launcher.parse(text) == {"partition": "gpu", "gpus_per_node": 2, "cpus_per_task": 8, "mem": "32GB"}
    assert launcher.parse(None) == {}


@pytest.mark.parametrize(
    "text",
    "gpu|partition=|partitoin=gpu|time=soon|time=1:2:3:4|time=-x|time=²|exclusive=no|time=8:00:00 time=9".split("|"),
)
def test_words_that_are_no_option(submitit, text):
    with pytest.raises(InputError, match="SLURM"):
        launcher.parse(text)


@pytest.mark.parametrize(
    "word",
    "nodes=1-2 nodes=0 cpus_per_task=x array_parallelism=-1 signal_delay_s=1m mem=lots "
    "gpus_per_node=a100 gpus_per_node=a100:x gpus_per_node=:1 gpus_per_node=1-2".split(),
)
def test_values_of_another_form(word):
    with pytest.raises(InputError, match=f"^SLURM says {word}; expected "):
        launcher.parse(word)


def test_a_type_of_gpu_stands_before_their_number(submitit, tmp_path):
    options = launcher.parse("gpus_per_node=a100:2 exclusive=True")
    assert options == {"gpus_per_node": "a100:2", "exclusive": True}
    assert launcher.Slurm(options, tmp_path).processes == 2


@pytest.mark.parametrize(
    ("word", "instead"),
    [(word, "gpus_per_node") for word in ("gres=gpu:1", "num_gpus=1", "gpus_per_task=1", "ntasks_per_node=4")]
    + [("cpus_per_gpu=4", "cpus_per_task")]
    + [(word, "It takes account, ") for word in ("setup=x", "teardown=x", "srun_args=-n2", "use_srun=False")]
    + [(word, "It takes account, ") for word in ("stderr_to_stdout=1", "additional_parameters=x")],
)
def test_options_that_would_undo_what_the_launcher_does(word, instead):
    with pytest.raises(InputError, match=f"SLURM names '{word.partition('=')[0]}', which is not taken.*{instead}"):
        launcher.parse(word)


def test_every_option_is_one_of_submitit(submitit):
    assert set(launcher.OPTIONS) < set(submitit.slurm.slurm._get_default_parameters())


def test_a_cell_on_several_processes_goes_through_torchrun(monkeypatch):
    command = ["python", "-m", "benchmark", "run", "--request", "{}"]
    assert launcher.Task(command, "folder", 1, 1).line() == command
    line = launcher.Task(command, "folder", 1, 4).line()
    assert line[:3] == ["python", "-m", "torch.distributed.run"] and line[-5:] == command[1:]
    assert "--nproc-per-node=4" in line and "--standalone" in line
    monkeypatch.setenv("SLURM_JOB_ID", "40007")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "node[3-4]")
    answer = subprocess.CompletedProcess([], 0, "node3\nnode4\n")
    monkeypatch.setattr(launcher.subprocess, "run", lambda *_, **__: answer)
    line = launcher.Task(command, "folder", 2, 4).line()
    assert {"--nnodes=2", "--nproc-per-node=4", "--rdzv-endpoint=node3:20007", "--rdzv-id=40007"} < set(line)


# ---- what the queue says


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """squeue(script): the program of this name is this shell script."""

    def replace(script: str) -> None:
        (tmp_path / "squeue").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "squeue").chmod(0o755)
        queue.forget()

    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    yield replace
    queue.forget()


def test_a_cell_is_queued_as_long_as_slurm_knows_its_job(squeue, tmp_path, cache):
    (cell,) = cells(setup(tmp_path / "results", cache), ["classical"])
    cell.folder.path.mkdir(parents=True)
    cell.folder.queue("17_3")
    squeue("echo '17_2|RUNNING|None'; echo '17_3|PENDING|Resources'")
    assert state_of(cell) == ("queued", "job 17_3, PENDING (Resources)")
    squeue("echo '17_2|RUNNING|None'")
    assert state_of(cell).name == "missing", "the array goes on without it"
    squeue("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert state_of(cell).name == "missing", "Slurm has forgotten the array"
    squeue("echo 'Unable to contact slurm controller' >&2; exit 1")
    assert state_of(cell) == ("queued", "job 17_3, squeue cannot be asked here"), "not submitted twice"
    with cell.folder.lock():
        assert state_of(cell).name == "running"


def test_the_queue_is_asked_once_for_an_array(squeue, tmp_path):
    squeue(f"echo asked >> {tmp_path}/log; echo '17_0|PENDING|None'; echo '17_1|RUNNING|None'")
    assert [queue.word_on(job) for job in ("17_0", "17_1", "17_2")] == ["PENDING", "RUNNING", None]
    assert (tmp_path / "log").read_text().split() == ["asked"]


def test_who_cannot_ask_is_told_where_and_what_else(tmp_path, cache, monkeypatch):
    (cell,) = cells(setup(tmp_path / "results", cache), ["classical"])
    cell.folder.path.mkdir(parents=True)
    cell.folder.queue("17_3")
    monkeypatch.setenv("PATH", str(tmp_path))
    queue.forget()
    state = state_of(cell)
    queue.forget()
    assert state.name == "queued" and "ask on the cluster, or delete queued.txt" in state.why


def test_a_stored_result_hides_neither_queue_nor_process(ablation, squeue, tmp_path, cache, monkeypatch):
    """A stale or a damaged result whose cell is to be run anew."""
    (old,) = cells(setup(ablation.results, cache), ["classical"])
    (cell,) = cells(setup(tmp_path / "results", cache), ["classical"])
    shutil.copytree(old.folder.path, cell.folder.path)
    cell.folder.queue("17_0")
    squeue("echo '17_0|PENDING|Resources'")
    assert state_of(cell).name == "done"
    monkeypatch.setattr(method_class("classical"), "version", 99)
    (cell,) = cells(setup(tmp_path / "results", cache), ["classical"])
    state = state_of(cell)
    assert state.name == "queued" and "17_0" in state.why and "is stale: method_version: 1 -> 99" in state.why
    folders = argparse.Namespace(results=tmp_path / "results", reports=tmp_path / "reports")
    assert f"Stale: {cell.run} (method_version: 1 -> 99)" in written_tables(folders, [cell]), "its scores are shown"
    with cell.folder.lock():
        assert state_of(cell).name == "running"
    assert state_of(cell, locked=True).name == "stale"
    squeue("exit 0")
    assert state_of(cell).name == "stale", "Slurm has forgotten the job"
    cell.folder.metrics.write_text("{")
    assert state_of(cell).name == "failed"
    squeue("echo '17_0|PENDING|Resources'")
    assert state_of(cell).name == "queued"


# ---- what is submitted


@pytest.fixture
def sbatch(squeue, submitit, tmp_path):
    """sbatch(most): takes so many arrays, as jobs 1, 2, …, and keeps their scripts as N.sh; `queued` is what waits."""

    def replace(most: int) -> None:
        squeue(f'for i in 1 2 3; do test -e {tmp_path}/$i.sh && echo "$i|PENDING|JobHeldUser"; done; exit 0')
        for name, script in {
            "srun": "exit 1",
            "sbatch": f"n=$(( $(ls {tmp_path} | grep -c '^[0-9]*.sh$') + 1 ))\n"
            f"test $n -le {most} || {{ echo 'QOSMaxSubmitJobPerUserLimit' >&2; exit 1; }}\n"
            f"cp $1 {tmp_path}/$n.sh; echo Submitted batch job $n",
        }.items():
            (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
            (tmp_path / name).chmod(0o755)

    return replace


def test_what_was_not_asked_for_is_set_and_said(sbatch, tmp_path, cache, capsys, monkeypatch):
    """The processor and one thread a cell; what is submitted without waiting is counted."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    sbatch(1)
    (cell,) = cells(setup(tmp_path / "results", cache), ["classical"])
    assert run_missing([cell], launcher.Slurm({}, tmp_path / "results", detach=True)) == 0
    err = capsys.readouterr().err
    assert "slurm: 1 cells submitted as job 1" in err and "cells ran" not in err
    assert "no gpus_per_node: the cells train on the processor" in err and "no cpus_per_task: one thread a cell" in err
    script = (tmp_path / "1.sh").read_text()
    assert {"#SBATCH --cpus-per-task=1", "#SBATCH --requeue", "#SBATCH --time=1440"} < set(script.splitlines())
    assert re.search("^srun .*--cpus-per-task=1 ", script, re.MULTILINE)
    (task,) = (tmp_path / "results" / launcher.FOLDER).glob("*_submitted.pkl")
    assert b'"device": "cpu"' in task.read_bytes()


def test_threads_are_the_users_or_those_that_slurm_gives(warned, tmp_path, monkeypatch):
    """Of a cell, and of what is made for all cells before them."""
    options = launcher.parse("gpus_per_node=a100:2 cpus_per_task=8")
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "8")
    shown = [sys.executable, "-c", "import os; raise SystemExit(int(os.environ['OMP_NUM_THREADS']))"]
    for of_user, alone, shared in ((None, 8, 4), ("3", 3, 3)):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if of_user:
            monkeypatch.setenv("OMP_NUM_THREADS", of_user)
        assert launcher.Task(shown, str(tmp_path), 1, 1)() == alone
        assert launcher.Slurm(options, tmp_path).threads == shared
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert launcher.Slurm({}, tmp_path).threads == launcher.Slurm({"gpus_per_node": 2}, tmp_path).threads == 1


def test_what_was_asked_for_is_not_said(sbatch, tmp_path, cache, capsys):
    sbatch(1)
    (cell,) = cells(setup(tmp_path / "results", cache), ["classical"])
    options = launcher.parse("gpus_per_node=2 cpus_per_task=8 time=30")
    assert not list(launcher.Slurm(options, tmp_path / "results", detach=True).submit([Job(cell)]))
    assert capsys.readouterr().err.splitlines() == ["slurm: 1 cells submitted as job 1"]
    script = (tmp_path / "1.sh").read_text()
    assert {"#SBATCH --cpus-per-task=8", "#SBATCH --gpus-per-node=2", "#SBATCH --time=30"} < set(script.splitlines())
    (task,) = (tmp_path / "results" / launcher.FOLDER).glob("*_submitted.pkl")
    assert b'"device": "auto"' in task.read_bytes()


def test_a_second_array_that_slurm_refuses_leaves_word_of_the_first(sbatch, tmp_path, cache, monkeypatch, capfd):
    sbatch(1)
    monkeypatch.setattr(launcher, "LARGEST", 1)
    chosen = cells(setup(tmp_path / "results", cache), ["classical", "decoder_only"])
    with pytest.raises(InputError, match=r"took 1 of 2 cells, which are queued as job 1, and no more \(.*QOSMaxSubmit"):
        list(launcher.Slurm({}, tmp_path / "results").submit(list(map(Job, chosen))))
    assert [state_of(cell).name for cell in chosen] == ["queued", "missing"]
    assert "QOSMaxSubmit" not in capfd.readouterr().err, "it is said once, by the error"
    kept = [
        path.name for path in (tmp_path / "results" / launcher.FOLDER).iterdir() if launcher.WAITS.fullmatch(path.name)
    ]
    assert len(kept) == 1 and kept[0].endswith(".sh"), "what was written for the array that Slurm refused is gone"


def test_the_summary_has_slurms_reasons(sbatch, tmp_path, cache):
    sbatch(1)
    (cell,) = cells(setup(tmp_path / "results", cache), ["classical"])
    list(launcher.Slurm({}, tmp_path / "results", detach=True).submit([Job(cell)]))
    line = launcher._summary({"1": Job(cell)}, 3)
    assert line == "slurm: 2 of 3 cells ended, 0 running, 1 queued (1 PENDING (JobHeldUser))"


# ---- what a node does when it is told to leave


@pytest.fixture
def warned(monkeypatch, submitit):
    """warned: the signals by which submitit was asked to requeue job 17_3; warned.word is what Slurm says of it."""

    class Warned(list):
        word: str | None = "RUNNING"

    asked = Warned()
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")
    for name, value in {"JOB_ID": "40", "ARRAY_JOB_ID": "17", "ARRAY_TASK_ID": "3"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setattr(launcher.queue, "word_on", lambda job: asked.word if job == "17_3" else "of another job")
    monkeypatch.setattr(launcher.time, "sleep", lambda seconds: None)
    previous = signal.signal(signal.SIGUSR2, lambda number, frame: asked.append(number))
    yield asked
    signal.signal(signal.SIGUSR2, previous)


TOLD = "import os, signal; os.kill(os.getppid(), signal.SIGTERM); "  # as Slurm does, the parent too
PLAIN, TORCHRUN = TOLD + "os.kill(os.getpid(), signal.SIGTERM)", TOLD + "raise SystemExit(1)"


@pytest.mark.parametrize("code", [PLAIN, TORCHRUN], ids=["plain", "torchrun"])
@pytest.mark.parametrize(
    ("word", "again"),
    [("RUNNING", True), (queue.UNKNOWN, True), ("COMPLETING", False), ("PENDING (BeginTime)", False), (None, False)],
)
def test_a_job_that_is_told_to_end_is_requeued_unless_slurm_ends_it(warned, tmp_path, code, word, again):
    warned.word = word
    assert launcher.Task([sys.executable, "-c", code], str(tmp_path), 1, 1)() in (-signal.SIGTERM, 1)
    assert warned == ([signal.SIGUSR2] if again else [])


def test_a_cell_that_ends_by_itself_is_not_requeued(warned, tmp_path):
    for code in (0, 1):
        told = TOLD if code == 0 else ""  # it was done before it was told
        assert launcher.Task([sys.executable, "-c", f"{told}raise SystemExit({code})"], str(tmp_path), 1, 1)() == code
    assert warned == []


def test_requeues_without_an_epoch_end(warned, submitit, tmp_path):
    """Three, and then one sentence; an epoch begins the count anew."""
    log = RunFolder(tmp_path).log
    task = launcher.Task([sys.executable, "-c", PLAIN], str(tmp_path), 1, 1, minutes=60)
    epochs, counts = iter((0, 0, 1, 1, 1, 1)), []

    def requeue(number, frame):
        training_log.write(log, [{"epoch": i} for i in range(next(epochs))])
        assert isinstance(task.checkpoint(), submitit.helpers.DelayedSubmission)
        counts.append(task.stuck)

    signal.signal(signal.SIGUSR2, requeue)
    for _ in range(6):
        task()
    assert counts == [1, 2, 0, 1, 2, 3]

    def refused(number, frame):
        assert task.checkpoint() is None
        raise submitit.core.utils.UncompletedJobError("Job not requeued")

    signal.signal(signal.SIGUSR2, refused)
    with pytest.raises(submitit.core.utils.UncompletedJobError):
        task()
    (line,) = RunFolder(tmp_path).failed.read_text().splitlines()
    assert line.startswith("requeued 3 times without one more epoch: an epoch") and "time=60 minutes" in line
