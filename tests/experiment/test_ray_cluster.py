"""Cells on a real Ray: a cluster of two nodes, one of which is killed, its memory monitor, and grids that are ended."""

import importlib.util
import json
import os
import signal
import subprocess
import sys

import pytest

from benchmark.experiment.launchers import ray as launcher
from tests.support import ray as support
from tests.support.processes import family, is_running, wait
from tests.support.tiny_data import TINY, file_bytes

REQUIRED = "BENCHMARK_CI" in os.environ  # a Ray that can be had is no reason to skip there


@pytest.fixture(scope="module")
def ray_environment():
    if importlib.util.find_spec("ray") is None:
        assert not REQUIRED, "the package ray is not installed"
        pytest.skip("the package ray is not installed")
    with support.environment() as environment:
        yield environment


@pytest.fixture
def cluster(ray_environment):
    """Of a head without CPUs; the test adds nodes."""
    with support.environment() as environment:
        nodes = support.Cluster(environment)
        try:
            yield nodes
        finally:
            nodes.close()


def owners(results) -> list[int]:
    """Processes that run a cell."""
    return [int(path.read_text().split()[-1]) for path in results.rglob("owner.txt")]


@pytest.mark.slow
def test_a_node_is_killed_and_all_cells_end_as_without(benchmark_command, command_here, cluster, tmp_path):
    """A cell trains on each of two nodes, one of which has a GPU that nobody wants."""
    nodes = [cluster.add(gpus=1), cluster.add()]
    results, methods = tmp_path / "results", ("decoder_only", "decoder_only@debug,recipe.optimiser.lr=2e-3")
    words = ("--launcher", "ray", "--ray", cluster.address, "--reports", tmp_path / "reports")
    line = (*words, "--methods", *methods, "classical", "recipe.epochs=6")
    process = benchmark_command("ablation", *line, results=results, environment=cluster.environment, wait=False)
    logs = wait(lambda: [*results.rglob("log.jsonl")][1:] and [*results.rglob("log.jsonl")], process)
    wait(lambda: all(len(log.read_text().splitlines()) >= 2 for log in logs), process)
    on = {node: pid for pid in owners(results) for node in nodes if node.raylet in support.parents(pid)}
    assert len(on) == 2, "each node has a cell"
    nodes[1].kill()
    wait(lambda: not is_running(on[nodes[1]]), process, 120)
    out, err = process.communicate(timeout=400)
    assert process.returncode == 0, err
    assert err.count("tried again (2 of 4)") == 1 and "resuming after epoch" in err and "classical" in out
    assert "3 of 3 cells ran" in err
    for method in (*methods, "classical"):
        done = command_here("run", "--method", method, "recipe.epochs=6", results=tmp_path / "plain")
        assert done.returncode == 0
    plain, here = file_bytes(tmp_path / "plain"), file_bytes(results)
    assert plain.keys() == here.keys()
    timed = ("provenance.json", "cost.json", "log.jsonl", "card.md")  # the card has commands of the provenance
    assert all(plain[name] == here[name] for name in plain if not name.endswith(timed))
    for name in (name for name in plain if name.endswith("log.jsonl")):
        assert without_seconds(plain[name]) == without_seconds(here[name])


def without_seconds(log: bytes) -> list[dict]:
    return [{k: v for k, v in json.loads(line).items() if "seconds" not in k} for line in log.splitlines()]


@pytest.mark.slow
def test_a_cell_that_rays_memory_monitor_ends(benchmark_command, ray_environment, tmp_path):
    environment = ray_environment | {"RAY_memory_monitor_refresh_ms": "100", "RAY_memory_usage_threshold": "0.01"}
    words = ("--methods", "classical")
    line = ("--launcher", "ray", "--reports", tmp_path / "reports", *words)
    done = benchmark_command("ablation", *line, results=tmp_path / "results", environment=environment)
    assert done.returncode == 1, done.stderr
    reason = "Ray ended it because the memory of its node ran out"
    assert done.stderr.count("tried again (2 of 2)") == 1 and "0 of 1 cells ran" in done.stderr
    (failed,) = (tmp_path / "results").rglob("failed.txt")
    assert failed.read_text().startswith(reason)
    listed = benchmark_command("status", *words, results=tmp_path / "results")
    assert f"failed  {TINY} classical@debug fold 1 seed 0  {reason}" in listed.stdout


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_signal_to_the_grid_ends_its_ray_too(benchmark_command, ray_environment, number, tmp_path):
    words = ("--launcher", "ray", "--methods", "decoder_only", "recipe.epochs=500")
    process = benchmark_command(
        "ablation", *words, results=tmp_path, environment=ray_environment, wait=False, launcher=HEEDING
    )
    (cell,) = wait(lambda: owners(tmp_path), process)
    pids = family(process.pid)
    assert cell in pids and len(pids) > 5
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == (-9 if number == signal.SIGKILL else 130)
    wait(lambda: not is_running(cell), seconds=120)
    wait(lambda: not any(map(is_running, pids)), seconds=120 if number != signal.SIGKILL else 200)  # its agents dawdle
    assert not list(tmp_path.rglob("failed.txt")), "the same command continues"


# as `-m benchmark`, heeding Ctrl-C also where the tests run in a shell's background
HEEDING = ("-c", "import signal; signal.signal(2, signal.default_int_handler); import benchmark.__main__")


@pytest.mark.slow
def test_a_grid_that_is_killed_leaves_nothing_on_a_cluster(benchmark_command, cluster, tmp_path):
    cluster.add()
    words = ("--launcher", "ray", "--ray", cluster.address, "--methods", "decoder_only", "recipe.epochs=500")
    process = benchmark_command("ablation", *words, results=tmp_path, environment=cluster.environment, wait=False)
    (cell,) = wait(lambda: owners(tmp_path), process)
    process.kill()
    process.communicate(timeout=60)
    wait(lambda: not is_running(cell), seconds=120)


@pytest.mark.slow
def test_a_cluster_without_what_a_cell_needs(benchmark_command, cluster, tmp_path):
    cluster.add()
    words = ("--launcher", "ray", "--ray", cluster.address, "--methods", "classical", "--device", "cuda")
    done = benchmark_command("ablation", *words, results=tmp_path, environment=cluster.environment)
    assert done.returncode == 2 and done.stderr.strip().splitlines()[-1] == (
        "error: --device is cuda and the Ray cluster has no GPU; add a node with one, or give --device cpu."
    )
    assert not list(tmp_path.rglob("owner.txt"))


def test_what_is_sent_to_a_node_imports_nothing_of_ours(ray_environment, tmp_path):
    """A node that lacks the package can say so, and its workers stay small."""
    cloudpickle, sent = importlib.import_module("ray.cloudpickle"), []
    fake = support.module({})
    fake.cloudpickle, fake.remote = cloudpickle, lambda function: sent.append(cloudpickle.dumps(function))
    launcher.Tasks(fake, [], fixed=True)
    check = "import pickle, sys; function = pickle.load(sys.stdin.buffer); assert function.__name__ == '_run'; "
    check += "print(function([], {}, ['/of/another'])[2]); assert not {'benchmark', 'torch'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", check], input=sent[0], capture_output=True, cwd=tmp_path)
    assert done.returncode == 0 and b"does not see the folder /of/another" in done.stdout, done.stderr
