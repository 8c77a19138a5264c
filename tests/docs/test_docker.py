"""Dockerfile: what can be held without a daemon. That it builds and what the image does has not been seen."""

import re
import shlex
import subprocess
import tomllib
from fnmatch import fnmatch

import pytest

from benchmark.runtime.paths import ROOT

TEXT = (ROOT / "Dockerfile").read_text(encoding="utf-8")
LINES = [line for line in TEXT.replace("\\\n", "").splitlines() if line and not line.startswith("#")]
STEPS = [tuple(line.split(maxsplit=1)) for line in LINES]
PAGE = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")


def of(word: str) -> list[str]:
    return [rest for name, rest in STEPS if name == word]


def test_only_known_instructions_and_one_pinned_base():
    assert {name for name, _ in STEPS} == {"FROM", "RUN", "WORKDIR", "COPY", "ARG", "ENV", "ENTRYPOINT", "CMD"}
    assert STEPS[0][0] == "FROM" and len(of("FROM")) == 1
    version = re.fullmatch(r"python:(3\.\d+)\.\d+-slim-\w+", of("FROM")[0])
    assert version, "an exact version of Python on a named Debian"
    exact = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()[0]
    assert f"Python {version[1]}," in exact, "the one that the exact versions were tested with"


def test_what_is_copied_is_there_and_is_all_that_the_installation_reads():
    copied = {name for rest in of("COPY") for name in rest.split()[:-1]}
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for name in copied:
        assert (ROOT / name).exists(), name
        assert not any(fnmatch(name, pattern) for pattern in ignored), f"{name} is in .dockerignore"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    grafted = re.findall(r"^(?:graft|include) (\S+)$", (ROOT / "MANIFEST.in").read_text(encoding="utf-8"), re.MULTILINE)
    needed = {"pyproject.toml", "setup.py", "MANIFEST.in", "benchmark", project["readme"], *grafted}
    assert needed <= copied, "setuptools reads them"


def test_it_starts_the_command_of_the_package_in_the_folder_that_the_page_mounts():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert of("ENTRYPOINT") == ['["benchmark"]'] and "benchmark" in project["scripts"]
    home = re.search(r"NUCLEI_BENCHMARK_HOME=(\S+)", of("ENV")[0])[1]
    assert of("WORKDIR")[-1] == home and PAGE.count(f'-v "$PWD:{home}"') == 2


@pytest.fixture
def install(tmp_path):
    """Run the step that installs, with a pip that writes down its words; returns the process and these words."""
    pip, words = tmp_path / "pip", tmp_path / "words"
    pip.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {shlex.quote(str(words))}\n')
    pip.chmod(0o755)
    (step,) = [rest for rest in of("RUN") if "pip install" in rest]

    def call(device: str):
        environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "DEVICE": device}
        done = subprocess.run(["sh", "-c", step], cwd=tmp_path, env=environment, capture_output=True, text=True)
        return done, words.read_text().split("\n")[:-1] if words.exists() else None

    return call


def test_the_device_is_a_build_argument(install):
    assert of("ARG") == ["DEVICE=cpu"]
    plain = ["install", "--no-cache-dir", "-c", "constraints.txt", "."]
    done, words = install("cuda")
    assert done.returncode == 0 and words == plain, done.stderr
    done, words = install("cpu")
    index = "--extra-index-url https://download.pytorch.org/whl/cpu"
    assert done.returncode == 0 and words == plain[:2] + index.split() + plain[2:], done.stderr
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f'PIP_ARGS="{index}"' in readme and f"`{index}`" in PAGE, "the documents name the same"


def test_another_device_is_refused(install):
    done, words = install("tpu")
    assert (done.returncode, words) == (2, None) and "DEVICE is 'tpu'; expected cpu or cuda" in done.stderr


def test_every_step_is_shell_that_parses():
    for step in of("RUN"):
        assert subprocess.run(["sh", "-n", "-c", step]).returncode == 0, step


def test_the_commands_of_the_page_and_of_the_file_are_the_same():
    builds = re.findall(r"^#? ?(docker build .*?)(?:  .*)?$", TEXT, re.MULTILINE)
    shown = re.findall(r"^(docker build .*?)(?:  .*)?$", PAGE, re.MULTILINE)
    readme = re.findall(r"^docker build .*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert builds == shown == readme and len(shown) == 2
    images = {re.search(r"-t (\S+)", line)[1] for line in shown}
    runs = re.findall(r"^docker run (.*)$", PAGE, re.MULTILINE)
    assert {word for line in runs for word in line.split() if word.startswith("nuclei-")} == images
    assert all(re.fullmatch(r"[\w.]+=\w+", rest) for rest in re.findall(r"--build-arg (\S+)", PAGE))
    assert {rest.partition("=")[0] for rest in re.findall(r"--build-arg (\S+)", PAGE)} == {"DEVICE"}
