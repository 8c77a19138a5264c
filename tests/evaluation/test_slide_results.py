"""Where a slide's results go: beside those of earlier calls, of other slides, and what killed calls left."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.data.nuclei import Nuclei
from benchmark.evaluation import own_images
from benchmark.evaluation.settings import Settings
from benchmark.evaluation.slides import predict as slides
from benchmark.evaluation.slides.grid import Grid
from benchmark.runtime.errors import InputError
from tests.support import coded_slides
from tests.support.coded_slides import by_id, scattered
from tests.support.slide_files import damage, write_pyramid

pytest.importorskip("tiffslide")
CLASSES = ["a", "b", "c"]
SMALL = Settings(mpp=0.25, window=64, margin=16, tile=256)
OTHER = Settings(mpp=0.25, window=64, margin=16, tile=300)
FILES = {"x.geojson.gz", "x.parquet", "x.png", "x.json", "slides.csv"}


class Colours(torch.nn.Module):
    """Its raw maps are the image."""

    mpp = 0.25
    representation = coded_slides.Decoder(coded_slides.decode_ids)

    def predict(self, images):
        return {"rgb": images}


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    monkeypatch.setattr(slides, "POOL_FROM", 10**6)


@pytest.fixture
def path(tmp_path):
    (tmp_path / "in").mkdir()
    return write_pyramid(tmp_path / "in" / "x.tif", by_id(scattered(200, 400)))


def predict(path, out, settings=SMALL):
    return slides.predict_slides(Colours(), [path], out, CLASSES, settings, "cpu", "test")


def contents(folder) -> dict:
    return {one.name: one.read_bytes() for one in folder.iterdir() if one.name != "slides.csv"}


def test_an_image_and_a_slide_of_one_name_do_not_take_each_others_place(path, tmp_path):
    """Both write x.png; in one call they are refused before, by their names."""
    images = tmp_path / "images"
    images.mkdir()
    pixels = by_id(scattered(64, 64))
    Image.fromarray(pixels).save(images / "x.png")
    predict(path, tmp_path / "slide")
    before = contents(tmp_path / "slide")
    with pytest.raises(InputError, match=r"x.json and the files beside it are of a slide.* another folder"):
        own_images._begin(tmp_path / "slide", [images / "x.png"])
    assert contents(tmp_path / "slide") == before
    drawn = Nuclei.from_labels(np.eye(64, dtype=np.int32), None, 0.25)
    (tmp_path / "image").mkdir()
    own_images.write(tmp_path / "image", images / "x.png", pixels, drawn, CLASSES)
    before = contents(tmp_path / "image")
    with pytest.raises(InputError, match=r"x.tif: .*x.png is of an image of this name.* another folder"):
        predict(path, tmp_path / "image")
    assert contents(tmp_path / "image") == before


def test_results_of_another_slide_of_the_same_name_stay(path, tmp_path):
    """Before, they were removed without a word."""
    out = tmp_path / "out"
    predict(path, out)
    before = contents(out)
    (tmp_path / "other").mkdir()
    other = write_pyramid(tmp_path / "other" / "x.tif", by_id(scattered(150, 300, seed=1)))
    with pytest.raises(
        InputError, match=r"other/x.tif: .*out/x.json is of another slide of this name.* another folder"
    ):
        predict(other, out)
    assert contents(out) == before
    predict(path, out, OTHER)
    assert contents(out).keys() == before.keys() and contents(out) != before, "of the same slide they are made anew"


def test_files_of_others_are_not_removed(path, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "x.json").write_text('{"my": "notes"}')
    (out / "x.parquet").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"out/x.json is no result of a slide and would be overwritten"):
        predict(path, out)
    assert (out / "x.json").read_text() == '{"my": "notes"}'
    (out / "x.json").unlink()

    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(slides, "_predicted", stop)
    with pytest.raises(KeyboardInterrupt):
        predict(path, out)
    assert (out / "x.parquet").read_bytes() == b"mine", "nothing says that it is of a slide"


def test_a_slide_that_is_refused_now_and_was_not_before(path, tmp_path, capsys):
    """Before, its old results lay there as if they were of this call."""
    out = tmp_path / "out"
    predict(path, out)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"out/x.json and the files beside it are of an earlier call\.$"):
        predict(path, out)
    assert "left out: " in (words := capsys.readouterr().err) and "are of an earlier call" in words


def test_what_killed_calls_left_is_removed(path, tmp_path):
    out, hidden = tmp_path / "out", [".x.geojson.gz.12-ab.tmp", ".x.png.7-cd.tmp", ".x.json.7-cd.tmp"]
    others = [".x.y.png.7-cd.tmp", ".slide.json.7-cd.tmp"]
    out.mkdir()
    for name in hidden + others:
        (out / name).write_bytes(b"half")
    predict(path, out)
    assert {one.name for one in out.iterdir()} == FILES | set(others)
    (out / "x.tiles").mkdir()  # killed when all was written
    (out / "x.tiles" / "0-0.npz").write_bytes(b"of a tile")
    predict(path, out)
    assert {one.name for one in out.iterdir()} == FILES | set(others)


def test_a_damaged_overview_is_made_anew(path, tmp_path, monkeypatch):
    """Before, each call ended at it."""
    damage(path, 1, "bytes")
    with pytest.raises(InputError, match="1 of 1 slide is left out or damaged"):
        predict(path, tmp_path / "whole")
    out = tmp_path / "out"
    monkeypatch.setattr(slides, "_predict_tiles", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        predict(path, out)
    kept = out / "x.tiles" / "overview.npz"
    kept.write_bytes(kept.read_bytes()[:-50])
    monkeypatch.undo()
    monkeypatch.setattr(slides, "POOL_FROM", 10**6)
    with pytest.raises(InputError, match="1 of 1 slide is left out or damaged"):
        predict(path, out)
    assert contents(out) == contents(tmp_path / "whole")


def test_glass_is_no_tissue_where_it_is_predicted_too(tmp_path, capsys):
    """Before, with --everywhere the area was that of the whole slide."""
    image = np.full((800, 1500, 3), 244, np.uint8)
    image[40:240, 50:350] = by_id(scattered(200, 300))
    path, facts = write_pyramid(tmp_path / "x.tif", image), []
    for name, everywhere in (("tissue", False), ("all", True)):
        predict(path, tmp_path / name, Settings(mpp=0.25, window=64, margin=16, tile=256, everywhere=everywhere))
        facts.append(json.loads((tmp_path / name / "x.json").read_text()))
    assert facts[0]["tissue_mm2"] == facts[1]["tissue_mm2"] < 0.5 * 800 * 1500 * 0.25**2 * 1e-6
    tiles = len(Grid.of(800, 1500, 64, 16, 256).tiles)
    assert facts[0]["tiles"] < tiles == facts[1]["tiles"]
    assert (tmp_path / "tissue" / "x.png").read_bytes() == (tmp_path / "all" / "x.png").read_bytes()
    shares = [line.split("tissue on ")[1][:3] for line in capsys.readouterr().err.splitlines() if "tissue on" in line]
    assert shares[0] == shares[1] != "100"


def test_a_slide_without_tissue_says_how_it_is_predicted_all_the_same(tmp_path, capsys):
    path = write_pyramid(tmp_path / "x.tif", np.full((300, 300, 3), 120, np.uint8))
    assert predict(path, tmp_path / "out") == 0
    words = f"{path}: no tissue is seen on it, nothing is predicted; --everywhere predicts it all the same"
    assert words in capsys.readouterr().err
    predict(path, tmp_path / "all", Settings(mpp=0.25, window=64, margin=16, tile=256, everywhere=True))
    assert "no tissue is seen" not in capsys.readouterr().err
