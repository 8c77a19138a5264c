"""CONTRIBUTING.md's method of one file: what its runs stored is weights like any other's."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.methods import registry
from benchmark.runtime import plugins
from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import ROOT
from benchmark.weights.recognise import recognise
from tests.support.tiny_data import TINY

PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
MINE = re.search(r"```python\n(# benchmark/methods/mine\.py\n.*?)```", PAGE, re.DOTALL)[1]
SHORT = ("recipe.epochs=1", "recipe.samples=4")


def register(monkeypatch, text: str = MINE) -> None:
    """As if the file lay in benchmark/methods; forgotten after the test."""
    registry.known_names()  # ours are imported before the copy is taken
    monkeypatch.setattr(plugins, "declared", lambda package: None)  # read from the files, of which it is none
    monkeypatch.setattr(registry.METHODS, "_module_dict", dict(registry.METHODS.module_dict))
    exec(compile(text, "mine.py", "exec"), {"__name__": "benchmark.methods.mine"})


@pytest.fixture
def call(tmp_path, cache, capsys):
    """call(command, *words) -> (exit code, stdout + stderr), with results in tmp_path/results."""

    def ask(command, *words):
        folders = {"predict": (), "evaluate": ("--out", tmp_path / "results", "--cache", cache)}
        kept = ("--results", tmp_path / "results", "--cache", cache, "--preset", "debug", *SHORT)
        line = [command, "--device", "cpu", *folders.get(command, kept), *words]
        code = main([str(word) for word in line])
        return code, "".join(capsys.readouterr())

    return ask


@pytest.fixture
def run(call, monkeypatch, tmp_path):
    """Folder of a finished run of `mine`."""
    register(monkeypatch)
    code, output = call("run", "--method", "mine", "--dataset", TINY)
    assert code == 0, output
    (folder,) = (tmp_path / "results").glob("*/mine@debug*/fold1-seed0")
    return folder


def images(folder):
    folder.mkdir()
    Image.fromarray(np.full((64, 64, 3), 200, np.uint8)).save(folder / "a.png")
    return folder


def test_a_run_of_ones_own_method_is_predicted_with_and_evaluated(run, call, tmp_path):
    shown = images(tmp_path / "images")
    for k, weights in enumerate((run, run / "weights.safetensors")):
        code, output = call("predict", "--weights", weights, "--images", shown, "--out", tmp_path / f"out{k}")
        assert code == 0 and "in 1 image" in output, output
    for words in ((), ("--method", "mine")):
        code, output = call("evaluate", "--weights", run, "--dataset", TINY, *words)
        assert code == 0, output
    code, output = call("evaluate", "--weights", run, "--dataset", TINY, "--method", "mine@debug,width=16")
    assert code == 2 and "does not fit this mine" in output and "METHOD=mine@debug" in output
    facts = recognise(run)[1]
    assert (facts.method, facts.own, facts.classes) == ("mine", True, 5)


def test_what_its_file_is_called_beside_its_config_does_not_matter(run):
    shutil.copyfile(run / "weights.safetensors", run / "best.safetensors")
    assert recognise(run / "best.safetensors")[1].method == "mine"


def test_it_is_trained_here_and_tested_there(call, monkeypatch, tmp_path):
    register(monkeypatch)
    other = f"{TINY},seed=1" if "@" in TINY else f"{TINY}@seed=1"
    words = ("--method", "mine", "--train", TINY, "--test", other, "--reports", tmp_path / "reports")
    code, output = call("transfer", *words)
    assert code == 0 and len([*(tmp_path / "results").glob("*/*/*/metrics.json")]) == 2, output


def test_entries_called_like_those_of_a_known_method_are_still_its_own(call, monkeypatch, tmp_path):
    """A block `net.branches` made the file one of this benchmark's whose prefix is `net.`."""
    wrapped = MINE.replace("self.heads", "self.branches").replace("self.body", "self.decoder")
    assert wrapped != MINE
    register(monkeypatch, wrapped + "\n    def adapt(self, state):\n        return {'published': state['published']}\n")
    assert call("run", "--method", "mine", "--dataset", TINY)[0] == 0
    (folder,) = (tmp_path / "results").glob("*/mine@debug*/fold1-seed0")
    code, output = call("evaluate", "--weights", folder, "--dataset", TINY)
    assert code == 0, output


def test_a_network_that_cannot_be_built_without_memory_is_filled(call, monkeypatch, tmp_path):
    values = MINE.replace("        self.tissue =", "        assert float(torch.ones(1)) == 1\n        self.tissue =")
    register(monkeypatch, values.replace("import torch.nn", "import torch\nimport torch.nn"))
    assert call("run", "--method", "mine", "--dataset", TINY)[0] == 0
    (folder,) = (tmp_path / "results").glob("*/mine@debug*/fold1-seed0")
    code, output = call("evaluate", "--weights", folder, "--dataset", TINY)
    assert code == 0, output


def test_a_method_that_is_gone_is_named(run, call, tmp_path):
    registry.METHODS.module_dict.pop("mine")
    shown = images(tmp_path / "images")
    for words in (("predict", "--images", shown, "--out", tmp_path / "out"), ("evaluate", "--dataset", TINY)):
        code, output = call(*words, "--weights", run)
        assert code == 2 and "found those of a run of 'mine', which is not" in output, output
        assert "put its file into benchmark/methods" in output and output.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_weights_apart_from_their_run_ask_for_its_config(run, tmp_path):
    shutil.copyfile(run / "weights.safetensors", tmp_path / "apart.safetensors")
    with pytest.raises(InputError, match=r"of no known method.*give the run's folder, or put that file beside them"):
        recognise(tmp_path / "apart.safetensors")
