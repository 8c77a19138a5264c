"""Cells on a real Slurm, started here: the array, the queue, requeues, and jobs that end by another's hand."""

import contextlib
import json
import os
import re
import subprocess

import pytest

from benchmark.results.run_folder import RunFolder
from benchmark.runtime.files import read_json, write_json
from tests.support import slurm as support
from tests.support.processes import wait
from tests.support.tiny_data import TINY, file_bytes

launcher = pytest.importorskip("benchmark.experiment.launchers.slurm")


@pytest.fixture(scope="module")
def submitit():
    return support.submitit()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory, submitit):
    """The environment in which Slurm's commands speak to a cluster of this machine."""
    if reason := support.lacking():
        assert not (support.REQUIRED and os.geteuid() == 0), reason
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


def wait_for_requeue(ask, job: str, process) -> None:
    """And have it begin at once: Slurm lets a requeued job wait for two minutes."""
    wait(lambda: "Restarts=1" in ask("scontrol", "show", "job", job), process=process)
    wait(lambda: "COMPLETING" not in ask("squeue", "-h", "-r", "-o", "%T", "--jobs", job), process=process)
    ask("scontrol", "update", f"jobid={job}", "starttime=now")


def preempt(ask, job: str) -> None:
    """A job of a partition that comes first takes the node."""
    ask("sbatch", "-p", "urgent", "--gpus-per-node=2", "--output=/dev/null", "--wrap", "sleep 2")


@pytest.mark.slow
@pytest.mark.parametrize(
    "tell",
    [
        lambda ask, job: ask("scancel", "--signal=USR2", job),
        lambda ask, job: ask("scancel", "--signal=TERM", job),
        preempt,
    ],
    ids=["USR2", "TERM", "preempted"],
)
def test_a_warned_job_is_requeued_and_continues_bit_equal(submitting, benchmark_command, ask, tmp_path, tell):
    changes = ("recipe.epochs=40", "recipe.eval_every=40")
    words = ("--methods", "decoder_only", *changes)
    process = submitting(*words, results=tmp_path / "slurm", wait=False)
    name = "decoder_only@debug,recipe.epochs=40,recipe.eval_every=40"
    log = tmp_path / "slurm" / TINY / name / "fold1-seed0" / "log.jsonl"
    wait(lambda: log.exists() and len(log.read_text().splitlines()) >= 2, process=process)
    job = ask("squeue", "-h", "-r", "-o", "%i").strip()
    tell(ask, job)
    wait_for_requeue(ask, job, process)
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
def test_a_running_job_that_is_cancelled_by_hand_is_not_requeued(submitting, ask, tmp_path):
    process = submitting("--methods", "decoder_only", "recipe.epochs=200", results=tmp_path / "results", wait=False)
    wait(lambda: list((tmp_path / "results").rglob("log.jsonl")), process=process)
    job = ask("squeue", "-h", "-r", "-o", "%i").strip()
    ask("scancel", job)
    wait(lambda: not ask("squeue", "-h", "-r"))
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1 and f"job {job} left the queue before its cell had ended" in err, err
    logs = "".join(path.read_text() for path in (tmp_path / "results" / launcher.FOLDER).glob("*_log.*"))
    assert "Requeued" not in logs and logs.count("Loading pickle") == 1, logs


@pytest.mark.slow
def test_a_stale_cell_is_queued_once_and_run_anew(submitting, benchmark_command, cluster, drained, ask, tmp_path):
    results, words = tmp_path / "results", ("--methods", "classical")
    assert benchmark_command("run", "--method", "classical", results=results).returncode == 0
    (path,) = results.rglob("metrics.json")
    stored = read_json(path)
    stored["identity"]["method_version"] = 0
    write_json(path, stored)
    RunFolder(path.parent).list_files()
    drained()
    process = submitting(*words, "--stale", "rerun", results=results, wait=False)
    wait(lambda: path.with_name("queued.txt").exists(), process=process)
    listed = benchmark_command("status", *words, results=results, environment=cluster)
    assert re.search("^queued .*PENDING.*the stored result is stale", listed.stdout, re.MULTILINE), listed.stdout
    again = submitting(*words, "--stale", "rerun", "--detach", results=results)
    assert again.returncode == 0 and "Nothing to run" in again.stderr and "queued: " in again.stderr, again.stderr
    assert len(ask("squeue", "-h", "-r").splitlines()) == 1
    drained.over()
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0 and "1 of 1 cells ran" in err, err
    assert read_json(path)["identity"]["method_version"] != 0 and list((results / "_stale").rglob("metrics.json"))


@pytest.mark.slow
def test_a_cell_on_two_nodes_is_requeued_and_continues(submitting, ask, tmp_path):
    """A process on each; what torchrun makes of SIGTERM is its own code."""
    words = ("--methods", "decoder_only", "recipe.epochs=40", "recipe.eval_every=40")
    asked = ("--slurm", "partition=pair nodes=2 time=60")
    process = submitting(*words, *asked, results=tmp_path / "results", wait=False)

    def log_of_two_epochs():  # the checkpoint of the first is written then
        return [path for path in (tmp_path / "results").rglob("log.jsonl") if path.read_text().count("\n") >= 2]

    (log,) = wait(log_of_two_epochs, process=process)
    job = ask("squeue", "-h", "-r", "-o", "%i").strip()
    ask("scancel", "--signal=TERM", job)
    wait_for_requeue(ask, job, process)
    _, err = process.communicate(timeout=500)
    assert process.returncode == 0, err
    logs = "".join(path.read_text() for path in (tmp_path / "results" / launcher.FOLDER).glob("*_log.err"))
    assert "resuming after epoch" in logs
    assert read_json(log.with_name("cost.json"))["processes"] == 2


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
