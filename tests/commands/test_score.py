"""`score`: foreign predictions get the scores of the protocols, and bad input one sentence."""

import csv
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from PIL import Image

from benchmark.metrics.match import match
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.metrics.records import Records
from benchmark.runtime.paths import ROOT
from tests.support.foreign_files import score

TOML = 'classes = ["Neoplastic", "Inflammatory"]\nmpp = 0.25\n'


def draw(seed: int, shift: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Instances and types of a few boxes; `shift` moves them."""
    rng = np.random.default_rng(seed)
    instances, types = np.zeros((64, 80), np.int32), np.zeros((64, 80), np.uint8)
    for n, (row, column) in enumerate([(4, 5), (4, 40), (30, 8), (34, 50)]):
        box = (slice(row + shift, row + shift + rng.integers(8, 20)), slice(column, column + rng.integers(8, 20)))
        instances[box], types[box] = 3 * n + 1, rng.integers(1, 3)
    return instances, types


def stack(path, seeds, shift=0, **more):
    maps = [draw(seed, shift) for seed in seeds]
    instances, types = (np.stack([m[k] for m in maps]) for k in (0, 1))
    np.savez_compressed(path, **({"instances": instances, "types": types} | more))
    return path


def expected(seeds, shift, tissues):
    matches = [match(*draw(s), *draw(s, shift), mpp=0.25) for s in seeds]
    meta = [{"image": i, "image_id": str(i), "tissue": tissues[i]} for i in range(len(seeds))]
    return Records.collect(matches, meta)


def test_every_protocol_equals_what_the_records_give(tmp_path, capsys):
    tissues = ["Colon", "Liver", "Colon"]
    true = stack(tmp_path / "t.npz", (1, 2, 3), names=np.array(["a", "b", "c"]), tissues=np.array(tissues))
    pred = stack(tmp_path / "p.npz", (3, 1, 2), shift=2, names=np.array(["c", "a", "b"]))  # another order
    toml = tmp_path / "classes.toml"
    toml.write_text(TOML)
    assert score(tmp_path, true, pred, "--types", toml, "--out", tmp_path / "out") == 0
    printed = capsys.readouterr().out
    stored = json.loads((tmp_path / "out/metrics.json").read_text())
    records = expected((1, 2, 3), 2, tissues)
    assert list(stored) == sorted(PROTOCOLS)
    for name, protocol in PROTOCOLS.items():
        values = protocol.summary(records, ["Neoplastic", "Inflammatory"], ["Colon", "Liver"])
        assert set(stored[name]) == set(values) and name in printed
        for key, value in values.items():
            assert (stored[name][key] is None) == (not np.isfinite(value))
            assert stored[name][key] is None or stored[name][key] == pytest.approx(value, abs=1e-12)
    with open(tmp_path / "out/images.csv") as handle:
        rows = list(csv.DictReader(handle))
    assert [r["image"] for r in rows if r["protocol"] == "cellvit"] == ["a", "b", "c"]
    assert list(rows[0])[:7] == ["protocol", "image", "tissue", "bPQ", "bDQ", "bSQ", "mPQ"]
    assert "PQ_Neoplastic" in rows[0] and rows[0]["tissue"] == "Colon"
    of = PROTOCOLS["cellvit"].images(records, 2)["bPQ"].tolist()
    assert [float(r["bPQ"]) for r in rows if r["protocol"] == "cellvit"] == pytest.approx(of)
    assert Records.load(tmp_path / "out").nuclei["area"].tolist() == records.nuclei["area"].tolist()


def test_tissues_that_differ_by_capitals_are_one(tmp_path, capsys):
    tissues = ["Colon", "COLON ", "Liver"]
    true = stack(tmp_path / "t.npz", (1, 2, 3), names=np.array(["a", "b", "c"]), tissues=np.array(tissues))
    assert score(tmp_path, true, true, "--mpp", "0.25", "--out", tmp_path / "out") == 0
    assert "tissues that differ by capitals, blanks or form alone are one: 'COLON" in capsys.readouterr().err
    with open(tmp_path / "out/images.csv") as handle:
        assert {row["tissue"] for row in csv.DictReader(handle)} == {"Colon", "Liver"}


def test_folders_of_different_formats_match_by_stem(tmp_path, capsys):
    for folder in ("true/types", "pred"):
        (tmp_path / folder).mkdir(parents=True)
    for name, seed in (("a", 1), ("b", 2)):
        instances, types = draw(seed)
        Image.fromarray(instances.astype(np.uint16)).save(tmp_path / "true" / f"{name}.png")
        Image.fromarray(types).save(tmp_path / "true/types" / f"{name}.png")
        tifffile.imwrite(tmp_path / "pred" / f"{name}.tif", instances.astype(np.float32))
    tifffile.imwrite(tmp_path / "pred" / "z.tif", instances)
    words = ("--mpp", 0.25, "--protocol", "cellvit", "--out", tmp_path / "out")
    assert score(tmp_path, tmp_path / "true", tmp_path / "pred", *words) == 0
    said = capsys.readouterr()
    assert "left out: 1 prediction belongs to no image of it ('z')" in said.err
    stored = json.loads((tmp_path / "out/metrics.json").read_text())["cellvit"]
    assert stored["bPQ"] == pytest.approx(1, abs=1e-5) and stored["mPQ"] is None  # these predictions have no types


def test_missing_predictions_are_refused_or_count_as_empty(tmp_path, capsys):
    for name in ("true", "pred"):
        (tmp_path / name).mkdir()
    for n in range(8):
        np.save(tmp_path / "true" / f"i{n}.npy", draw(n)[0])
    np.save(tmp_path / "pred/i0.npy", draw(0)[0])
    words = ("--mpp", 0.5, "--protocol", "cellvit", "--out", tmp_path / "out")
    assert score(tmp_path, tmp_path / "true", tmp_path / "pred", *words) == 2
    error = capsys.readouterr().err
    assert "7 of 8 images" in error and "'i1', 'i2', 'i3', 'i4', 'i5' and 2 more" in error
    assert not (tmp_path / "out").exists()
    assert score(tmp_path, tmp_path / "true", tmp_path / "pred", *words, "--missing", "empty") == 0
    stored = json.loads((tmp_path / "out/metrics.json").read_text())["cellvit"]
    assert stored["bPQ"] == pytest.approx(1 / 8, abs=1e-5)


def test_outlines_take_the_shape_of_the_map(tmp_path):
    instances, _ = draw(5)
    (tmp_path / "t").mkdir(), (tmp_path / "p").mkdir()
    np.save(tmp_path / "t/a.npy", instances)
    features = []
    for k in np.unique(instances)[1:]:
        rows, columns = np.nonzero(instances == k)
        left, top, right, bottom = map(int, (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1))
        ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        features.append({"type": "Feature", "properties": {}, "geometry": {"type": "Polygon", "coordinates": [ring]}})
    (tmp_path / "p/a.geojson").write_text(json.dumps(features))
    out = ("--mpp", 0.25, "--protocol", "pannuke", "--out", tmp_path / "out")
    for true, pred in (("t", "p"), ("p", "t")):
        assert score(tmp_path, tmp_path / true, tmp_path / pred, *out) == 0
        assert json.loads((tmp_path / "out/metrics.json").read_text())["pannuke"]["bPQ"] == pytest.approx(1)
    assert score(tmp_path, tmp_path / "p", tmp_path / "p", *out) == 2
    assert score(tmp_path, tmp_path / "p", tmp_path / "p", *out, "--shape", 64, 80) == 0


def bad_stack(tmp_path, change):
    instances, types = (np.stack([draw(s)[k] for s in (1, 2)]) for k in (0, 1))
    arrays = {"instances": instances, "types": types, "names": np.array(["a", "b"])}
    np.savez(tmp_path / "p.npz", **(arrays | change(instances, types)))
    return tmp_path / "p.npz"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda i, t: {"instances": i - 1}, r"image a: .*negative id -1"),
        (lambda i, t: {"instances": i + 0.5}, r"image a: expected integer ids, found 0\.5"),
        (
            lambda i, t: {"instances": i[:, :, 1:], "types": t[:, :, 1:]},
            r"image a: expected a label map of .*\(64, 80\)",
        ),
        (lambda i, t: {"types": t[:, 1:]}, r"expected types of the shape \(2, 64, 80\)"),
        (lambda i, t: {"types": np.where(i > 0, t, 1)}, r"disagrees with the instance map: \d+ pixels have a type"),
        (lambda i, t: {"types": t * 9}, r"expected types 0\.\.2 \(Neoplastic, Inflammatory\), found (9|18)"),
        (lambda i, t: {"types": t + np.nan}, "NaN"),
        (lambda i, t: {"names": np.array(["a", "a"])}, "distinct names, found 'a' more than once"),
        (lambda i, t: {"names": np.array(["a", "c"])}, r"1 of 2 images .*'b'.*1 prediction belongs to no image .*'c'"),
        (lambda i, t: {"names": np.array(["a", "b", "c"])}, "expected names as 2 words"),
        (lambda i, t: {"instances": i[0]}, r"2 of 2 images .*'a', 'b'"),
        (lambda i, t: {"names": np.array(["a", None], dtype=object)}, "pickled objects"),
    ],
)
def test_bad_input_is_one_sentence_and_nothing_is_written(tmp_path, capsys, change, said):
    true = stack(tmp_path / "t.npz", (1, 2), names=np.array(["a", "b"]))
    toml = tmp_path / "classes.toml"
    toml.write_text(TOML)
    code = score(tmp_path, true, bad_stack(tmp_path, change), "--types", toml, "--out", tmp_path / "out")
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert code == 2 and len(lines) == 1 and re.search(said, lines[0]) and "p.npz" in lines[0]
    assert captured.out == "" and not (tmp_path / "out").exists()


def test_types_of_every_pixel_are_read_when_asked_for(tmp_path):
    true = stack(tmp_path / "t.npz", (1, 2), names=np.array(["a", "b"]))
    bad_stack(tmp_path, lambda i, t: {"types": np.where(i > 0, t, 1)})
    out = ("--mpp", 0.25, "--protocol", "clean", "--out", tmp_path / "out")
    assert score(tmp_path, true, tmp_path / "p.npz", *out) == 2 and not (tmp_path / "out").exists()
    assert score(tmp_path, true, tmp_path / "p.npz", *out, "--types-outside", "ignore") == 0
    assert json.loads((tmp_path / "out/metrics.json").read_text())["clean"]["mPQ"] == 1
    assert score(tmp_path, tmp_path / "p.npz", true, *out, "--types-outside", "ignore") == 0


@pytest.mark.parametrize("shape", [(0, 5), (5, -3), (10**6, 10**6)])
def test_an_impossible_shape_is_refused(tmp_path, capsys, shape):
    (tmp_path / "a.json").write_text('{"nuc": {"1": {"contour": [[1, 1], [3, 1], [2, 4]]}}}')
    words = ("--mpp", 0.25, "--shape", *shape)
    assert score(tmp_path, tmp_path / "a.json", tmp_path / "a.json", *words) == 2
    assert f"--shape is {shape[0]} {shape[1]}; expected" in capsys.readouterr().err


def test_whole_numbers_as_floats_and_large_ids_are_accepted(tmp_path):
    true = stack(tmp_path / "t.npz", (1, 2))
    instances = np.stack([draw(s)[0] for s in (1, 2)]).astype(np.float64) * 10**9
    np.savez(tmp_path / "p.npz", instances=instances)
    words = ("--mpp", 0.25, "--protocol", "pannuke", "--out", tmp_path / "out")
    assert score(tmp_path, true, tmp_path / "p.npz", *words) == 0
    assert json.loads((tmp_path / "out/metrics.json").read_text())["pannuke"]["bPQ"] == pytest.approx(1)


@pytest.mark.parametrize("zeros", [True, False])
def test_a_tool_without_types_has_no_type_scores_also_where_it_finds_nothing(tmp_path, zeros):
    true = stack(tmp_path / "t.npz", (1, 2))
    instances = np.stack([draw(1)[0], draw(2)[0] * 0])
    np.savez(tmp_path / "p.npz", instances=instances, **({"types": instances * 0} if zeros else {}))
    words = ("--mpp", 0.25, "--protocol", "cellvit", "--out", tmp_path / "out")
    assert score(tmp_path, true, tmp_path / "p.npz", *words) == 0
    assert json.loads((tmp_path / "out/metrics.json").read_text())["cellvit"]["mPQ"] is None
    types = np.stack([draw(1)[1], draw(2)[1] * 0])
    np.savez(tmp_path / "p.npz", instances=instances, types=types)
    assert score(tmp_path, true, tmp_path / "p.npz", *words) == 0  # typed, and found nothing in the second image
    stored = json.loads((tmp_path / "out/metrics.json").read_text())["cellvit"]
    assert stored["mPQ"] == pytest.approx(0.5, abs=1e-5) and stored["bPQ"] == pytest.approx(0.5, abs=1e-5)


def test_mpp_is_compulsory_and_must_agree(tmp_path, capsys):
    true, pred = stack(tmp_path / "t.npz", (1,)), stack(tmp_path / "p.npz", (1,), mpp=np.array(0.5))
    assert score(tmp_path, true, true) == 2 and "--mpp is missing" in capsys.readouterr().err
    assert score(tmp_path, true, true, "--mpp", 0) == 2 and "mpp is 0" in capsys.readouterr().err
    assert score(tmp_path, true, pred) == 0
    (tmp_path / "c.toml").write_text(TOML)
    assert score(tmp_path, true, pred, "--types", tmp_path / "c.toml") == 2
    assert "disagree on mpp" in capsys.readouterr().err
    assert score(tmp_path, true, pred, "--types", tmp_path / "c.toml", "--mpp", 0.25) == 0
    assert score(tmp_path, true, pred, "--protocol", "cellvt") == 2
    assert "Did you mean 'cellvit" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.json", "{", "cannot be read"),
        ("a.json", '{"x": 1}', "found neither"),
        ("a.json", '{"nuc": {"1": {"contour": [[1, 2], [3]]}}}', "list of x, y pairs"),
        ("a.json", '{"nuc": {"1": {"contour": [[1, 2], [3, 4]], "type": NaN}}}', "at least 0, found nan"),
        ("a.json", '{"nuc": {"1": {"contour": [[1, 2], [3, 4]], "type": -1}}}', "whole number of at least 0, found -1"),
        ("a.geojson", '[{"geometry": {"type": "Point", "coordinates": [1, 2]}}]', "found Point"),
        ("a.mat", "no", "cannot be read"),
        ("a.png", "no", "cannot be read"),
        ("a.npz", "no", "cannot be read"),
        ("a.npy", "no", "not a readable .npy"),
        ("a.txt", "no", "holds no "),
    ],
)
def test_damaged_files_are_named(tmp_path, capsys, name, content, said):
    for folder in ("t", "p"):
        (tmp_path / folder).mkdir()
    np.save(tmp_path / "t/a.npy", draw(1)[0])
    (tmp_path / "p" / name).write_text(content)
    assert score(tmp_path, tmp_path / "t", tmp_path / "p", "--mpp", 0.25) == 2
    assert said in capsys.readouterr().err


def test_two_files_of_one_stem_are_refused(tmp_path, capsys):
    (tmp_path / "p").mkdir()
    np.save(tmp_path / "p/a.npy", draw(1)[0])
    tifffile.imwrite(tmp_path / "p/a.tif", draw(1)[0])
    assert score(tmp_path, tmp_path / "p", tmp_path / "p", "--mpp", 0.25) == 2
    assert "expected one file per image" in capsys.readouterr().err


def test_score_needs_no_torch(tmp_path):
    true = stack(tmp_path / "t.npz", (1,))
    words = ["score", "--true", str(true), "--pred", str(true), "--mpp", "0.25"]
    code = f"import sys; from benchmark.cli import main; assert main({words}) == 0; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.stdout.splitlines()[-1] == "False", done.stderr
