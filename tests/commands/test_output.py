"""What the command line prints reaches any reader: `| head`, a terminal without Unicode; and what make passes on."""

import os
import shutil
import subprocess
import sys

import pytest

from benchmark.runtime.paths import ROOT
from tests.support.report_runs import make_run, squares


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    squares().save(folder / "stored")
    make_run(folder / "results", folder / "stored")
    return [
        sys.executable,
        "-m",
        "benchmark",
        "table",
        "--results",
        folder / "results",
        "--reports",
        folder / "reports",
    ]


def test_a_reader_that_stops_early_is_no_error(words):
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(words, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert done.returncode == 141 and done.stderr == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_unicode(words, encoding):
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True)
    assert done.returncode == 0 and done.stderr == b""
    assert b"| cellvta" in done.stdout and b"\\u2013" in done.stdout


@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_make_passes_quotes_on(tmp_path):
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    (tmp_path / ".ready").touch()
    os.utime(tmp_path / ".ready", (4e9, 4e9))
    line = ["make", "--no-print-directory", "run", f"VENV={tmp_path}", "METHOD=cellvta", "DATA_ROOT=/o'neil's data"]
    done = subprocess.run([*line, "SET=a='x' b=2"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    given = done.stdout.splitlines()
    assert given[2:] == ["run", "--data-root", "/o'neil's data", "--method", "cellvta", "a='x'", "b=2"]
