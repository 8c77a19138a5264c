"""docs/plugins.md: its package is installed into a folder, found, and runs; broken ones are named."""

import importlib
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.experiment.cell import Cell
from benchmark.experiment.setup import Setup
from benchmark.methods import registry
from benchmark.results.identity import differing
from benchmark.runtime import plugins, terminal
from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import ROOT
from tests.support.tiny_data import TINY

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
    (path,) = (tmp_path / "results").glob("*/two_convolutions@debug*/fold1-seed0/metrics.json")
    assert json.loads(path.read_text())["identity"]["package"] == "two-convolutions 0.1"
    assert json.loads((path.parent / "provenance.json").read_text())["package"] == "two-convolutions 0.1"
    assert "- package of the method: `two-convolutions 0.1`" in (path.parent / "card.md").read_text()
    done = call(tmp_path / "packages", "run", "--method", "two_convolution", "--preset", "debug", cwd=tmp_path)
    assert done.returncode == 2 and "Did you mean 'two_convolutions'" in done.stderr


REGISTER = """
from benchmark.methods.base import Method
from benchmark.methods.registry import METHODS
from benchmark.representations.stardist import StarDist
@METHODS.register_module(name="{name}")
class {cls}(Method):
    presets = {{"debug": {{}}, "small": {{}}, "paper": {{}}}}
    representation = StarDist()
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Install modules (name -> source) that offer entry points (name -> value) in one package; all forgotten after."""

    def install(points: dict[str, str], modules: dict[str, str], package="my-package"):
        for name, text in modules.items():
            path = tmp_path / f"{name}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        facts = tmp_path / f"{package.replace('-', '_')}-0.1.dist-info"
        facts.mkdir()
        (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.1\n", encoding="utf-8")
        lines = "".join(f"{name} = {value}\n" for name, value in points.items())
        (facts / "entry_points.txt").write_text(f"[nuclei_benchmark.methods]\n{lines}", encoding="utf-8")
        plugins.offered.cache_clear()
        importlib.invalidate_caches()

    registry.known_names()  # ours are imported before the copies are taken
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(plugins, "_IMPORTED", dict(plugins._IMPORTED))
    monkeypatch.setattr(registry.METHODS, "_module_dict", dict(registry.METHODS.module_dict))
    modules = set(sys.modules)
    yield install
    plugins.offered.cache_clear()
    for name in set(sys.modules) - modules:
        if str(tmp_path) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


BOTH = {
    "both/__init__": "import both.first, both.second",
    "both/first": REGISTER.format(name="first", cls="First"),
    "both/second": REGISTER.format(name="second", cls="Second"),
}


def test_two_methods_of_one_package_that_imports_both(installed):
    installed({"first": "both.first", "second": "both.second"}, BOTH)
    assert {"first", "second", "cellvta"} <= {*registry.method_names()}
    assert registry.method_class("second").__name__ == "Second"


def test_two_methods_of_one_module(installed):
    text = REGISTER.format(name="first", cls="First") + REGISTER.format(name="second", cls="Second")
    installed({"first": "pair:First", "second": "pair:Second"}, {"pair": text})
    assert registry.method_class("first").__name__ == "First"
    assert registry.method_class("second").__name__ == "Second"
    assert {"first", "second"} <= {*registry.method_names()}


def test_two_names_with_one_value_are_checked_each(installed):
    installed({"first": "one", "second": "one"}, {"one": REGISTER.format(name="first", cls="First")})
    assert registry.method_class("first")
    with pytest.raises(InputError, match=r"offers 'second' \(one\).*it registers no 'second'.*mend or uninstall"):
        registry.method_class("second")


def test_a_module_that_was_imported_before_is_its_own(installed):
    installed({"first": "early"}, {"early": REGISTER.format(name="first", cls="First")})
    cls = importlib.import_module("early").First
    assert registry.method_class("first") is cls and "first" in registry.method_names()


def test_a_name_of_ours_is_refused_without_an_import_and_stops_nothing_of_ours(installed):
    installed({"cellvta": "thief"}, {"thief": REGISTER.format(name="cellvta", cls="Thief")})
    for _ in range(2):
        with pytest.raises(InputError, match=r"'cellvta' \(thief\).*the name is taken, by benchmark.methods.cellvta"):
            registry.method_names()
    assert "thief" not in sys.modules
    assert registry.is_ours("cellvta") and registry.method_class("cellvta").__module__ == "benchmark.methods.cellvta"


METHOD = "from benchmark.methods.registry import METHODS\nfrom benchmark.methods.base import Method\n"
METHOD += "from benchmark.representations.stardist import StarDist\n@METHODS.register_module(name='first')\n"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("import nowhere", "No module named 'nowhere'"),
        ("", "it registers no 'first'"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("{}['a']", "KeyError: 'a'"),
        (METHOD + "class First: ...", "First is no subclass of benchmark.methods.base.Method"),
        (METHOD + "def first(): ...", "first is no subclass of benchmark.methods.base.Method"),
        (METHOD + "class First(Method):\n representation = StarDist()", "it has no presets"),
        (METHOD + "class First(Method):\n presets = {'debug': {}}", "it has no representation"),
        (METHOD + "class First(Method):\n presets = {'debug': {}}\n representation = StarDist", "no representation"),
        (
            METHOD + "class First(Method):\n presets = {'debug': {'wide': 1}}\n representation = StarDist()",
            "its preset 'debug' sets 'wide', which is none of its arguments (none)",
        ),
        (
            METHOD + "class First(Method):\n presets = {'debug': {}}\n representation = StarDist()\n"
            " def __init__(self, classes, tissues, *, width): ...",
            "its argument 'width' has no default",
        ),
    ],
)
def test_a_method_that_cannot_be_used_is_named_each_time_and_stops_no_other(
    installed, tmp_path, capsys, monkeypatch, source, why
):
    installed({"first": "broken"}, {"broken": source})
    for ask in (registry.method_names, lambda: registry.method_class("first"), registry.method_names):
        with pytest.raises(
            InputError, match=r"The package 'my-package' offers 'first' \(broken\).*mend or uninst"
        ) as e:
            ask()
        assert why in str(e.value)
    assert registry.method_class("cellvta")
    with pytest.raises(InputError, match="Did you mean 'cellvta'"):
        registry.method_class("cellvtaa")
    monkeypatch.setattr(terminal, "room", lambda: None)
    assert main(["doctor", "--device", "cpu", "--results", str(tmp_path / "r"), "--cache", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert why in out and re.search(r"^method +cellvta: ", out, re.MULTILINE)


def test_only_the_package_of_the_name_is_imported(installed):
    points = {"first": "quick", "second": "slow"}
    installed(points, {"quick": REGISTER.format(name="first", cls="First"), "slow": "raise RuntimeError"})
    registry.method_class("cellvta")
    assert "quick" not in sys.modules
    registry.method_class("first")
    assert "quick" in sys.modules and "slow" not in sys.modules
    assert {"first", "second"} <= {*registry.known_names()} and "slow" not in sys.modules


def test_a_representation_by_argument_is_enough(installed):
    text = METHOD + "class First(Method):\n presets = {'debug': {}}\n @classmethod\n"
    installed({"first": "by_argument"}, {"by_argument": text + " def representation_of(cls, arguments): ..."})
    assert registry.method_class("first").__name__ == "First"


def test_its_weights_are_used_while_it_is_installed_and_its_package_is_named_after(installed, tmp_path, cache, capsys):
    installed({"two_convolutions": "two_convolutions"}, {"two_convolutions": FILES["two_convolutions.py"]}, "two-conv")
    images = tmp_path / "images"
    images.mkdir()
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(images / "a.png")

    def ask(*words):
        code = main([*map(str, words), "--device", "cpu"])
        return code, "".join(capsys.readouterr())

    kept = ("--preset", "debug", "--cache", cache, "recipe.epochs=1", "recipe.samples=4")
    code, output = ask(
        "run", "--method", "two_convolutions", "--dataset", TINY, "--results", tmp_path / "results", *kept
    )
    assert code == 0, output
    (run,) = (tmp_path / "results").glob("*/two_convolutions@debug*/fold1-seed0")
    predict = ("predict", "--weights", run, "--images", images, "--out")
    evaluate = ("evaluate", "--weights", run, "--dataset", TINY, "--out", tmp_path / "results", "--cache", cache)
    for words in ((*predict, tmp_path / "out"), evaluate, (*evaluate, "--method", "two_convolutions")):
        code, output = ask(*words)
        assert code == 0, output
    registry.METHODS.module_dict.pop("two_convolutions")
    shutil.rmtree(next(tmp_path.glob("*.dist-info")))
    plugins.offered.cache_clear()
    for words in ((*predict, tmp_path / "other"), evaluate):
        code, output = ask(*words)
        assert code == 2 and "'two_convolutions', which is not; install the package 'two-conv 0.1'" in output, output
    assert not (tmp_path / "other").exists()


def test_an_upgrade_of_another_package_is_another_result_and_ours_name_none(installed, tmp_path):
    installed({"first": "quick"}, {"quick": REGISTER.format(name="first", cls="First")})
    setup = Setup("synthetic@patches=6", None, "debug", "main", tmp_path, tmp_path)
    ours, other = (Cell(setup, registry.parse(name, "debug"), 1, 0) for name in ("classical", "first"))
    assert "package" not in ours.identity and other.identity["package"] == "my-package 0.1"
    facts = tmp_path / "my_package-0.1.dist-info" / "METADATA"
    facts.write_text(facts.read_text().replace("0.1", "0.2"))
    upgraded = Cell(setup, registry.parse("first", "debug"), 1, 0)
    assert differing(other.identity, upgraded.identity) == ["package: my-package 0.1 -> my-package 0.2"]
    assert upgraded.folder == other.folder and upgraded.key != other.key


def test_two_packages_with_one_name_are_refused(installed):
    for name in ("one", "two"):
        installed({"first": name}, {name: REGISTER.format(name="first", cls="First")}, package=f"{name}-package")
    for ask in (registry.method_names, lambda: registry.method_class("first")):
        with pytest.raises(
            InputError, match=r"packages '.*-package' and '.*-package' both offer 'first'.*uninstall one"
        ):
            ask()
    assert registry.method_class("cellvta") and not {"one", "two"} & set(sys.modules)
