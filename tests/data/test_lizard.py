"""Lizard: types belong to the ids of their rows, three splits, what does not fit is one sentence."""

import re
import shutil

import numpy as np
import pytest
import scipy.io
from PIL import Image

from benchmark.cli import main
from benchmark.data import overlap
from benchmark.data.registry import dataset
from benchmark.data.sources.conic import CoNIC
from benchmark.data.sources.lizard import Lizard
from benchmark.data.sources.monuseg import MoNuSeg
from benchmark.data.store.prepare import prepare
from tests.support import field_files, tiny_data
from tests.support.annotated_files import CLASSES, IDS, LIZARD, lizard, lizard_map


def test_types_are_those_of_the_rows_of_their_ids(tmp_path):
    data = prepare(Lizard(lizard(tmp_path / "d")), tmp_path / "c", progress=False)
    assert {k: fold.meta["image_ids"] for k, fold in data.folds.items()} == {
        1: ["consep_1", "glas_4"],
        2: ["crag_2", "pannuke_5"],
        3: ["dpath_3", "tcga_6"],
    }
    assert (
        data.mpp == 0.5 and data.classes[1] == "epithelial" and data.folds[1].meta["sources"] == ["consep_1", "glas_4"]
    )
    of_id = dict(zip(IDS, CLASSES))
    for fold in data.folds.values():
        for i in range(len(fold)):
            nuclei = fold[i].nuclei
            labels = lizard_map(*LIZARD[nuclei.image_id][2:])
            assert np.array_equal(nuclei.instances > 0, labels > 0) and nuclei.tissue == "Colon"
            assert nuclei.types.tolist() == [of_id[k] for k in sorted(IDS)] == [6, 2, 3]


def test_a_part_is_the_test_side_once_and_validation_is_a_fifth_of_the_other_images(tmp_path):
    data = prepare(Lizard(lizard(tmp_path / "d")), tmp_path / "c", progress=False)
    for k in (1, 2, 3):
        sides = {side: set(data.subset(k, side).sources) for side in ("train", "val", "test")}
        assert sides["test"] == {name for name, row in LIZARD.items() if row[1] == k}
        assert len(sides["val"]) == 1 and len(sides["train"]) == 3 and not sides["train"] & sides["val"]


def test_schemes(tmp_path):
    root = lizard(tmp_path)
    same, merged = (dataset(f"lizard@classes={scheme}", root) for scheme in ("conic", "consep"))
    assert same.classes == Lizard.classes == CoNIC.classes
    assert next(iter(same.samples(1))).nuclei.types.tolist() == [6, 2, 3]
    types = next(iter(merged.samples(1))).nuclei.types
    assert [merged.classes[t - 1] for t in types] == ["spindle-shaped", "epithelial", "inflammatory"]


def test_the_sets_that_its_images_come_from_are_said(tmp_path):
    lines = Lizard(lizard(tmp_path)).remarks()
    assert lines[0] == "lizard: 6 images, the published set has 238."
    assert "consep (1), crag (1), dpath (1), glas (1), pannuke (1), tcga (1), and CoNIC from them" in lines[1]


def table(root, rows, header=("Filename", "Source", "Split")):
    tiny_data.table(root / "Lizard_Labels" / "info.csv", header, rows)


def mat(root, **changed):
    path = root / "Lizard_Labels" / "Labels" / "consep_1.mat"
    content = {key: value for key, value in scipy.io.loadmat(path).items() if key[0] != "_"}
    scipy.io.savemat(path, {key: value for key, value in (content | changed).items() if value is not None})


def test_an_unknown_source_is_said_and_its_overlap_is_unknown(tmp_path):
    root = lizard(tmp_path / "d")
    assert not any("WARNING" in line for line in Lizard(root).remarks())
    table(root, [(name, "elsewhere" if name == "glas_4" else row[0], row[1]) for name, row in LIZARD.items()])
    source = Lizard(root)
    assert source.remarks()[-1] == (
        "lizard: WARNING: the Source of 1 image is none of those known (consep, crag, digestpath, dpath, glas, "
        "pannuke, tcga), found elsewhere: whether other data sets hold it is judged by file names alone, and unknown "
        "beyond that."
    )
    assert source.doubt("consep_1") == "" and "Source that is not known" in source.doubt("glas_4")
    data = prepare(dataset("lizard@classes=consep", root), tmp_path / "c", progress=False)
    other = prepare(MoNuSeg(field_files.monuseg(tmp_path / "m")), tmp_path / "c", progress=False)
    assert "Source that is not known" in overlap.between(other, 1, data, 1).unknown
    assert "Source that is not known" in overlap.of_origin("pannuke", data, 1).unknown
    assert overlap.of_origin("pannuke", data, 3).unknown == "the training images of pannuke are not at hand"


ROWS = [(name, row[0], row[1]) for name, row in LIZARD.items()]
CASES = {
    "no images": (lambda r: [shutil.rmtree(r / f"Lizard_Images{k}") for k in (1, 2)], r"found none; extract lizard_im"),
    "one of the folders": (lambda r: shutil.rmtree(r / "Lizard_Images2"), "'crag_2' has no image"),
    "no labels": (lambda r: shutil.rmtree(r / "Lizard_Labels" / "Labels"), r"expected Labels/\*\.mat, found none"),
    "a label less": (lambda r: (r / "Lizard_Labels/Labels/tcga_6.mat").unlink(), "'tcga_6' has none"),
    "no info": (lambda r: (r / "Lizard_Labels/info.csv").unlink(), r"expected info\.csv, found none"),
    "a row less": (lambda r: table(r, ROWS[1:]), "'consep_1' has no row"),
    "a row twice": (lambda r: table(r, [*ROWS, ROWS[0]]), "found two of 'consep_1'"),
    "other columns": (lambda r: table(r, ROWS, ("Filename", "Source", "Part")), "found filename, source, part"),
    "a split of 4": (lambda r: table(r, [(*ROWS[0][:2], 4), *ROWS[1:]]), "1, 2 or 3, found '4'"),
    "an id without a row": (
        lambda r: mat(r, id=np.array([[40], [7]]), **{"class": np.array([[2], [6]])}),
        r"entry in id for each of 3 nuclei of inst_map, found none for 1 of them \(the first: 901\)",
    ),
    "types of nobody": (lambda r: mat(r, id=None), "class: expected id beside it, .* found none; fetch"),
    "no source": (
        lambda r: table(r, [(ROWS[0][0], " ", 1), *ROWS[1:]]),
        "expected Source to name the set that 'consep_1' was taken from, found nothing",
    ),
    "no classes": (lambda r: mat(r, **{"class": None}), "found no types"),
    "a class of 7": (lambda r: mat(r, **{"class": np.array([[2], [6], [7]])}), r"expected types 0\.\.6 .*found 7"),
    "labels of another image": (lambda r: mat(r, inst_map=np.ones((5, 5))), r"shape \(40, 48\), found \(5, 5\)"),
    "truncated labels": (
        lambda r: (p := r / "Lizard_Labels/Labels/consep_1.mat").write_bytes(p.read_bytes()[:900]),
        r"consep_1\.mat cannot be read",
    ),
    "truncated image": (
        lambda r: (p := r / "Lizard_Images1/consep_1.png").write_bytes(p.read_bytes()[:200]),
        r"consep_1\.png cannot be read",
    ),
    "grey image": (lambda r: Image.new("L", (48, 40)).save(r / "Lizard_Images1/consep_1.png"), "expected RGB"),
    "no root": (shutil.rmtree, "does not exist"),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_with_one_sentence(tmp_path, case, capsys):
    damage, message = CASES[case]
    damage(lizard(tmp_path / "d"))
    words = ("prepare", "--dataset", "lizard", "--data-root", tmp_path / "d", "--cache", tmp_path / "c")
    assert main(list(map(str, words))) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and last.endswith(".")

    assert re.search(message, last), last
    assert not list((tmp_path / "c").glob("lizard-fold1*/meta.json"))
