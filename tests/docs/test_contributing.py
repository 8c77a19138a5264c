"""CONTRIBUTING.md's examples work: its files are written into a copy of the code, its commands run there."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from benchmark.runtime.paths import ROOT

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (Add .*?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))


def files_of(section: str) -> dict[str, str]:
    """Name -> content of the files that the section's blocks name in their first line."""
    blocks = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    return {re.match(r"# (\S+\.py)\n", block)[1]: block for block in blocks}


def commands_of(section: str) -> list[str]:
    shells = re.findall(r"^```sh\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    return [line for shell in shells for line in shell.splitlines()]


@pytest.fixture
def checkout(tmp_path):
    """A copy of the code: what is written there changes nothing here."""
    ignored = shutil.ignore_patterns("__pycache__", "golden")
    for folder in ("benchmark", "experiments", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    return tmp_path


def run(line: str, folder) -> str:
    """Output of one of the page's commands, which must succeed."""
    program, *words = shlex.split(line, comments=True)
    assert program == "python", f"the test can only run python, found: {line}"
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("BENCHMARK_", "PYTEST_")) and k != "PYTHONPATH"}
    env = {**kept, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_there_are_four_examples():
    assert list(SECTIONS) == ["Add a method", "Add a data set", "Add a protocol", "Add an experiment"]


@pytest.mark.parametrize("title", SECTIONS)
def test_example(title, checkout):
    written = files_of(SECTIONS[title])
    for name, content in written.items():
        assert not (checkout / name).exists(), f"{name} exists already"
        (checkout / name).write_text(content, encoding="utf-8")
    for words in ("check", "format --check"):
        run(shlex.join(["python", "-m", "ruff", *words.split(), "--no-cache", *written]), checkout)
    printed = [run(line, checkout) for line in commands_of(SECTIONS[title])]
    finished = checkout.glob("results/*/*/*/metrics.json")
    results = {p.parent.relative_to(checkout / "results").as_posix() for p in finished}
    expected = {
        "Add a method": {"synthetic@patches=6/mine@debug/fold1-seed0"},
        "Add a data set": {"mystudy/classical@debug/fold2-seed0"},
        "Add a protocol": {"synthetic@patches=6/classical@debug/fold1-seed0"},
        "Add an experiment": set(),
    }
    assert results == expected[title]
    shown = {
        "Add a method": r"\d+ passed",
        "Add a data set": r"folds 1 \(6 images\), 2 \(6 images\), 3 \(6 images\); 2 types",
        "Add a protocol": r"protocol `counting` version 1[\s\S]*count_error",
        "Add an experiment": r"missing +\S+ cellvta@debug,points=8 fold 1 seed 1",
    }
    assert re.search(shown[title], "\n".join(printed)), printed
