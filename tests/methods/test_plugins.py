"""docs/plugins.md: its package is installed into a folder, found, and runs; broken ones are named."""

import os
import re
import subprocess
import sys

import pytest
from mmengine.registry import Registry

from benchmark.runtime import plugins
from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import ROOT

PAGE = (ROOT / "docs" / "plugins.md").read_text(encoding="utf-8")
FILES = {m[1]: m[2] for m in re.finditer(r"```\w+\n# ([\w.]+)\n(.*?)```", PAGE, re.DOTALL)}


def install(folder, target) -> None:
    """Install the page's package into a folder of its own."""
    folder.mkdir()
    for name, text in FILES.items():
        (folder / name).write_text(text, encoding="utf-8")
    words = ["install", "-q", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target), str(folder)]
    done = subprocess.run([sys.executable, "-m", "pip", *words], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def call(target, *words, cwd):
    path = os.pathsep.join([str(target), str(ROOT)])
    environment = os.environ | {"PYTHONPATH": path}
    line = [sys.executable, "-m", "benchmark", *words]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300)


def test_the_page_has_a_whole_package():
    assert set(FILES) == {"pyproject.toml", "two_convolutions.py"}


def test_the_example_is_installed_and_runs(tmp_path, cache):
    install(tmp_path / "source", tmp_path / "packages")
    done = call(tmp_path / "packages", "models", cwd=tmp_path)
    assert done.returncode == 0 and "two_convolutions" in done.stdout, done.stderr
    (line,) = re.findall(r"^python -m benchmark (run .*)$", PAGE, re.MULTILINE)
    words = [*line.split(), "--results", str(tmp_path / "results"), "--cache", str(cache), "--device", "cpu"]
    done = call(tmp_path / "packages", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "results").glob("*/two_convolutions@debug*/fold1-seed0/metrics.json"))
    done = call(tmp_path / "packages", "run", "--method", "two_convolution", "--preset", "debug", cwd=tmp_path)
    assert done.returncode == 2 and "Did you mean 'two_convolutions'" in done.stderr


@pytest.mark.parametrize(
    ("module", "said"),
    [
        ("import nowhere", "No module named 'nowhere'"),
        ("", "it registers no 'offered_method'"),
        (None, "the name is taken"),
    ],
)
def test_a_package_that_cannot_be_used_is_named_each_time(tmp_path, monkeypatch, module, said):
    registry = Registry("test")
    if module is None:
        registry.register_module(name="offered_method", module=dict)
    name = f"offered_{tmp_path.name.strip('_')}"
    offer(tmp_path, "my-package", name, module or "")
    monkeypatch.syspath_prepend(tmp_path)
    plugins.offered.cache_clear()
    try:
        for _ in range(2):
            with pytest.raises(
                InputError, match=r"The package 'my-package' offers 'offered_method'.*mend or uninst"
            ) as e:
                plugins.import_offered("benchmark.tests", registry)
            assert said in str(e.value)
    finally:
        plugins.offered.cache_clear()


def test_two_packages_with_one_name_are_refused(tmp_path, monkeypatch):
    for name in ("first", "second"):
        offer(tmp_path, f"{name}-package", name, "")
    monkeypatch.syspath_prepend(tmp_path)
    plugins.offered.cache_clear()
    try:
        with pytest.raises(InputError, match=r"packages '.*-package' and '.*-package' both offer 'offered_method'"):
            plugins.offered("benchmark.tests")
    finally:
        plugins.offered.cache_clear()


def offer(folder, package: str, module: str, source: str) -> None:
    """Put a package with one module and one entry point into a folder, as an installation leaves it."""
    (folder / f"{module}.py").write_text(source, encoding="utf-8")
    facts = folder / f"{package.replace('-', '_')}-0.1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.1\n", encoding="utf-8")
    (facts / "entry_points.txt").write_text(f"[benchmark.tests]\noffered_method = {module}\n", encoding="utf-8")
