"""NuCLS: outlines are nuclei and boxes are none, three schemes of classes, hospitals apart."""

import re
import shutil

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.data.registry import dataset
from benchmark.data.sources.nucls import CLASSES, NuCLS
from benchmark.data.store.prepare import prepare
from benchmark.runtime.errors import InputError
from tests.support import tiny_data
from tests.support.annotated_files import HEADER, NUCLS, nucls


def test_outlines_are_nuclei_and_boxes_are_counted(tmp_path, capsys):
    data = prepare(NuCLS(nucls(tmp_path / "d")), tmp_path / "c")
    lines = capsys.readouterr().err
    assert "nucls fold 1: 4 nuclei are boxes without an outline" in lines and "AMBIGUOUS" not in lines
    fold = data.folds[1]
    assert len(fold) == 4 and data.mpp == 0.2 and fold.meta["image_ids"] == list(NUCLS)
    nuclei = fold[0].nuclei
    assert [data.classes[t - 1] for t in nuclei.types] == ["tumor", "fibroblast", "unlabeled"]
    # 10 x 8 and 6 x 6 pixels; of 20 x 4, only 8 x 4 lie within the image
    assert np.bincount(nuclei.instances.ravel())[1:].tolist() == [80, 36, 32]
    assert nuclei.instances[4, 4] == 1 and nuclei.instances[25, 25] == 0 and nuclei.source == "TCGA-A1-A0SK"


@pytest.mark.parametrize(
    ("scheme", "count", "expected"),
    [
        ("main", 7, ["tumor_nonMitotic", "nonTILnonMQ_stromal", ""]),
        ("super", 4, ["tumor_any", "nonTIL_stromal", ""]),
    ],
)
def test_schemes_are_the_columns_of_the_files(tmp_path, scheme, count, expected):
    source = dataset(f"nucls@classes={scheme}", nucls(tmp_path))
    assert len(source.classes) == count and len(CLASSES) == 13
    types = next(iter(source.samples(1))).nuclei.types
    assert [source.classes[t - 1] if t else "" for t in types] == expected, "AMBIGUOUS is no type"


def test_hospitals_are_kept_apart(tmp_path):
    data = prepare(NuCLS(nucls(tmp_path / "d")), tmp_path / "c", progress=False)
    sides = [{source[5:7] for source in data.subset(1, side).sources} for side in ("train", "val", "test")]
    assert sorted(hospital for side in sides for hospital in side) == ["A1", "A2", "BH"]
    assert "A2" in sides[0], "the two fields of one hospital are most of the four"


def csv(root, *rows):
    tiny_data.table(root / "QC" / "csv" / f"{NUCLS[0]}.csv", HEADER, rows)


TUMOR = ("tumor", "", "", "polyline", 0, 0, 9, 9)
CASES = {
    "no folders": (lambda r: shutil.rmtree(r / "QC"), "expected the folders rgb, csv and mask beside each other"),
    "no csv": (lambda r: (r / "QC/csv" / f"{NUCLS[1]}.csv").unlink(), "has none; extract the whole archive"),
    "no mask": (lambda r: (r / "QC/mask" / f"{NUCLS[1]}.png").unlink(), "expected masks, one for each of 4 images"),
    "both sets": (lambda r: shutil.copytree(r / "QC", r / "noQC"), "are both of NuCLS"),
    "a mask of another size": (
        lambda r: Image.new("RGB", (9, 9)).save(r / "QC/mask" / f"{NUCLS[0]}.png"),
        r"expected a mask \(height, width, 3\) of the image's \(48, 48\), found \(9, 9, 3\)",
    ),
    "a mask of another image": (
        lambda r: Image.new("RGB", (48, 48)).save(r / "QC/mask" / f"{NUCLS[0]}.png"),
        "found none; one of the two is of another image",
    ),
    "another class": (lambda r: csv(r, ("stroma", *TUMOR[1:], "1,9,9", "1,1,9")), "found 'stroma' in row 1"),
    "another type": (lambda r: csv(r, (*TUMOR[:3], "ellipse", 0, 0, 9, 9, "1,9", "1,1")), "found 'ellipse' in row 1"),
    "vertices of two lengths": (
        lambda r: csv(r, (*TUMOR, "1,9,9", "1,1")),
        "as many numbers in coords_x as in coords_y",
    ),
    "vertices that are none": (lambda r: csv(r, (*TUMOR, "1,x,9", "1,1,9")), "found '1,x,9'"),
    "other columns": (
        lambda r: tiny_data.table(r / "QC/csv" / f"{NUCLS[0]}.csv", ["type"], [["polyline"]]),
        "expected the columns raw_classification",
    ),
    "a name that names no slide": (
        lambda r: [
            (r / "QC" / folder / f"{NUCLS[0]}.{end}").rename(r / "QC" / folder / f"field.{end}")
            for folder, end in (("rgb", "png"), ("csv", "csv"), ("mask", "png"))
        ],
        "expected the name of a TCGA slide",
    ),
    "no root": (shutil.rmtree, "does not exist"),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_with_one_sentence(tmp_path, case, capsys):
    damage, message = CASES[case]
    damage(nucls(tmp_path / "d"))
    words = ("prepare", "--dataset", "nucls", "--data-root", tmp_path / "d", "--cache", tmp_path / "c")
    assert main(list(map(str, words))) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and last.endswith(".") and re.search(message, last), last
    assert not list((tmp_path / "c").glob("nucls-fold1*/meta.json"))


def test_one_split_only_and_three_hospitals(tmp_path, capsys):
    root = nucls(tmp_path)
    with pytest.raises(InputError, match="one split here, by hospital, found FOLD=2"):
        prepare(NuCLS(root), tmp_path / "c", split=2, progress=False)
    for folder, end in (("rgb", "png"), ("csv", "csv"), ("mask", "png")):
        (root / "QC" / folder / f"{NUCLS[3]}.{end}").unlink()
    data = prepare(NuCLS(root), tmp_path / "c", progress=False)
    with pytest.raises(InputError, match=r"at least 3 hospitals to split by, found \['A1', 'A2'\]"):
        data.subset(1, "train")
    words = ("prepare", "--dataset", "nucls", "--data-root", root, "--cache", tmp_path / "c")
    assert main(list(map(str, words))) == 0
    last = capsys.readouterr().out.splitlines()[-2:]
    assert last[0] == "No split can be run." and last[1].startswith("FOLD=1: NuCLS: expected fields of at least 3")


def test_nuclei_called_ambiguous_are_said_to_be_so(tmp_path, capsys):
    root = nucls(tmp_path / "d")
    csv(root, (*TUMOR, "1,9,9", "1,1,9"), ("AMBIGUOUS", *TUMOR[1:], "20,29,29", "20,20,29"))
    Image.new("RGB", (48, 48), (1, 1, 1)).save(root / "QC/mask" / f"{NUCLS[0]}.png")
    data = prepare(NuCLS(root), tmp_path / "c")
    assert data.folds[1][0].nuclei.types.tolist() == [1, 0]
    lines = capsys.readouterr().err
    assert "nucls fold 1: 1 nuclei are called AMBIGUOUS and have no type" in lines
    assert "counted from" not in lines, "no slip of counting: types go by names"
