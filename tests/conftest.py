"""Shared fixtures (one prepared tiny synthetic dataset for the whole session) and the report on parity at the end."""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
from filelock import FileLock

from benchmark.cli import main
from benchmark.runtime.paths import ROOT
from tests.support import parity, reported
from tests.support.tiny_data import TINY


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory):
    """The temporary folder of the whole session: the same one in every worker of pytest-xdist."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def once(session_folder):
    """once(name, make): a folder that `make(folder)` fills; of all workers the first to ask makes it."""

    def call(name: str, make: Callable[[Path], None]) -> Path:
        folder, complete = session_folder / "once" / name, session_folder / "once" / f"{name}.complete"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.with_suffix(".lock")):
            if not complete.exists():
                make(folder)
                complete.touch()
        return folder

    return call


@pytest.fixture(scope="session")
def cache(once):
    """A cache folder shared by all tests of a session; whoever needs a fold first prepares it, under its lock."""
    return once("cache", lambda folder: None)


def words_of(command, words, cache, results, data) -> list[str]:
    """The command line of `benchmark_command` and `command_here`: on tiny synthetic data unless `data` is false."""
    line = [command]
    if data:
        line += ["--dataset", TINY, "--preset", "debug", "--device", "cpu"]
    if command in ("run", "ablation", "status"):
        line += ["--cache", str(cache), "--results", str(results)]
    return line + list(map(str, words))


@pytest.fixture(scope="session")
def benchmark_command(cache):
    """Run `python -m benchmark …` in its own process on tiny synthetic data: call(command, *words, results=…)."""

    def call(command, *words, results, launcher=("-m", "benchmark"), wait=True, data=True, environment=None):
        line = [sys.executable, *launcher, *words_of(command, words, cache, results, data)]
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **(environment or {})}
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=ROOT)
        if not wait:
            return process
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(line, process.returncode, out, err)

    return call


@pytest.fixture(autouse=True)
def kernels():
    """What a training asks of torch's kernels ends with the test."""
    yield
    plain_kernels()


def plain_kernels() -> None:
    """Torch's own defaults."""
    if torch := sys.modules.get("torch"):
        torch.use_deterministic_algorithms(False)
        torch.utils.deterministic.fill_uninitialized_memory = True
        torch.backends.cudnn.deterministic = torch.backends.cudnn.benchmark = False


@pytest.fixture(scope="session")
def command_here(cache):
    """As `benchmark_command`, but in this process, which has spent the seconds that imports take already."""
    import torch

    def call(command, *words, results, data=True):
        line = words_of(command, words, cache, results, data)
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.dict(os.environ),
            torch.random.fork_rng(devices=[]),
        ):
            code = main(line)
        plain_kernels()
        return subprocess.CompletedProcess(line, code, out.getvalue(), err.getvalue())

    return call


@dataclass(frozen=True)
class Ablation:
    """What the ablation of two methods printed, its words, and the folders of its results and tables."""

    done: subprocess.CompletedProcess
    words: tuple
    results: Path
    reports: Path


@pytest.fixture(scope="session")
def ablation(once, benchmark_command):
    """`ablation` of one epoch in processes, one for each cell; tests read its results and add none."""

    def words(folder):
        return "--methods", "decoder_only", "classical", "--reports", folder / "reports", "recipe.epochs=1"

    def make(folder):
        done = benchmark_command("ablation", *words(folder), results=folder / "results")
        (folder / "done.json").write_text(json.dumps([done.returncode, done.stdout, done.stderr]))

    folder = once("ablation", make)
    done = subprocess.CompletedProcess([], *json.loads((folder / "done.json").read_text()))
    return Ablation(done, words(folder), folder / "results", folder / "reports")


def pytest_sessionfinish(session):
    """Workers hand over their lines: only the process that started them prints."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["lines"] = [list(map(str, parity.LINES)), reported.KERNELS]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    for lines, more in zip((parity.LINES, reported.KERNELS), getattr(node, "workeroutput", {}).get("lines", [])):
        lines += more


def pytest_terminal_summary(terminalreporter):
    """A line per golden of a published model that was held against ours, and per variant of the GPU kernels."""
    if parity.LINES:
        terminalreporter.section("parity with the official implementations")
        for line in parity.LINES:
            terminalreporter.write_line(str(line))
    if reported.KERNELS:
        terminalreporter.section("CUDA kernels compiled by NVRTC, not run")
        for line in reported.KERNELS:
            terminalreporter.write_line(line)
