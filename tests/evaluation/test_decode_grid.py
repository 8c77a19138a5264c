"""Kept maps and the grid of post-processing settings over them; predictions written image by image."""

import csv
import json
import pickle
import re
import shlex
import subprocess
import sys
import zipfile
from dataclasses import fields, replace

import numpy as np
import pytest

from benchmark.cli import main, parser
from benchmark.commands.postprocess import settings
from benchmark.data.nuclei import Nuclei
from benchmark.evaluation import decode_grid, decoding
from benchmark.methods import registry
from benchmark.postproc.hv import HVSettings, decode_hv
from benchmark.representations.hv import HV, HoVerNetHV
from benchmark.representations.named import REPRESENTATIONS, representation
from benchmark.results import predictions
from benchmark.results.raw_maps import StoredMaps, drop, writing
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import ROOT
from tests.support.hv_maps import image

WORDS = ("--method", "hovernet", "--keep-maps", "recipe.epochs=1", "recipe.samples=4")


def stored(folder, n: int = 5) -> list[Nuclei]:
    """Write n images' maps as two ranks would, and return their truths."""
    truths = []
    for rank in range(2):
        with writing(RunFolder(folder), rank) as put:
            for i in range(rank, n, 2):
                put(i, image(i)[1])
    truths += [image(i)[0] for i in range(n)]
    return truths


def test_maps_come_back_in_half_precision(tmp_path):
    stored(tmp_path)
    maps = pickle.loads(pickle.dumps(StoredMaps(RunFolder(tmp_path))))
    assert maps.images == list(range(5)) and maps.names == ["hv", "np", "tp"]
    for i in (3, 0, 4):
        for name, values in maps.read(i).items():
            assert values.dtype == np.float32
            np.testing.assert_allclose(values, image(i)[1][name], atol=1e-3)
    drop(RunFolder(tmp_path), 1)
    assert StoredMaps(RunFolder(tmp_path)).images == [0, 2, 4]
    drop(RunFolder(tmp_path))
    with pytest.raises(InputError, match="KEEP_MAPS=1"):
        StoredMaps(RunFolder(tmp_path))


def test_an_interrupted_writer_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), writing(RunFolder(tmp_path)) as put:
        put(0, image(0)[1])
        raise KeyboardInterrupt
    assert not list(tmp_path.iterdir())


def test_damaged_maps_are_named(tmp_path):
    (tmp_path / "maps-0.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match=r"maps-0\.npz cannot be read"):
        StoredMaps(RunFolder(tmp_path))


@pytest.mark.parametrize("workers", [0, 2])
def test_grid_equals_decoding_each_map_by_itself(tmp_path, workers):
    truths = stored(tmp_path)
    maps = StoredMaps(RunFolder(tmp_path))
    grid = [HVSettings.cellvit40(), HVSettings(opening=1), HVSettings(opening=1, edge=0.6, object_size=3)]
    decoded = decode_grid.decode(maps, truths, grid, HV(), workers=workers)
    for one, records in zip(grid, decoded):
        counts = []
        for i in range(5):
            kept = maps.read(i)
            counts.append(len(decode_hv(kept["np"], kept["hv"], kept["tp"], one, 0.25)))
        assert records.images["n_pred"].tolist() == counts
        assert records.images["image_id"].tolist() == [f"i{i}" for i in range(5)]
    small = [int((r.nuclei.query("side == 'true'")["match"] > 0).sum()) for r in decoded]
    assert small[2] > small[0]  # with less opening and a wider edge the discs of 2 px radius are found


def test_workers_do_not_import_torch():
    code = "import sys, benchmark.evaluation.decode_grid, benchmark.data.store.subset; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout.strip() == "False", done.stderr


def test_maps_of_other_images_or_methods_are_refused(tmp_path):
    truths = stored(tmp_path)
    smaller = [t.crop(0, 0, 64, 64) for t in truths]
    with pytest.raises(InputError, match="they belong to other data"):
        decode_grid.decode(StoredMaps(RunFolder(tmp_path)), smaller, [HVSettings()], HV(), workers=0)
    drop(RunFolder(tmp_path))
    with writing(RunFolder(tmp_path)) as put:
        put(0, {"rgb": np.zeros((3, 8, 8))})
    with pytest.raises(InputError, match="the kept maps are rgb"):
        decode_grid.decode(StoredMaps(RunFolder(tmp_path)), truths, [HVSettings()], HV(), workers=0)


def test_maps_that_are_not_finite_name_the_image(tmp_path):
    truth, maps = image(0)
    maps["hv"][1, 5, 5] = np.nan
    with writing(RunFolder(tmp_path)) as put:
        put(0, maps)
    with pytest.raises(InputError, match=r"image 0: expected finite outputs .* NaN or infinity in 'hv'"):
        decode_grid.decode(StoredMaps(RunFolder(tmp_path)), [truth], [HVSettings()], HV(), workers=0)


@pytest.mark.parametrize("name", REPRESENTATIONS)
def test_maps_of_other_data_or_another_tiling_name_the_image(tmp_path, name):
    way, truth = representation(name), image(0)[0]
    with writing(RunFolder(tmp_path)) as put:
        put(0, way.ideal(way.targets(truth), 2))
    maps, settings = StoredMaps(RunFolder(tmp_path)), [way.settings(0.25)]
    with pytest.raises(InputError, match=r"image 0: .* shape \(\d+, .* 'conic40' does not give"):
        decode_grid.decode(maps, [truth], settings, way, workers=0, tiling="conic40")
    smaller = Nuclei.from_labels(truth.instances[:-1], truth.types, truth.mpp)
    with pytest.raises(InputError, match=r"image 0: .* shape \(\d+, \d+\), the truth .* belong to other data"):
        decode_grid.decode(maps, [smaller], settings, way, workers=0)


@pytest.mark.parametrize("tiling", ["conic40", "conic40_corrected"])
def test_maps_of_a_tiled_run_decode_as_the_run_did(tmp_path, tiling):
    truths = [image(i)[0] for i in range(2)]
    with writing(RunFolder(tmp_path)) as put:
        for i, truth in enumerate(truths):
            put(i, decoding.ideal(HV(), truth, 2, tiling) | {"tissue": np.zeros((4, 3))})
    maps = StoredMaps(RunFolder(tmp_path))
    settings = [HVSettings.cellvit40(), HVSettings(object_size=10**4)]
    found, none = decode_grid.decode(maps, truths, settings, HV(), workers=0, tiling=tiling)
    for i, truth in enumerate(truths):
        expected = decoding.decode(HV(), maps.read(i), truth.mpp, tiling)
        areas = np.bincount(expected.instances.ravel())[1:]
        nuclei = found.nuclei.query(f"side == 'pred' and image == {i}")
        assert len(expected) and nuclei["area"].tolist() == areas[areas > 0].tolist()
        assert nuclei["type"].tolist() == expected.types[areas > 0].tolist()
    assert none.images["n_pred"].tolist() == [0, 0]
    with pytest.raises(InputError, match="which the run's tiling 'none' does not"):
        decode_grid.decode(maps, truths, settings, HV(), workers=0)


@pytest.mark.parametrize("name", [n for n in registry.method_names() if n != "classical"])
@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_reference_settings_are_those_of_the_method(name, mpp):
    _, maps = image(1)
    maps = {k: v for k, v in maps.items() if k != "tissue"}
    maps["np"] = np.round(maps["np"] * image(2)[1]["hv"][:1], 1) * [[[0]], [[1]]]  # logits equal in places
    cls = registry.method_class(name)
    way = cls.representation_of(cls.arguments())
    own = way.decode(maps, mpp)
    published = HVSettings.hovernet() if name == "hovernet" else HVSettings.for_mpp(mpp)
    assert way.settings(mpp) == published
    grid = decode_hv(maps["np"], maps["hv"], maps["tp"], published, mpp)
    assert np.array_equal(own.instances, grid.instances) and np.array_equal(own.types, grid.types)


def test_the_grid_that_we_declare():
    grid = settings("postprocess", HV(), 0.25)
    assert next(iter(grid)) == "published" and grid["published"] == HVSettings.cellvit40()
    assert grid["no opening"] == HVSettings(opening=1)
    assert settings("postprocess", HoVerNetHV(), 0.5)["edge 0.6"] == HVSettings(threshold="half", edge=0.6)
    with pytest.raises(InputError, match="has no `postprocess` grid"):
        settings("main", HV(), 0.25)


@pytest.mark.parametrize("entry", ["3", "dict(edge='x')", "dict(kszie=5)"])
def test_a_wrong_setting_is_named(tmp_path, entry):
    path = tmp_path / "grid.py"
    path.write_text(f"_base_ = [{str(ROOT / 'experiments/main.py')!r}]\npostprocess = {{'a': {entry}}}\n")
    with pytest.raises(InputError, match=r"grid\.py"):
        settings(str(path), HV(), 0.25)


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert main(["postprocess", "--run", str(tmp_path)]) == 2
    assert f"{tmp_path}: expected the folder of a finished run (no metrics.json there)" in capsys.readouterr().err


@pytest.fixture(scope="module")
def run_with_maps(command_here, tmp_path_factory):
    results = tmp_path_factory.mktemp("results")
    done = command_here("run", *WORDS, results=results)
    assert done.returncode == 0, done.stderr
    (folder,) = results.glob("*/hovernet@debug,*/fold1-seed0")
    return folder


def test_postprocess_command_reproduces_the_run_and_writes_every_setting(run_with_maps, cache, tmp_path, capsys):
    words = ["--run", str(run_with_maps), "--cache", str(cache), "--reports", str(tmp_path)]
    assert main(["postprocess", *words]) == 0
    printed = capsys.readouterr().out
    (folder,) = [path for path in (tmp_path / "postprocess").iterdir() if path.is_dir()]
    with (tmp_path / "postprocess/settings.csv").open(newline="") as handle:
        gains = list(csv.DictReader(handle))
    assert (tmp_path / "postprocess/settings.png").is_file()
    assert [gain["metric"] for gain in gains] == ["bPQ"] * 15 + ["mPQ"] * 15
    assert "PQ by size" in printed and "| no opening" in printed
    assert {"postprocessing.md", "postprocessing.csv", "postprocessing.tex"} <= {p.name for p in folder.iterdir()}
    assert len(list((folder / "records").iterdir())) == 16
    rows = (folder / "postprocessing.csv").read_text().splitlines()
    assert len(rows) == 17 and rows[0].startswith("setting,threshold,ksize")
    stored_bpq = json.loads((run_with_maps / "metrics.json").read_text())["protocols"]["cellvit"]["bPQ"]
    column = rows[0].split(",").index("cellvit/bPQ")
    assert float(rows[1].split(",")[column]) == pytest.approx(stored_bpq, abs=0.02)  # maps in half precision


def test_a_finished_run_predicts_once_more_for_its_maps(run_with_maps, command_here):
    (maps,) = run_with_maps.glob("maps-*.npz")
    metrics = (run_with_maps / "metrics.json").read_bytes()
    with zipfile.ZipFile(maps) as archive:
        before = {i.filename: i.CRC for i in archive.infolist()}
    maps.unlink()
    done = command_here("run", *WORDS, results=run_with_maps.parents[2])
    assert done.returncode == 0 and "predicting once more" in done.stderr
    with zipfile.ZipFile(maps) as archive:
        assert {i.filename: i.CRC for i in archive.infolist()} == before
    assert (run_with_maps / "metrics.json").read_bytes() == metrics


def test_predictions_are_written_whole_and_small(tmp_path):
    truths = [image(i)[0] for i in range(4)]
    packed = [predictions.Packed.of(t) for t in truths]
    assert sum(len(p.data) for p in packed) < 0.1 * sum(2 * t.instances.size for t in truths)
    predictions.write(tmp_path / "p.npz", packed)
    with np.load(tmp_path / "p.npz", allow_pickle=False) as kept:
        assert kept["instances"].dtype == np.uint16 and kept["instances"].shape == (4, 96, 96)
        for i, truth in enumerate(truths):
            assert np.array_equal(kept["instances"][i], truth.instances)
            assert np.array_equal(kept["types"][kept["offsets"][i] : kept["offsets"][i + 1]], truth.types)
    predictions.write(tmp_path / "none.npz", [])
    with np.load(tmp_path / "none.npz", allow_pickle=False) as kept:
        assert len(kept["instances"]) == 0 and kept["offsets"].tolist() == [0]
    assert {p.name for p in tmp_path.iterdir()} == {"p.npz", "none.npz"}


def test_predictions_of_images_that_differ_in_size_are_kept_whole(tmp_path):
    nuclei = [image(i)[0].crop(0, 0, *sides) for i, sides in enumerate(((40, 96), (96, 30), (64, 64)))]
    nuclei[1] = replace(nuclei[1], type_map=np.where(nuclei[1].instances > 0, 1 + nuclei[1].instances % 2, 0))
    predictions.write(tmp_path / "p.npz", [predictions.Packed.of(n) for n in nuclei])
    with np.load(tmp_path / "p.npz", allow_pickle=False) as kept:
        assert kept["instances"].shape == (3, 96, 96) and kept["sizes"].tolist() == [[40, 96], [96, 30], [64, 64]]
        content = dict(kept)
    for stored, truth in zip(predictions.load(tmp_path / "p.npz", [0, 1, 2], 0.25), nuclei):
        assert np.array_equal(stored.instances, truth.instances) and np.array_equal(stored.types, truth.types)
        assert np.array_equal(stored.pixel_types(), truth.pixel_types())
    for sizes in (content["sizes"][:2], content["sizes"] + 1, -content["sizes"]):
        np.savez(tmp_path / "q.npz", **content | {"sizes": sizes})
        with pytest.raises(InputError, match="found a damaged file"):
            predictions.load(tmp_path / "q.npz", [0], 0.25)


def test_the_page_lists_every_setting():
    text = (ROOT / "docs/postprocess.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert listed and set(listed) == {f.name for f in fields(HVSettings)}
    commands = re.findall(r"^python -m benchmark (.*)$", text, re.MULTILINE)
    assert [parser().parse_args(shlex.split(line)).command for line in commands] == ["postprocess", "misses"]
    truth, maps = image(0)
    found = {"np_map": maps["np"], "hv": maps["hv"], "tp": maps["tp"]}
    exec(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1], found)
    assert len(found["nuclei"]) == len(found["shapes"].area) <= len(truth)
