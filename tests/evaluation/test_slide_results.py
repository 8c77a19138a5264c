"""Where a slide's results go: beside those of earlier calls, of other slides, and what killed calls left."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark.data.nuclei import Nuclei
from benchmark.evaluation import own_images
from benchmark.evaluation.settings import Settings
from benchmark.evaluation.slides import place
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


def contents(folder, but=("slides.csv",)) -> dict:
    return {one.name: one.read_bytes() for one in folder.iterdir() if one.name not in but}


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


def test_files_of_others_are_not_removed(path, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "x.json").write_text('{"my": "notes"}')
    (out / "x.parquet").write_bytes(b"mine")
    with pytest.raises(InputError, match=r"out/x.json is no result of a slide and would be overwritten"):
        predict(path, out)
    assert (out / "x.json").read_text() == '{"my": "notes"}'
    (out / "x.json").unlink()
    with pytest.raises(InputError, match=r"out/x.parquet is no result of a slide.* name another folder, or move it"):
        predict(path, out)
    assert (out / "x.parquet").read_bytes() == b"mine", "nothing says that it is of a slide"
    assert not (out / "x.tiles").exists()


@pytest.mark.parametrize("name", ["x.geojson.gz", "x.parquet", "x.png", "x.tiles/notes.txt", "x.tiles/identity.json"])
def test_files_of_the_users_own_are_refused(path, tmp_path, name):
    """Before, a folder x.tiles was emptied and removed, and files of the names of results were overwritten."""
    mine = tmp_path / "out" / name
    mine.parent.mkdir(parents=True)
    mine.write_text('{"my": "notes"}')
    with pytest.raises(InputError, match=rf"x.tif: .*{name.split('/')[0]} is .* folder"):
        predict(path, tmp_path / "out")
    assert mine.read_text() == '{"my": "notes"}'
    assert {one.name for one in (tmp_path / "out").iterdir()} == {name.split("/")[0], "slides.csv"}
    assert len(list(mine.parent.iterdir())) <= 2


def test_files_beside_tiles_stay(path, tmp_path, monkeypatch):
    """Notes in a folder of tiles, when tiles of other settings are removed and when all is done."""
    out = tmp_path / "out"
    stopped(monkeypatch, path, out)
    (out / "x.tiles" / "notes.txt").write_text("mine")
    predict(path, out, OTHER)
    assert [one.name for one in (out / "x.tiles").iterdir()] == ["notes.txt"]
    predict(path, out, OTHER)
    assert [one.name for one in (out / "x.tiles").iterdir()] == ["notes.txt"]


def test_a_table_of_the_users_own_is_refused(path, tmp_path):
    (tmp_path / "slides.csv").write_text("slide,patient\nx,3\n")
    with pytest.raises(InputError, match=r"slides.csv: expected a table of slides of an earlier call.* found another"):
        predict(path, tmp_path)
    assert (tmp_path / "slides.csv").read_text() == "slide,patient\nx,3\n"
    assert {one.name for one in tmp_path.iterdir()} == {"in", "slides.csv"}


def stopped(monkeypatch, path, out, settings=SMALL) -> None:
    """A call that is killed at its second tile."""
    done = []

    def stop(*arguments, true=slides.tiles.decode_and_store):
        if done:
            raise KeyboardInterrupt
        done.append(true(*arguments))

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(slides.tiles, "decode_and_store", stop)
        predict(path, out, settings)


def test_results_stay_until_those_of_other_settings_are_complete(path, tmp_path, monkeypatch, capsys):
    """Before, they were removed at the first tile, and slides.csv went on to list them."""
    out = tmp_path / "out"
    predict(path, out)
    before = contents(out)
    stopped(monkeypatch, path, out, OTHER)
    after = contents(out, but=("slides.csv", "x.tiles"))
    assert after == before and not (out / "slides.csv").exists()
    capsys.readouterr()
    predict(path, out, replace(OTHER, batch=4))
    assert "1 tile kept by other settings" in (words := capsys.readouterr().err) and "(batch 8, now 4)" in words
    assert {one.name for one in out.iterdir()} == FILES
    predict(path, tmp_path / "new", replace(OTHER, batch=4))
    assert contents(out) == contents(tmp_path / "new")


@pytest.mark.parametrize("at", range(4))
def test_killed_while_results_are_replaced(path, tmp_path, monkeypatch, at):
    """Files of two calls never stand together, and the next call goes on from the tiles."""
    out, moved = tmp_path / "out", []
    predict(path, out)
    before = contents(out)
    predict(path, tmp_path / "new", OTHER)

    def killed(source, target, true=place.os.replace):
        if target.parent == out and len(moved) == at:
            raise KeyboardInterrupt
        true(source, target)
        moved.extend([target] if target.parent == out else [])

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(place.os, "replace", killed)
        predict(path, out, OTHER)
    after, new = contents(out, but=("slides.csv", "x.tiles")), contents(tmp_path / "new")
    assert after == {name: content for name, content in new.items() if name in after} and "x.json" not in after
    assert before != new and {one.name for one in moved} == set(after)
    predict(path, out, OTHER)
    assert contents(out) == new


def test_a_copy_of_another_name_has_its_own_in_the_summary(path, tmp_path):
    out = tmp_path / "out"
    predict(path, out)
    copy = path.with_suffix(".tiff")
    copy.write_bytes(path.read_bytes())
    predict(copy, out)
    assert json.loads((out / "x.json").read_text())["slide"] == "x.tiff"
    assert "x.tiff" in (out / "slides.csv").read_text()


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
    identity = json.loads((out / "x.json").read_text())["identity"]
    (out / "x.tiles" / "identity.json").write_text(json.dumps(identity))
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


def test_windows_and_tiles_that_see_each_pixel_many_times_are_said(path, tmp_path, capsys):
    """Before, a window of 1024 px with a margin of 500 took hours without a word."""
    predict(path, tmp_path / "out")
    assert "see each pixel of a slide 16.0 times (2.6 by default)" in capsys.readouterr().err
    predict(path, tmp_path / "usual", Settings(mpp=0.25))
    assert "see each pixel" not in capsys.readouterr().err


def test_tiles_with_the_workers_are_bounded_by_their_bytes(path, tmp_path, monkeypatch):
    """Before, 39 channels took four times the memory of ten."""
    handed = []

    def in_order(function, jobs, workers, *, ahead, size, most):
        for job in jobs:
            handed.append((size(*job), sum(values.nbytes for values in job[1].values()), most))
            yield function(*job)

    monkeypatch.setattr(slides, "in_order", in_order)
    predict(path, tmp_path / "out")
    assert handed and all(size == own > 10_000 for size, own, _ in handed)
    assert {most for *_, most in handed} == {300_000_000}, "ten channels of 1152 px for four workers, and one more"
