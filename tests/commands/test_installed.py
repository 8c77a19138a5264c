"""The program as a package: what the wheel holds, where its folders lie, and that it runs outside a checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from benchmark.experiment.launchers import base
from benchmark.experiment.launchers.base import own_package
from benchmark.runtime.paths import ROOT

DATA = {"experiments": "experiments", "docs/reference": "reference"}
SOURCES = ("pyproject.toml", "setup.py", "MANIFEST.in", "constraints.txt", "README.md", "LICENSE")
VARIABLES = ("BENCHMARK_RESULTS", "BENCHMARK_REPORTS", "BENCHMARK_CACHE", "NUCLEI_BENCHMARK_HOME", "PYTHONPATH")
SHADOW = "raise SystemExit('a file of the user was run')\n"  # in a file that is called as the package is


def files(folder: Path) -> set[str]:
    """Its files, relative to it, without what Python leaves."""
    paths = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {path.relative_to(folder).as_posix() for path in paths}


def expected() -> set[str]:
    """The files of the package in a wheel: what was measured on images of another licence stays with the sources."""
    data = {f"{name}/{file}" for source, name in DATA.items() for file in files(ROOT / source)}
    return files(ROOT / "benchmark") | {file for file in data if not file.startswith("reference/real/")}


def environment(**more) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in VARIABLES} | more


def call(line, folder, **variables):
    return subprocess.run(
        list(map(str, line)), cwd=folder, env=environment(**variables), capture_output=True, text=True, timeout=550
    )


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the package as `pip install .` puts it beside others, built by the setuptools that torch needs."""
    folder = tmp_path_factory.mktemp("build")
    (folder / "lib" / "benchmark" / "stale").mkdir(parents=True)  # as an earlier build left it
    (folder / "lib" / "benchmark" / "stale" / "__init__.py").touch()
    steps = ["egg_info", "-e", folder, "build_py", "-d", folder / "lib"]
    done = call([sys.executable, "setup.py", "-q", *steps], ROOT)
    assert done.returncode == 0, done.stderr
    return folder / "lib"


def test_the_package_is_all_there_is_and_whole(installed):
    assert [path.name for path in installed.iterdir()] == ["benchmark"]
    assert files(installed / "benchmark") == expected()
    assert {"experiments/main.py", "reference/ledger.csv", "report/papers/cellvta-pannuke.toml"} <= expected()


HOMES = "from benchmark.runtime import paths as p; print(p.RESULTS, p.REPORTS, p.CACHE, *p.WHY.values(), sep='\\n')"


def homes(folder, package, **variables) -> tuple[list[str], list[str]]:
    """(paths of results, reports and cache, what decided each) of a program that is started in a folder."""
    done = call([sys.executable, "-P", "-c", HOMES], folder, PYTHONPATH=str(package), **variables)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    return lines[:3], lines[3:]


def below(folder) -> list[str]:
    return [f"{folder}/{name}" for name in ("results", "reports", "cache")]


def test_outside_a_checkout_the_current_folder_is_home(installed, tmp_path):
    (tmp_path / "benchmark").mkdir()
    (tmp_path / "experiments").mkdir()  # folders of these names make no checkout
    why = "the current folder, which lies in no checkout"
    assert homes(tmp_path, installed) == (below(tmp_path.resolve()), [why] * 3)


def test_anywhere_in_a_checkout_that_is_home(installed):
    why = "the checkout around the current folder"
    assert homes(ROOT / "docs" / "reference", installed) == (below(ROOT), [why] * 3)


def test_the_code_of_a_checkout_has_its_home_there(tmp_path):
    assert homes(tmp_path, ROOT) == (below(ROOT), ["the checkout of this code"] * 3)


def test_variables_come_first(installed, tmp_path):
    named = {"NUCLEI_BENCHMARK_HOME": str(tmp_path / "home"), "BENCHMARK_CACHE": "/big/cache", "BENCHMARK_REPORTS": ""}
    for package in (installed, ROOT):
        paths, why = homes(ROOT, package, **named)
        assert paths == [f"{tmp_path}/home/results", f"{tmp_path}/home/reports", "/big/cache"], (
            "an empty one names none"
        )
        assert why == ["NUCLEI_BENCHMARK_HOME"] * 2 + ["BENCHMARK_CACHE"]


def test_a_current_folder_that_is_gone(installed, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    code = f"import os; os.rmdir(os.getcwd()); {HOMES}"
    done = call([sys.executable, "-P", "-c", code], gone, PYTHONPATH=str(installed))
    assert done.returncode == 0 and done.stdout.splitlines()[0] == "results", done.stderr


def test_an_installed_copy_knows_its_experiments_and_renews_no_documents(installed, tmp_path):
    line, path = [sys.executable, "-m", "benchmark"], {"PYTHONPATH": str(installed)}
    done = call([*line, "status", "--preset", "debug"], tmp_path, **path)
    assert done.returncode == 0 and "6 missing" in done.stdout, done.stderr
    done = call([*line, "reference"], tmp_path, **path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1) and "documents of a checkout" in done.stderr
    assert [p.name for p in installed.iterdir()] == ["benchmark"], "nothing is written beside the package"
    assert not list(tmp_path.iterdir())


def test_doctor_says_where_folders_lie_and_why(installed, tmp_path):
    words = ["doctor", "--device", "cpu", "--cache", tmp_path / "mine"]
    done = call(
        [sys.executable, "-m", "benchmark", *words], tmp_path, PYTHONPATH=str(installed), BENCHMARK_REPORTS="/r"
    )
    assert done.returncode == 0, done.stderr
    shown = [" ".join(line.split()) for line in done.stdout.splitlines()]
    for text in (
        f"program {installed}/benchmark (installed)",
        f"reference runs: {installed}/benchmark/reference",
        f"results {tmp_path.resolve()}/results (by the current folder, which lies in no checkout; is made when",
        "reports /r (by BENCHMARK_REPORTS; is made",
        f"cache {tmp_path}/mine (by --cache; is made",
    ):
        assert any(line.startswith(text) for line in shown), text


@pytest.mark.parametrize("name", ["benchmark.py", "benchmark/__init__.py"])
def test_cells_run_this_package_beside_a_script_of_its_name(name, tmp_path, monkeypatch):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(SHADOW)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", "/one/more")
    line = [sys.executable, "-m", "benchmark", "--version"]
    assert "a file of the user" in subprocess.run(line, capture_output=True, text=True).stderr
    with own_package():
        assert subprocess.run(line, capture_output=True, text=True).stdout.startswith("0.")
    assert os.environ["PYTHONPATH"] == "/one/more" and "PYTHONSAFEPATH" not in os.environ


def test_where_nothing_is_in_its_way_the_environment_stays(tmp_path, monkeypatch):
    before = dict(os.environ)
    for folder in (tmp_path, ROOT):
        monkeypatch.chdir(folder)
        with own_package():
            assert {**os.environ, "PWD": ""} == {**before, "PWD": ""}


@pytest.mark.parametrize(
    ("checkout", "says"), [(True, "-m pip install -e '.[slurm]'`"), (False, "-m pip install submitit`")]
)
def test_a_launcher_s_package_is_installed_as_the_program_was(checkout, says, monkeypatch):
    monkeypatch.setattr(base, "IN_CHECKOUT", checkout)
    assert says in str(base.lacking("slurm", "submitit"))


@pytest.mark.slow
def test_a_wheel_from_the_source_distribution_runs_in_an_environment_of_its_own(tmp_path):
    """As a user has it: built from what an sdist holds, installed, started by its command in a folder of the user."""
    copy, study = tmp_path / "copy", tmp_path / "study"
    study.mkdir()
    for name in ("benchmark", *DATA):
        shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in SOURCES:
        shutil.copyfile(ROOT / name, copy / name)
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(tmp_path)!r})"
    assert (done := call([sys.executable, "-c", code], copy)).returncode == 0, done.stderr
    (sdist,) = tmp_path.glob("nuclei_benchmark-*.tar.gz")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    done = call([*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", tmp_path, sdist], tmp_path)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("nuclei_benchmark-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == {f"benchmark/{name}" for name in expected()}, "no stray package, nothing missing"

    assert call([sys.executable, "-m", "venv", "--without-pip", tmp_path / "env"], tmp_path).returncode == 0
    python = tmp_path / "env" / "bin" / "python"
    site = Path(call([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], study).stdout.strip())
    # torch is large: the packages that it needs are those of this environment, after its own
    shared = call([sys.executable, "-c", "import site; print(*site.getsitepackages(), sep='\\n')"], study).stdout
    (site / "others.pth").write_text(shared)
    done = call([*pip, "--python", python, "install", "--no-deps", "--no-index", wheel], tmp_path)
    assert done.returncode == 0, done.stderr

    (study / "benchmark.py").write_text(SHADOW)
    program, threads = tmp_path / "env" / "bin" / "benchmark", {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    words = ["--preset", "debug", "--dataset", "synthetic@patches=6", "--methods", "classical", "decoder_only"]
    done = call([program, "ablation", *words, "--device", "cpu", "recipe.epochs=1"], study, **threads)
    assert done.returncode == 0 and "| decoder_only" in done.stdout, done.stderr
    assert sorted(path.name for path in study.iterdir()) == ["benchmark.py", "cache", "reports", "results"]
    done = call([program, "status", *words, "--device", "cpu", "recipe.epochs=1"], study, **threads)
    assert done.returncode == 0 and "2 done" in done.stdout, done.stderr
