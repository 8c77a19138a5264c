"""Cells on a real Slurm, started here: the array, the queue, requeues, and jobs that end by another's hand."""

import contextlib
import json
import os
import subprocess

import pytest

from benchmark.experiment import queue
from benchmark.experiment.grid import cells
from benchmark.experiment.state import state_of
from benchmark.runtime.errors import InputError
from tests.support import slurm as support
from tests.support.grids import setup
from tests.support.processes import wait
from tests.support.tiny_data import TINY, file_bytes

launcher = pytest.importorskip("benchmark.experiment.launchers.slurm")
REQUIRED = "BENCHMARK_CI" in os.environ  # a Slurm that can be had is no reason to skip there


@pytest.fixture(scope="module")
def submitit():
    if REQUIRED:
        import submitit
    else:
        submitit = pytest.importorskip("submitit")
    return submitit


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


@pytest.mark.parametrize("text", ["gpu", "partition=", "partitoin=gpu", "time=soon", "time=1:2:3:4", "time=-x"])
def test_words_that_are_no_option(submitit, text):
    with pytest.raises(InputError, match="SLURM"):
        launcher.parse(text)


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


# ---- a real one


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, submitit):
    """The environment in which Slurm's commands speak to a cluster of this machine."""
    if reason := support.lacking():
        assert not (REQUIRED and os.geteuid() == 0), reason
        pytest.skip(f"no Slurm: {reason}")
    stack = contextlib.ExitStack()
    try:
        environment = stack.enter_context(support.cluster(tmp_path_factory.mktemp("slurm")))
    except PermissionError as error:  # makes no device files: the one reason that counts everywhere
        pytest.skip(f"no Slurm: the kernel refuses mknod ({error})")
    with stack:
        yield environment


@pytest.fixture
def ask(cluster):
    """ask(*words): what a command of Slurm prints."""

    def call(*words) -> str:
        done = subprocess.run(list(map(str, words)), env=cluster, capture_output=True, text=True)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout

    return call


@pytest.fixture
def drained(ask):
    """drained(): no job starts from now on; drained.over(): they do."""
    host = ask("sinfo", "-h", "-o", "%N").strip()

    class Drained:
        held = False

        def __call__(self):
            ask("scontrol", "update", f"nodename={host}", "state=drain", "reason=test")
            self.held = True

        def over(self):
            if self.held:
                ask("scontrol", "update", f"nodename={host}", "state=resume")
            self.held = False

    yield (node := Drained())
    node.over()


@pytest.fixture
def submitting(benchmark_command, cluster):
    """submitting(*words, results=…): `ablation` on the Slurm."""

    def call(*words, results, **options):
        line = ("--launcher", "slurm", "--slurm", "gpus_per_node=1 time=60", "--reports", results.parent / "reports")
        return benchmark_command("ablation", *line, *words, results=results, environment=cluster, **options)

    return call


@pytest.mark.slow
def test_an_array_runs_every_cell_once(submitting, ablation, benchmark_command, cluster, drained, ask, tmp_path):
    """Queued while no node is free, submitted once, and with the bytes of the serial run in the end."""
    results = tmp_path / "results"
    drained()
    words = ("--methods", "decoder_only", "classical", "recipe.epochs=1")
    first = submitting(*words, "--detach", results=results)
    assert first.returncode == 0, first.stderr
    jobs = [line.split("|") for line in ask("squeue", "-h", "-r", "-o", "%i|%T|%b").splitlines()]
    assert len(jobs) == 2 and len({job.partition("_")[0] for job, *_ in jobs}) == 1, "one array, one task a cell"
    assert all("gpu" in gpus for *_, gpus in jobs)
    listed = benchmark_command("status", *words[:3], *words[3:], results=results, environment=cluster)
    assert listed.stdout.count("queued ") == 2 and f"job {jobs[0][0]}, PENDING" in listed.stdout
    again = submitting(*words, "--detach", results=results)
    assert again.returncode == 0 and "Nothing to run" in again.stderr and again.stderr.count("queued: ") == 2
    assert len(ask("squeue", "-h", "-r").splitlines()) == 2, "nothing is submitted twice"
    drained.over()
    wait(lambda: not ask("squeue", "-h", "-r"))
    serial, here = file_bytes(ablation.results), file_bytes(results)
    here = {name: content for name, content in here.items() if not name.startswith(launcher.FOLDER)}
    assert serial.keys() == here.keys()
    timed = ("provenance.json", "cost.json", "log.jsonl", "card.md")  # the card has commands of the provenance
    assert all(serial[name] == here[name] for name in serial if not name.endswith(timed))


@pytest.mark.slow
def test_a_warned_job_is_requeued_and_continues_bit_equal(submitting, benchmark_command, ask, tmp_path):
    changes = ("recipe.epochs=12", "recipe.eval_every=12")
    words = ("--methods", "decoder_only", *changes)
    process = submitting(*words, results=tmp_path / "slurm", wait=False)
    name = "decoder_only@debug,recipe.epochs=12,recipe.eval_every=12"
    log = tmp_path / "slurm" / TINY / name / "fold1-seed0" / "log.jsonl"
    wait(lambda: log.exists() and len(log.read_text().splitlines()) >= 2, process=process)
    job = ask("squeue", "-h", "-r", "-o", "%i").strip()
    ask("scancel", "--signal=USR2", job)
    wait(lambda: "Restarts=1" in ask("scontrol", "show", "job", job), process=process)
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    logs = "".join(path.read_text() for path in (tmp_path / "slurm" / launcher.FOLDER).glob("*_log.err"))
    assert "resuming after epoch" in logs and "decoder_only" in out
    plain = benchmark_command("run", "--method", "decoder_only", *changes, results=tmp_path / "plain")
    assert plain.returncode == 0
    for name in ("metrics.json", "predictions.npz", "weights.safetensors", "nuclei.parquet"):
        assert log.with_name(name).read_bytes() == next((tmp_path / "plain").rglob(name)).read_bytes(), name


@pytest.mark.slow
def test_a_job_that_is_cancelled_by_hand_is_named(submitting, drained, ask, benchmark_command, cluster, tmp_path):
    drained()
    words = ("--methods", "classical")
    process = submitting(*words, results=tmp_path / "results", wait=False)
    job = wait(lambda: ask("squeue", "-h", "-r", "-o", "%i").strip(), process=process)
    (mark,) = wait(lambda: list((tmp_path / "results").rglob("queued.txt")), process=process)
    assert mark.read_text().strip() == job
    ask("scancel", job)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1 and f"job {job} left the queue before its cell had ended" in err, err
    listed = benchmark_command("status", *words, results=tmp_path / "results", environment=cluster)
    assert "failed " in listed.stdout and "left the queue" in listed.stdout


@pytest.mark.slow
def test_one_process_of_a_cell_on_each_gpu_of_a_node(submitting, cluster, tmp_path):
    words = ("--methods", "decoder_only", "recipe.epochs=1", "--slurm", "gpus_per_node=2")
    done = submitting(*words, results=tmp_path / "results")
    assert done.returncode == 0, done.stderr
    (cost,) = (tmp_path / "results").rglob("cost.json")
    assert json.loads(cost.read_text())["processes"] == 2


@pytest.mark.slow
def test_options_that_sbatch_refuses_are_one_sentence(submitting, tmp_path):
    done = submitting("--methods", "classical", "--slurm", "partition=none", results=tmp_path / "results")
    assert done.returncode == 2 and "error: Slurm took no job" in done.stderr and "partition" in done.stderr.lower()
    assert not list((tmp_path / "results").rglob("queued.txt"))
