"""`predict` on the command line: slides, a run's folder as weights, resolutions, scores, batch and number format."""

import csv
import gzip
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import tifffile
from PIL import Image
from scipy import ndimage

from benchmark.cli import main
from benchmark.data.nuclei import Nuclei
from benchmark.data.sources.synthetic import draw
from benchmark.methods import registry
from benchmark.representations.hv import HoVerNetHV
from tests.support.slide_files import damage, mosaic, write_pyramid, write_svs
from tests.support.tiny_data import TINY

CLASSICAL = ["predict", "--method", "classical", "--device", "cpu"]


@pytest.fixture(scope="module")
def image():
    return mosaic(2, 2, glass=20)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run."""
    folder = tmp_path_factory.mktemp("home")
    words = ["run", "--method", "hovernet@debug", "--dataset", TINY, "--preset", "debug", "--device", "cpu"]
    assert (
        main([*words, "--results", str(folder / "results"), "--cache", str(folder / "cache"), "recipe.epochs=1"]) == 0
    )
    (config,) = (folder / "results").rglob("metrics.json")
    return config.parent


@pytest.fixture
def dark_is_nucleus(monkeypatch):
    """A network that was trained for an epoch finds nothing; what is asked here needs nuclei."""

    def decode(self, outputs, mpp, settings=None):
        nuclei = Nuclei.from_labels(ndimage.label(outputs["dark"][0] > 0)[0], None, mpp)
        kinds = np.arange(len(nuclei)) % 3
        return replace(nuclei, types=kinds.astype(np.uint8), scores=(kinds / 2).astype(np.float32))

    cls = registry.method_class("hovernet")
    monkeypatch.setattr(cls, "predict", lambda self, images: {"dark": 0.5 - images.mean(1, keepdim=True)})
    monkeypatch.setattr(HoVerNetHV, "decode", decode)


def test_a_slide_by_the_weights_of_a_run(image, run, dark_is_nucleus, tmp_path, capsys):
    pytest.importorskip("tiffslide")
    path = write_svs(tmp_path / "a slide.svs", image)
    words = ["predict", "--weights", str(run), "--images", str(path), "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main([*words, "--batch", "3"]) == 0
    captured = capsys.readouterr()
    assert "in 1 slide ->" in captured.out and "552 x 552 px at 0.25 µm/px (level 0 of 2)" in captured.err
    facts = json.loads((tmp_path / "out" / "a slide.json").read_text())
    assert facts["identity"]["settings"]["batch"] == 3 and facts["identity"]["method"]["weights"]
    classes = json.loads((run / "config.json").read_text())["classes"]
    assert set(facts["by_type"]) == set(classes)
    table = pq.read_table(tmp_path / "out" / "a slide.parquet").to_pandas()
    assert len(table) == facts["nuclei"] > 20 and set(table.type.dropna()) <= set(classes)
    assert set(table.score) == {0, 0.5, 1}


def test_a_folder_that_is_no_run_is_refused(image, tmp_path, capsys):
    Image.fromarray(image).save(tmp_path / "a.png")
    (tmp_path / "no run").mkdir()
    words = ["predict", "--weights", str(tmp_path / "no run"), "--images", str(tmp_path / "a.png")]
    assert main([*words, "--out", str(tmp_path / "out")]) == 2
    assert "no run" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_scores_are_written_where_a_method_has_them(image, run, dark_is_nucleus, tmp_path):
    Image.fromarray(image[20:180, 20:180]).save(tmp_path / "a.png")
    common = ["--images", str(tmp_path / "a.png"), "--device", "cpu", "--out"]
    assert main(["predict", "--weights", str(run), *common, str(tmp_path / "net")]) == 0
    assert main(["predict", "--method", "classical", *common, str(tmp_path / "classical")]) == 0
    for name, scored in (("net", True), ("classical", False)):
        lines = list(csv.DictReader((tmp_path / name / "nuclei.csv").open()))
        features = json.loads((tmp_path / name / "a.geojson").read_text())["features"]
        assert lines and len(lines) == len(features)
        for line, feature in zip(lines, features):
            assert (line["score"] != "") == scored == ("Score" in feature["properties"]["measurements"])
            if scored:
                assert 0 <= float(line["score"]) == feature["properties"]["measurements"]["Score"] <= 1


def test_a_slide_that_states_no_resolution_is_refused_and_the_option_gives_it(image, tmp_path, capsys):
    pytest.importorskip("tiffslide")
    path = write_svs(tmp_path / "x.svs", image, tags="|AppMag = 40")
    words = [*CLASSICAL, "--images", str(path), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "x.svs: states no resolution; give its micrometres per pixel with --mpp" in capsys.readouterr().err
    assert {one.name for one in (tmp_path / "out").iterdir()} == {"slides.csv"}
    assert main([*words, "--mpp", "0.25"]) == 0
    assert (tmp_path / "out" / "x.parquet").exists()


def test_images_and_slides_of_one_folder(image, tmp_path, capsys):
    """A damaged image does not keep slides from being predicted, nor a damaged slide other slides."""
    pytest.importorskip("tiffslide")
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a", "b"):
        write_svs(folder / f"{name}.svs", image, compression="zlib")
    damage(folder / "a.svs", 4, "bytes")
    Image.fromarray(image).save(folder / "c.png")
    Image.fromarray(image).save(folder / "d.png")
    (folder / "d.png").write_bytes((folder / "d.png").read_bytes()[:5000])
    assert main([*CLASSICAL, "--images", str(folder), "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert "1 of 2 images is left out, all others are written" in error, "before, the slides' error hid this one"
    assert "d.png" in error and "a.svs: 1 tile of the file cannot be decoded, such as row 1, column 1" in error
    assert {"c.tif", "a.parquet", "b.parquet", "nuclei.csv"} <= {one.name for one in out.iterdir()}
    lines = {line["slide"]: line for line in csv.DictReader((out / "slides.csv").open())}
    assert [lines[name]["unreadable_tiles"] for name in ("a.svs", "b.svs")] == ["1", "0"]
    assert 0 < int(lines["a.svs"]["nuclei"]) < int(lines["b.svs"]["nuclei"])


def test_a_tiff_without_a_header_is_left_out_and_slides_are_predicted(image, tmp_path, capsys):
    """Before, nothing was."""
    pytest.importorskip("tiffslide")
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    write_svs(folder / "u.svs", image)
    Image.fromarray(image[:64, :64]).save(folder / "c.png")
    (folder / "bad.tif").write_bytes(b"II*\0")
    words = [*CLASSICAL, "--images", str(folder), "--out", str(out)]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "left out: " in error and "bad.tif" in error.splitlines()[-1]
    assert {one.name for one in out.iterdir()} >= {"u.parquet", "c.tif", "slides.csv", "nuclei.csv"}
    (folder / "u.svs").unlink()
    assert main([*words[:-1], str(tmp_path / "images")]) == 2, "headers of images are looked at first"
    assert not list(tmp_path.glob("images/*"))


def test_a_small_pyramid_is_never_predicted_as_an_image(image, tmp_path, monkeypatch, capsys):
    """Before, it was, at an assumed 0.25 µm/px where it states none, and without tiffslide too."""
    pytest.importorskip("tiffslide")
    path = write_pyramid(tmp_path / "x.ome.tif", image, levels=2)
    words = [*CLASSICAL, "--images", str(path), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert "states no resolution" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tiffslide", None)
    assert main([*words, "--mpp", "0.25"]) == 2
    assert "install the extra [slides]" in capsys.readouterr().err
    monkeypatch.undo()
    assert main([*words, "--mpp", "0.25"]) == 0
    assert json.loads((tmp_path / "out" / "x.json").read_text())["nuclei"] > 0


def test_an_upgrade_of_a_package_makes_slides_anew(image, tmp_path, monkeypatch, capsys):
    """The package and its version identify what a method of another package made, as of runs."""
    pytest.importorskip("tiffslide")
    words = [*CLASSICAL, "--images", str(write_svs(tmp_path / "x.svs", image)), "--out", str(tmp_path / "out")]
    for version in ("0.1", "0.2", "0.2"):
        monkeypatch.setattr(registry, "package_of", lambda name, version=version: f"two {version}")
        assert main(words) == 0
        method = json.loads((tmp_path / "out" / "x.json").read_text())["identity"]["method"]
        assert method["package"] == f"two {version}", "before, results of 0.1 stayed"
    assert capsys.readouterr().err.count("done before") == 1


def test_the_folder_of_images_is_never_that_of_the_results(image, tmp_path, capsys):
    """Before, links to images were overwritten where they lay."""
    store, links = tmp_path / "store", tmp_path / "links"
    store.mkdir(), links.mkdir()
    Image.fromarray(image[:64, :64]).save(store / "a.png")
    (links / "a.png").symlink_to(store / "a.png")
    for out in (links, store):
        assert main([*CLASSICAL, "--images", str(links), "--out", str(out)]) == 2
        assert f"--out {out} is the folder of the images" in capsys.readouterr().err
    assert (links / "a.png").is_symlink() and len(list(store.iterdir())) == len(list(links.iterdir())) == 1


def test_the_resolution_that_a_tiff_states_is_used(tmp_path, capsys):
    """Before, every image had 0.25 µm per pixel unless --mpp said otherwise."""
    fine = draw("Colon", 3, 0).image
    folder = tmp_path / "in"
    folder.mkdir()
    tifffile.imwrite(folder / "stated.tif", fine[::2, ::2], photometric="rgb", resolution=(20000, 20000),
                     resolutionunit="CENTIMETER")  # fmt: skip
    tifffile.imwrite(folder / "screen.tif", fine, photometric="rgb", resolution=(72, 72), resolutionunit="INCH")
    assert main([*CLASSICAL, "--images", str(folder), "--out", str(tmp_path / "out")]) == 0
    printed = "1 of 2 images (such as screen.tif) states no resolution of a microscope and is taken to have 0.25"
    assert printed in capsys.readouterr().err
    assert main([*CLASSICAL, "--images", str(folder), "--out", str(tmp_path / "same"), "--mpp", "0.5"]) == 0
    assert "no resolution" not in capsys.readouterr().err
    for name, same in (("stated.geojson", True), ("screen.geojson", False)):
        one, other = ((tmp_path / out / name).read_bytes() for out in ("out", "same"))
        assert (one == other) == same
    lines = list(csv.DictReader((tmp_path / "out" / "nuclei.csv").open()))
    areas = {name: float(line["area_um2"]) / int(line["area_px"]) for line in lines for name in [line["image"]]}
    assert areas == {"stated.tif": 0.25, "screen.tif": 0.0625}


def test_the_number_format_reaches_the_network(image, run, tmp_path, monkeypatch):
    from benchmark.runtime import precision

    Image.fromarray(image[:96, :96]).save(tmp_path / "a.png")
    used, autocast = [], precision.autocast
    monkeypatch.setattr(precision, "autocast", lambda name, device: used.append(name) or autocast(name, device))
    words = ["predict", "--weights", str(run), "--images", str(tmp_path / "a.png"), "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path / "out"), "--precision", "bf16"]) == 0
    assert set(used) == {"bf16"}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--batch", "0"], "--batch is 0; expected a whole number of at least 1"),
        (["--tile", "64"], "--tile is 64; expected 128 to 8192"),
        (["--workers", "0"], "--workers is 0"),
        (["--precision", "fp8"], "invalid choice: 'fp8'"),
    ],
)
def test_settings_that_make_no_sense(image, tmp_path, capsys, words, says):
    Image.fromarray(image[:64, :64]).save(tmp_path / "a.png")
    words = [*CLASSICAL, "--images", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), *words]
    try:
        code = main(words)
    except SystemExit as stop:
        code = stop.code
    assert code == 2 and says in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_killed_command_continues(image, tmp_path):
    """The process is killed while it predicts; the same command ends with the bytes of an unbroken one."""
    pytest.importorskip("tiffslide")
    path = write_svs(tmp_path / "x.svs", np.concatenate([image, image]), compression="zlib")
    words = [*CLASSICAL, "--images", str(path), "--tile", "256"]
    assert main([*words, "--out", str(tmp_path / "unbroken")]) == 0
    out = tmp_path / "out"
    process = subprocess.Popen([sys.executable, "-m", "benchmark", *words, "--out", str(out)])
    while not list(out.glob("x.tiles/*-*.npz")) and process.poll() is None:
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            pass
    process.kill()
    process.wait()
    assert main([*words, "--out", str(out)]) == 0
    assert {one.name for one in out.iterdir()} == {one.name for one in (tmp_path / "unbroken").iterdir()}
    for one in out.iterdir():
        assert one.read_bytes() == (tmp_path / "unbroken" / one.name).read_bytes(), one.name
    assert json.loads(gzip.decompress((out / "x.geojson.gz").read_bytes()))["features"]
