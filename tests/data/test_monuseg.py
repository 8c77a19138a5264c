"""MoNuSeg: outlines to an instance map by a stated rule, whatever is odd about them counted and said; end to end."""

import json
import shutil

import numpy as np
import pytest

from benchmark.cli import main
from benchmark.data.files import aperio
from benchmark.data.files.aperio import Outline
from benchmark.data.sources import outlined
from benchmark.data.sources.monuseg import MoNuSeg
from benchmark.data.store.prepare import prepare
from benchmark.runtime.errors import InputError
from tests.support import field_files
from tests.support.field_files import aperio_xml

SQUARE = [(2, 2), (8, 2), (8, 8), (2, 8)]


def box(left, top, right, bottom):
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def painted(*rings, shape=(20, 24)):
    tally = outlined.Tally("a set")
    labels, present = outlined.painted(
        [Outline(np.array(r, float).reshape(-1, 2), "") for r in rings], shape, "x.xml", tally
    )
    return labels, present.tolist(), tally


def test_a_square_covers_its_pixels_and_no_more():
    labels, present, tally = painted(SQUARE, box(10, 4, 13, 6))
    expected = np.zeros((20, 24), int)
    expected[2:8, 2:8], expected[4:6, 10:13] = 1, 2
    assert np.array_equal(labels, expected) and present == [0, 1] and tally.sentence() == ""


def test_shared_pixels_stay_with_the_earlier_outline():
    labels, present, tally = painted(SQUARE, box(7, 2, 12, 8))
    assert (labels == 1).sum() == 36 and (labels == 2).sum() == 24 and present == [0, 1]
    assert tally.sentence() == (
        "a set: of 2 outlines 1 overlap earlier ones, to which the shared pixels belong (first: x.xml); 6 pixels are "
        "shared."
    )


@pytest.mark.parametrize(
    ("ring", "what", "pixels"),
    [
        ([], "few", 0),
        ([(3, 3)], "few", 0),
        ([(3, 12), (9, 12)], "few", 0),
        ([(3, 12), (9, 12), (3, 12)], "few", 0),  # closed
        ([(30, 2), (34, 2), (34, 6)], "empty", 0),  # beside the image
        ([(12.1, 12.1), (12.2, 12.1), (12.2, 12.2)], "empty", 0),  # between centres
        ([(3, 3), (6, 3), (6, 6), (3, 6)], "hidden", 0),
        ([(12, 10), (18, 16), (18, 10), (12, 16)], "crossing", 12),  # a bow tie
    ],
)
def test_an_odd_outline_is_counted_and_said(ring, what, pixels):
    labels, present, tally = painted(SQUARE, ring)
    assert dict(tally.counts) == {what: 1} and (labels == 2).sum() >= pixels and (1 in present) == (pixels > 0)
    assert outlined.WORDS[what] in tally.sentence() and "of 2 outlines 1" in tally.sentence()


def test_a_file_without_an_outline_is_said():
    labels, present, tally = painted()
    assert not labels.any() and not present
    assert tally.sentence() == "a set: files without an outline: 1 (first: x.xml); no nuclei there."


def test_crossing_is_not_touching():
    assert outlined.crosses(np.array([(0, 0), (4, 4), (4, 0), (0, 4)], float))
    star = [(5 + 5 * np.sin(4 * np.pi * k / 5), 5 - 5 * np.cos(4 * np.pi * k / 5)) for k in range(5)]
    assert outlined.crosses(np.array(star))
    closed = [(0, 0), (4, 0), (4, 4), (0, 4), (0, 0)]
    touching = [(0, 0), (4, 0), (2, 2), (4, 4), (0, 4), (2, 2)]  # passes a point twice
    assert not outlined.crosses(np.array(closed, float)) and not outlined.crosses(np.array(touching, float))


def test_reads_both_parts(tmp_path, capsys):
    data = prepare(MoNuSeg(field_files.monuseg(tmp_path / "d")), tmp_path / "c", split=1)
    train, test = data.folds[1], data.folds[2]
    assert data.classes == () and data.mpp == 0.25 and (len(train), len(test)) == (6, 2)
    assert sorted(train.meta["sources"]) == sorted(f"TCGA-{name}" for name in field_files.MONUSEG_TRAIN)
    row = train.meta["sources"].index("TCGA-A7-A13E")
    image, instances, _ = field_files.field(0)
    assert np.array_equal(train[row].image, image) and len(train[row].nuclei) == instances.max()
    agree = (train[row].nuclei.instances > 0) == (instances > 0)
    assert agree.mean() > 0.999, "but for holes and specks of drawn nuclei, which an outline has not"
    assert train.meta["image_ids"][row] == "TCGA-A7-A13E-01Z-00-DX1"
    sides = [set(data.subset(1, side).sources) for side in ("train", "val", "test")]
    assert [len(side) for side in sides] == [5, 1, 2] and not set.intersection(*sides)
    assert f"validation is on the training images of {min(sides[1])}" in capsys.readouterr().err


def test_what_is_odd_in_a_data_set_is_said_in_one_line(tmp_path, capsys):
    root = field_files.monuseg(tmp_path / "d")
    path = root / "MoNuSegTestData" / "TCGA-44-2665-01A-01-TS1.xml"
    path.write_text(aperio_xml([SQUARE, [(1, 1)], box(7, 2, 12, 8), [(20, 20), (30, 30), (30, 20), (20, 30)]]))
    data = prepare(MoNuSeg(root), tmp_path / "c")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "outlines" in line]
    assert (
        line.startswith("monuseg fold 2: of ") and "1 of fewer than 3 vertices" in line and "1 cross themselves" in line
    )
    assert "1 overlap earlier ones" in line and "6 pixels are shared" in line
    assert len(data.folds[2][1].nuclei) == 3


def test_a_patient_in_training_and_test_is_said_by_prepare(tmp_path, capsys):
    root = field_files.monuseg(tmp_path / "d")
    words = ["prepare", "--dataset", "monuseg", "--data-root", str(root), "--cache", str(tmp_path / "c")]
    assert main(words) == 0 and "on the sides" not in capsys.readouterr().err
    for path in (root / "MoNuSegTestData").glob("TCGA-44-2665-*"):
        path.rename(path.with_name(f"{FIRST[:12]}-01A-01-TS1{path.suffix}"))
    assert main(words) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "on the sides" in line]
    side = "val" if FIRST[:12] in prepare(MoNuSeg(root), tmp_path / "c").subset(1, "val").sources else "train"
    assert line == (
        f"monuseg split 1: WARNING: source TCGA-A7-A13E stands on the sides {side} and test; the split is taken as it "
        "is."
    )


def test_prepare_train_and_evaluate_end_to_end(tmp_path, capsys):
    root = field_files.monuseg(tmp_path / "d")
    data = ["--dataset", "monuseg", "--data-root", str(root)]
    places = ["--results", str(tmp_path / "r"), "--cache", str(tmp_path / "c")]
    run = ["run", "--method", "hovernet", "--preset", "debug", "--device", "cpu", "recipe.epochs=1"]
    assert main([*run, *data, *places]) == 0, capsys.readouterr().err
    (metrics,) = (tmp_path / "r").rglob("metrics.json")
    assert json.loads(metrics.read_text())["n_images"] == 2


def write(name, text):
    def damage(root):
        next(root.rglob(f"{name}.xml")).write_text(text)

    return damage


FIRST = "TCGA-A7-A13E-01Z-00-DX1"
BOMB = '<!DOCTYPE a [<!ENTITY x "y"><!ENTITY z "&x;&x;&x;">]><Annotations>&z;</Annotations>'


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: next(r.rglob(f"{FIRST}.xml")).unlink(), r"\.xml files of outlines, one for each of 6.*has none"),
        (lambda r: next(r.rglob(f"{FIRST}.tif")).unlink(), r"'tcga-a7-a13e-01z-00-dx1' has no image"),
        (lambda r: [shutil.rmtree(path) for path in r.iterdir()], r"MoNuSeg is missing below"),
        (lambda r: shutil.rmtree(r / "MoNuSegTestData"), r"MoNuSeg: its test part is missing"),
        (write(FIRST, "<Annotations><Annotation>"), rf"{FIRST}\.xml cannot be read"),
        (write(FIRST, BOMB), r"document type, which is not read"),
        (write(FIRST, "<svg/>"), r"expected XML of Aperio ImageScope \(Annotations\), found svg"),
        (write(FIRST, aperio_xml([SQUARE]).replace('Y="2.0"', 'Y="nan"')), r"region 1: expected vertices.*Y='nan'"),
        (write(FIRST, aperio_xml([SQUARE]).replace('X="2.0"', "")), r"region 1: expected vertices.*X=None"),
        (write(FIRST, aperio_xml([box(300, 2, 320, 9)])), r"found 1 and none in it, at x 300\.\.320"),
        (
            lambda r: [p.rename(p.with_stem("a1")) for p in r.rglob(f"{FIRST}.*")],
            r"expected images of TCGA, whose first 12 letters name the patient",
        ),
        (lambda r: shutil.copytree(r / "MoNuSegTestData", r / "copy"), r"both look like the test part of MoNuSeg"),
    ],
)
def test_refuses(tmp_path, capsys, damage, message):
    root = field_files.monuseg(tmp_path / "d")
    damage(root)
    with pytest.raises(InputError, match=message) as caught:
        prepare(MoNuSeg(root), tmp_path / "c", split=1, progress=False)
    assert ". " not in str(caught.value) and str(caught.value).endswith((".", "?"))
    capsys.readouterr()
    words = ["prepare", "--dataset", "monuseg", "--data-root", str(root), "--cache", str(tmp_path / "c")]
    lacks_test = not (root / "MoNuSegTestData").exists() and any(root.iterdir())
    assert main(words) == (0 if lacks_test else 2), "prepare takes what is there; a run needs both parts"
    assert not list((tmp_path / "c").glob("*.partial"))


def test_a_file_of_bytes_is_read_as_its_encoding_says(tmp_path):
    path = tmp_path / "x.xml"
    path.write_bytes(aperio_xml([SQUARE], ["Épithélial"]).encode("utf-16"))
    (outline,) = aperio.read(path)
    assert outline.kind == "Épithélial" and outline.ring.tolist() == [list(map(float, p)) for p in SQUARE]
