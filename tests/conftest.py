"""Shared fixtures (one prepared tiny synthetic dataset for the whole session) and the report on parity at the end."""

import os
import subprocess
import sys

import pytest

from benchmark.runtime.paths import ROOT
from tests.support import parity, reported
from tests.support.tiny_data import TINY


@pytest.fixture(scope="session")
def session_folder(tmp_path_factory):
    """The temporary folder of the whole session: the same one in every worker of pytest-xdist."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def cache(session_folder):
    """A cache folder shared by all tests of a session; whoever needs a fold first prepares it, under its lock."""
    folder = session_folder / "shared-cache"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def benchmark_command(cache):
    """Run `python -m benchmark …` in its own process on tiny synthetic data: call(command, *words, results=…)."""

    def call(command, *words, results, launcher=("-m", "benchmark"), wait=True, data=True, environment=None):
        line = [sys.executable, *launcher, command]
        if data:
            line += ["--dataset", TINY, "--preset", "debug", "--device", "cpu"]
        if command in ("run", "ablation", "status"):
            line += ["--cache", str(cache), "--results", str(results)]
        line += map(str, words)
        env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **(environment or {})}
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, cwd=ROOT)
        if not wait:
            return process
        out, err = process.communicate(timeout=300)
        return subprocess.CompletedProcess(line, process.returncode, out, err)

    return call


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
