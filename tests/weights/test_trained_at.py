"""A network is shown images at the resolution of its training, whichever file brings its weights."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.cli import main
from benchmark.data.files.label_files import labels
from benchmark.data.sources.synthetic import draw
from benchmark.evaluation.own_images import predict
from benchmark.methods import registry
from benchmark.runtime.files import write_json
from benchmark.training import checkpoint
from benchmark.weights.fit import load_official
from benchmark.weights.recognise import Facts
from benchmark.weights.trained_at import tiling_of, trained_mpp
from tests.support.official_files import built, config, published_state, save_cellvit
from tests.support.slide_files import write_svs

RUN = Facts(Path("w.safetensors"), "cellvta", "small", 5, 0, "own", own=True, dataset="mine")
FILE = Facts(Path("a.pth"), "cellvit", "sam_b", 5, 19, "published", dataset="pannuke")


@pytest.fixture
def run(tmp_path):
    """Weights of a run at 0.5 µm per pixel."""
    torch.manual_seed(0)
    checkpoint.save_weights(tmp_path / "weights.safetensors", registry.build("hovernet@debug", 2, 0))
    facts = {"name": "hovernet", "method": "hovernet@debug", "fold": 1, "dataset": "mine", "recipe": {}, "mpp": 0.5}
    write_json(tmp_path / "config.json", facts | {"classes": ["a", "b"], "tissues": []})
    return tmp_path / "weights.safetensors"


@pytest.mark.parametrize(
    ("facts", "tiling", "mpp"),
    [
        (replace(RUN, mpp=0.5), "none", 0.5),
        (RUN, "none", None),
        (replace(RUN, mpp=0.5), "conic40", 0.5 * 8 / 15),
        (replace(FILE, dataset="conic"), "conic40_corrected", 0.5 * 8 / 15),
        (replace(FILE, dataset="nucls@patch=256"), "none", 0.2),
        (FILE, "none", 0.25),
        (replace(FILE, magnification=20), "none", 0.5),
        (replace(FILE, magnification=10), "none", 0.25),
    ],
)
def test_the_resolution_of_a_training(facts, tiling, mpp):
    assert trained_mpp(facts, tiling) == (None if mpp is None else pytest.approx(mpp))


def test_the_tiling_of_a_training():
    published = {"conic": {"paper": {"tiling": "conic40"}}}
    assert tiling_of(replace(FILE, dataset="conic"), published, "paper") == "conic40"
    assert tiling_of(replace(FILE, dataset="conic"), published, None) == tiling_of(FILE, published, "paper") == "none"
    assert tiling_of(replace(RUN, dataset="conic"), published, "paper") == "none", "its run's recipe says which"
    assert tiling_of(replace(RUN, recipe={"tiling": "conic40"}), {}, None) == "conic40"


def test_loaded_weights_bring_their_resolution(run, tmp_path):
    """Before, only the class of the method was asked: all was shown at 0.25."""
    method = registry.build("hovernet@debug", 2, 0)
    load_official(method, run)
    assert (method.mpp, type(method).mpp) == (0.5, 0.25)
    state = published_state(built("cellvit@debug"))
    settings = config()
    for name, mpp in (("CellViT-x20.pth", 0.5), ("CellViT-x40.pth", 0.25)):
        other = built("cellvit@debug", seed=2)
        load_official(other, save_cellvit(tmp_path / name, state, "CellViT256", settings))
        assert other.mpp == mpp
    stated = save_cellvit(tmp_path / "y.pth", state, "CellViT256", settings | {"data.magnification": 20})
    load_official(other, stated)
    assert other.mpp == 0.5


def shown(monkeypatch, method) -> list:
    """(height and width, µm/px) of every image that is decoded."""
    cls, seen = type(method.representation), []
    decode = cls.decode

    def kept(self, maps, mpp, settings=None):
        seen.append((maps["np"].shape[1:], mpp))
        return decode(self, maps, mpp, settings)

    monkeypatch.setattr(cls, "decode", kept)
    return seen


def test_an_image_is_resized_to_the_resolution_of_the_training(run, tmp_path, monkeypatch, capsys):
    method = registry.build("hovernet@debug", 2, 0)
    load_official(method, run)
    image = draw("Colon", 3, 0).image[:192, :160]
    Image.fromarray(image).save(tmp_path / "a.png")
    seen = shown(monkeypatch, method)
    nuclei = predict(method, image, 0.25, device="cpu")
    assert seen == [((96, 80), 0.5)] and nuclei.instances.shape == (192, 160) and nuclei.mpp == 0.25
    seen.clear()
    predict(method, image, 0.5, device="cpu")
    assert seen == [((192, 160), 0.5)]
    words = ["predict", "--weights", str(run), "--images", str(tmp_path / "a.png"), "--device", "cpu", "--out"]
    assert main([*words, str(tmp_path / "out")]) == 0
    assert "weights.safetensors: trained at 0.5 µm/px; the network sees all at that." in capsys.readouterr().err
    assert np.array_equal(labels(tmp_path / "out" / "a.tif", (192, 160), ()).instances, nuclei.instances)


def test_a_slide_is_seen_at_the_resolution_of_the_training(run, tmp_path, capsys):
    pytest.importorskip("tiffslide")
    write_svs(tmp_path / "x.svs", draw("Colon", 3, 0).image)
    words = ["predict", "--images", str(tmp_path / "x.svs"), "--device", "cpu", "--out", str(tmp_path / "out")]
    assert main([*words, "--weights", str(run)]) == 0
    assert "128 x 128 px at 0.5 µm/px (level 0 of 2, resized from 0.25)" in capsys.readouterr().err
    facts = json.loads((tmp_path / "out" / "x.json").read_text())
    assert facts["seen_mpp"] == facts["identity"]["method"]["mpp"] == 0.5
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(run, other)
    write_json(other / "config.json", json.loads(run.with_name("config.json").read_text()) | {"mpp": 0.25})
    assert main([*words, "--weights", str(other)]) == 0
    captured = capsys.readouterr().err
    assert "trained at" not in captured and "done before" not in captured, "the same weights, shown otherwise"
    assert json.loads((tmp_path / "out" / "x.json").read_text())["seen_mpp"] == 0.25
