"""Nuclei in images of one's own: windows, resolutions, the files written, bad input."""

import csv
import shutil

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from benchmark.cli import main
from benchmark.data.files import label_files
from benchmark.data.files.polygons import paint
from benchmark.data.sources.folder import Folder
from benchmark.data.sources.synthetic import draw
from benchmark.data.store.prepare import prepare
from benchmark.evaluation.own_images import maps_of, nuclei_of, predict
from benchmark.evaluation.settings import Settings
from benchmark.formats import outlines, type_names
from benchmark.formats.collection import collection
from benchmark.methods import registry
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import write_json
from benchmark.training import checkpoint


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    for i in range(2):
        Image.fromarray(draw("Colon", 3, i).image[: 200 + 20 * i, :180]).save(folder / f"tile {i}.png")
    return folder


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    method = registry.build("hovernet@debug", 2, 0)
    checkpoint.save_weights(folder / "weights.safetensors", method)
    said = {"name": "hovernet", "method": "hovernet@debug", "fold": 1, "dataset": "mine", "recipe": {}}
    write_json(folder / "config.json", said | {"classes": ["tumour", "immune"], "tissues": []})
    return folder / "weights.safetensors"


def test_classical_writes_every_file(images, tmp_path, capsys):
    assert main(["predict", "--method", "classical", "--images", str(images), "--out", str(tmp_path)]) == 0
    assert "in 2 images" in capsys.readouterr().out
    lines = list(csv.DictReader((tmp_path / "nuclei.csv").open()))
    for i in range(2):
        labels = tifffile.imread(tmp_path / f"tile {i}.tif")
        assert labels.shape == (200 + 20 * i, 180) and labels.dtype == np.uint16 and labels.max() > 3
        own = [line for line in lines if line["image"] == f"tile {i}.png"]
        assert [int(line["area_px"]) for line in own] == np.bincount(labels.ravel())[1:].tolist()
        back = outlines.read_json(tmp_path / f"tile {i}.geojson", labels.shape, None, None)
        assert (back.instances == labels).all()
        assert np.asarray(Image.open(tmp_path / f"tile {i}.png")).shape == (*labels.shape, 3)


def test_weights_of_a_run_bring_their_classes(images, weights, tmp_path):
    words = ["--weights", str(weights), "--images", str(images), "--out", str(tmp_path), "--device", "cpu"]
    assert main(["predict", *words, "--window", "96", "--margin", "16"]) == 0
    named = {line["type"] for line in csv.DictReader((tmp_path / "nuclei.csv").open())}
    assert named <= {"tumour", "immune", ""}


def test_names_that_begin_like_formulas_are_text_in_the_csv(tmp_path):
    names = ["=1+1.png", "@a.png", "plain.png"]
    (tmp_path / "images").mkdir()
    for name in names:
        Image.fromarray(draw("Colon", 3, 0).image[:128, :128]).save(tmp_path / "images" / name)
    options = ["--images", str(tmp_path / "images"), "--out", str(tmp_path / "out")]
    assert main(["predict", "--method", "classical", *options]) == 0
    found = {line["image"] for line in csv.DictReader((tmp_path / "out" / "nuclei.csv").open())}
    assert found == {"'=1+1.png", "'@a.png", "plain.png"}


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_outputs_that_are_not_finite_name_the_image(images, weights, tmp_path, capsys, monkeypatch, number):
    """From the second image on, and only one element of one map."""
    calls = []

    def spoiled(self, x):
        calls.append(len(x))
        shape = (len(x), 2, *x.shape[-2:])
        outputs = {name: torch.zeros(shape) for name in ("np", "hv")} | {"tp": torch.zeros(len(x), 3, *x.shape[-2:])}
        if sum(calls) > first:
            outputs["hv"][0, 1, x.shape[-2] // 2, x.shape[-1] // 2] = number
        return outputs

    monkeypatch.setattr(registry.method_class("hovernet"), "predict", spoiled)
    words = ["predict", "--weights", str(weights), "--images", str(images), "--device", "cpu"]
    first = 10**6
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    first, calls[:] = sum(calls) // 2, []
    assert main([*words, "--out", str(tmp_path / "spoiled")]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "tile 1.png: expected finite outputs of the method, found NaN or infinity in 'hv'" in error


def test_windows_join_to_the_maps_of_the_whole():
    """A network that sees one pixel at a time gives the same maps whatever the windows."""

    class Pointwise(torch.nn.Module):
        mpp = 0.25

        def predict(self, x):
            return {"np": torch.cat([x.mean(1, keepdim=True), x[:, :1]], 1), "tissue": x.mean((2, 3))}

    image = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (150, 70, 3), dtype=np.uint8)
    expected = np.stack([image.mean(2), image[..., 0]]).astype(np.float32) / 255
    for window, margin in ((64, 8), (256, 32), (96, 0)):
        found = maps_of(Pointwise(), image, torch.device("cpu"), Settings(window=window, margin=margin, batch=3))
        assert set(found) == {"np"} and np.allclose(found["np"], expected, atol=1e-6), (window, margin)


@pytest.mark.parametrize(("shape", "mpp"), [((1, 96), 0.25), ((96, 1), 0.25), ((1, 1), 0.25), ((5, 5), 0.02)])
def test_a_tile_that_is_too_small_is_empty_and_all_others_are_written(images, tmp_path, capsys, shape, mpp):
    folder, out = tmp_path / "images", tmp_path / "out"
    folder.mkdir()
    Image.fromarray(np.full((*shape, 3), 99, np.uint8)).save(folder / "a.png")
    with Image.open(images / "tile 0.png") as picture:
        picture.save(folder / "b.png")
    (folder / "._b.png").write_bytes(b"of macOS")
    words = ["predict", "--method", "classical", "--images", str(folder), "--out", str(out), "--mpp", str(mpp)]
    assert main(words) == 0
    assert "a.png: " in (err := capsys.readouterr().err) and "too few to see a nucleus" in err
    assert label_files.labels(out / "a.tif", shape, ()).instances.any() == 0
    assert {path.name for path in out.iterdir()} == {
        *(f"{name}.{kind}" for name in "ab" for kind in ("tif", "png", "geojson")),
        "nuclei.csv",
    }


@pytest.mark.parametrize("sides", [(2, 2), (3, 40)])
def test_the_smallest_tiles_that_are_seen(sides):
    method = registry.build("classical", 0, 0)
    image = np.full((*sides, 3), 99, np.uint8)
    nuclei = nuclei_of(method, image, 0.25, torch.device("cpu"))
    assert nuclei.instances.shape == sides


def test_what_is_written_can_be_scored_and_used_as_a_data_set(images, weights, tmp_path, capsys):
    folder, out = tmp_path / "data" / "images", tmp_path / "data" / "out"
    folder.mkdir(parents=True)
    for i in range(3):
        with Image.open(images / "tile 0.png") as picture:
            tifffile.imwrite(folder / f"{i}.ome.tif", np.roll(np.asarray(picture), 10 * i, 0), photometric="rgb")
    assert main(["predict", "--weights", str(weights), "--images", str(folder), "--out", str(out)]) == 0
    true = tmp_path / "true"
    true.mkdir()
    for i in range(3):
        shutil.copy(out / f"{i}.tif", true / f"{i}.ome.tif")
    (tmp_path / "classes.toml").write_text('classes = ["immune", "tumour"]\n')
    words = ["score", "--true", str(true), "--pred", str(out), "--mpp", "0.25"]
    assert main([*words, "--types", str(tmp_path / "classes.toml")]) == 0
    assert "3 images" in capsys.readouterr().out
    found = collection(out, type_names.read(tmp_path / "classes.toml").pred).images
    rows = list(csv.DictReader((out / "nuclei.csv").open()))
    for image in found:
        labelled = image.read(None)
        assert np.array_equal(labelled.instances, tifffile.imread(out / f"{image.name}.tif"))
        kinds = [["", "immune", "tumour"].index(row["type"]) for row in rows if row["image"] == f"{image.name}.ome.tif"]
        assert (labelled.types if labelled.types is not None else np.zeros(len(kinds))).tolist() == kinds
    (tmp_path / "data/dataset.toml").write_text('classes = []\nmpp = 0.25\npatch = 64\n[files]\nlabels = "out"\n')
    fold = prepare(Folder(tmp_path / "data"), tmp_path / "cache", progress=False).folds[1]
    assert set(fold.meta["sources"]) == {"0", "1", "2"} and fold[0].nuclei.instances.shape == (64, 64)


def test_another_resolution_is_resized_there_and_back():
    method = registry.build("classical", 0, 0)
    image = draw("Colon", 3, 0).image
    fine = nuclei_of(method, image, 0.25, torch.device("cpu"))
    coarse = nuclei_of(method, image[::2, ::2], 0.5, torch.device("cpu"))
    assert coarse.instances.shape == (128, 128) and coarse.mpp == 0.5
    ids = np.unique(coarse.instances)
    assert ids.tolist() == list(range(len(coarse) + 1)) and 0.5 * len(fine) < len(coarse) < 2 * len(fine)
    both = (coarse.instances > 0) & (fine.instances[::2, ::2] > 0)
    either = (coarse.instances > 0) | (fine.instances[::2, ::2] > 0)
    assert both.sum() / either.sum() > 0.6


def test_predict_of_an_array_and_of_a_file_are_the_command_s(images, tmp_path):
    method = registry.build("classical", 0, 0)
    words = ["--method", "classical", "--images", str(images), "--out", str(tmp_path), "--device", "cpu"]
    assert main(["predict", *words, "--mpp", "0.3", "--window", "96", "--margin", "16"]) == 0
    windows = {"device": "cpu", "window": 96, "margin": 16}
    for path in sorted(images.iterdir()):
        stored = tifffile.imread(tmp_path / f"{path.stem}.tif")
        for image in (path, str(path), np.asarray(Image.open(path)).astype(float)):
            nuclei = predict(method.train(), image, 0.3, **windows)
            assert np.array_equal(nuclei.instances, stored) and nuclei.mpp == 0.3 and not method.training
    assert stored.max() > 0


@pytest.mark.parametrize(
    ("image", "options", "says"),
    [
        (np.zeros((8, 8)), {}, r"^the image: expected RGB \(height, width, 3\), found shape \(8, 8\)"),
        (np.full((8, 8, 3), 0.5), {}, "multiply the images by 255"),
        ("nowhere.png", {}, "nowhere.png"),
        ("x.mrxs", {}, r"^x.mrxs: expected images .*, found '.mrxs'; .* convert a slide to tiled TIFF"),
        (np.zeros((8, 8, 3), np.uint8), {"mpp": 25}, "^mpp is 25; expected micrometres per pixel"),
        (np.zeros((8, 8, 3), np.uint8), {"window": 40}, "^window is 40 and margin 32; expected a multiple of 16"),
        (np.zeros((8, 8, 3), np.uint8), {"device": "tpu"}, "expected auto, cpu, cuda"),
    ],
)
def test_what_predict_refuses(image, options, says):
    with pytest.raises(InputError, match=says):
        predict(registry.build("classical", 0, 0), image, **options)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--images", "nowhere"], "or slides (.svs, .ndpi, .scn), found no such file or folder; name the file"),
        (["--mpp", "25"], "--mpp is 25"),
        (["--window", "100"], "--window is 100"),
        (["--margin", "128"], "--margin 128"),
        (["--method", "cellvta@debug"], "give its weights"),
        (["--weights", "nowhere.pth"], "nowhere.pth"),
    ],
)
def test_bad_input(images, tmp_path, capsys, words, said):
    base = {"--images": str(images), "--out": str(tmp_path / "out"), "--method": "classical"}
    base |= dict(zip(words[::2], words[1::2]))
    assert main(["predict", *(w for pair in base.items() for w in pair)]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_pieces_of_a_ring_come_back():
    labels = np.zeros((9, 9), np.int64)
    paint(
        labels,
        [np.array([[1.0, 1], [8, 1], [8, 8], [1, 8]]), np.array([[3.0, 3], [6, 3], [6, 6], [3, 6]])],
        1,
        "corners",
    )
    assert labels.sum() == 49 - 9


def test_images_are_never_overwritten(images, capsys):
    assert main(["predict", "--method", "classical", "--images", str(images), "--out", str(images)]) == 2
    assert "would overwrite" in capsys.readouterr().err and len(list(images.iterdir())) == 2


def test_opaque_alpha_is_dropped(images, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    with Image.open(images / "tile 0.png") as picture:
        colours = np.asarray(picture)
    rgba = np.dstack([colours, np.full(colours.shape[:2], 255, np.uint8)])
    Image.fromarray(rgba).save(folder / "b.png")
    tifffile.imwrite(folder / "c.tif", rgba, photometric="rgb", extrasamples=["unassalpha"])
    tifffile.imwrite(folder / "d.tif", colours)
    for path in folder.iterdir():
        assert (label_files.image(path) == colours).all(), path


@pytest.mark.parametrize("bad", ["grey.png", "grey.tif", "see-through.png", "grey.npy"])
def test_an_unfit_image_is_said_before_the_first_is_predicted(images, tmp_path, capsys, bad):
    folder, out = tmp_path / "images", tmp_path / "out"
    shutil.copytree(images, folder)
    values = np.full((64, 64, 4) if "see" in bad else (64, 64), 99, np.uint8)
    if bad.endswith("npy"):
        np.save(folder / f"z {bad}", values)
    else:
        Image.fromarray(values).save(folder / f"z {bad}")
    assert main(["predict", "--method", "classical", "--images", str(folder), "--out", str(out)]) == 2
    assert f"z {bad}: expected RGB" in capsys.readouterr().err and not out.exists()


def spoil(path, how):
    """An image whose header is whole and whose content is not."""
    with Image.open(path) as picture:
        pixels = np.asarray(picture)
    if how == "turned":
        tags = Image.Exif()
        tags[274] = 6
        Image.fromarray(pixels).save(path, exif=tags)
    elif how == "no numbers":
        path.unlink()
        np.save(path.with_suffix(".npy"), np.full(pixels.shape, np.nan))
    elif how == "truncated":
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)


@pytest.mark.parametrize("how", ["truncated", "a bit", "no numbers", "turned"])
def test_a_damaged_tile_is_named_and_all_others_are_written(images, tmp_path, capsys, how):
    """Half of the tiles and no nuclei.csv were left, or that of an earlier call."""
    folder, out = tmp_path / "images", tmp_path / "out"
    shutil.copytree(images, folder)
    words = ["predict", "--method", "classical", "--images", str(folder), "--out", str(out)]
    assert main(words) == 0
    whole = (out / "nuclei.csv").read_text()
    spoil(folder / "tile 0.png", how)
    assert main(words) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: 1 of 2 images is left out, all others are written to {out}: ")
    assert "tile 0." in error
    assert {path.name for path in out.iterdir()} == {"tile 1.tif", "tile 1.png", "tile 1.geojson", "nuclei.csv"}
    lines = whole.splitlines(keepends=True)
    assert (out / "nuclei.csv").read_text() == "".join(line for line in lines if not line.startswith("tile 0"))


@pytest.mark.parametrize("number", [1, 2])
def test_where_no_image_can_be_used_nothing_is_written(images, tmp_path, capsys, number):
    (folder := tmp_path / "images").mkdir()
    out = tmp_path / "out"
    for k in range(number):
        shutil.copy(images / "tile 0.png", folder / f"{k}.png")
        spoil(folder / f"{k}.png", "truncated")
    assert main(["predict", "--method", "classical", "--images", str(folder), "--out", str(out), "--mpp", "0.25"]) == 2
    error = capsys.readouterr().err
    assert not out.exists() and "are written" not in error
    assert all(error.count(f"{k}.png") == 1 for k in range(number))
    assert [line.startswith("error: ") for line in error.splitlines() if ".png" in line][-1]


def test_a_device_that_is_not_here_is_refused_before_anything_is_written(images, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    words = ["--images", str(images), "--out", str(tmp_path / "out"), "--device", "cuda"]
    assert main(["predict", "--method", "classical", *words]) == 2
    error = capsys.readouterr().err
    assert "sees no CUDA device here; use --device cpu, or auto" in error and not (tmp_path / "out").exists()


def test_results_of_other_images_are_never_mixed_in(images, tmp_path, capsys):
    out = tmp_path / "out"
    words = ["predict", "--method", "classical", "--out", str(out), "--images"]
    assert main([*words, str(images / "tile 0.png")]) == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert main([*words, str(images / "tile 1.png")]) == 2
    assert "holds results of 1 other images (such as tile 0.tif) of an earlier call" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert main([*words, str(images)]) == 0


def predicted(images, out) -> int:
    return main(["predict", "--method", "classical", "--images", str(images), "--out", str(out)])


@pytest.mark.parametrize("name", ["tile 0.png", "tile 0.tif", "tile 0.geojson", "nuclei.csv"])
def test_files_of_the_user_s_are_not_overwritten(name, images, tmp_path, capsys):
    out = tmp_path / "found"
    out.mkdir()
    (out / name).write_text("mine")
    assert predicted(images, out) == 2 and "another folder, or move it" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == [name] and (out / name).read_text() == "mine"


def test_what_a_killed_call_left_is_made_anew(images, tmp_path):
    out = tmp_path / "found"
    assert predicted(images, out) == 0
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    for name in ("tile 0.png", "tile 0.geojson", "nuclei.csv"):  # the label map is written first, the table last
        (out / name).unlink()
    assert predicted(images, out) == 0 and {path.name: path.read_bytes() for path in out.iterdir()} == whole


def test_images_of_other_kinds_are_said(images, tmp_path, capsys):
    folder = tmp_path / "images"
    shutil.copytree(images, folder)
    for name in ("x.bmp", "scan.mrxs"):
        (folder / name).write_bytes(b"x")
    words = ["predict", "--method", "classical", "--images", str(folder), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert f"{folder}: 2 pictures are not read (.bmp: 1, .mrxs: 1); save" in capsys.readouterr().err
    for path in folder.glob("tile*"):
        path.unlink()
    assert main(words) == 2
    assert "found none (2 pictures are not read (.bmp: 1, .mrxs: 1)" in capsys.readouterr().err


def test_a_float_image_is_rounded_and_said(images, tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    with Image.open(images / "tile 0.png") as picture:
        np.save(folder / "a.npy", np.asarray(picture) * 0.99)
    words = ["predict", "--method", "classical", "--images", str(folder), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    assert "a.npy: the values of the image have fractions and are rounded" in capsys.readouterr().err
    np.save(folder / "a.npy", np.load(folder / "a.npy") / 255 * 1.2)
    assert main(words) == 2
    assert "found a float image in" in capsys.readouterr().err


def test_weights_of_a_run_without_its_configuration(images, weights, tmp_path, capsys):
    shutil.copy(weights, tmp_path / "weights.safetensors")
    words = ["predict", "--weights", str(tmp_path / "weights.safetensors"), "--images", str(images)]
    for method in ([], ["--method", "hovernet@debug"]):
        assert main([*words, *method, "--out", str(tmp_path / "out")]) == 2
        assert (
            "its classes and arguments stand in the config.json of its run; give the run's" in capsys.readouterr().err
        )
