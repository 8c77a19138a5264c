"""MoNuSAC: regions of any size, a type for each annotation, ambiguous regions in which predictions do not count."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.data.nuclei import Nuclei
from benchmark.data.sources.monusac import CLASSES, MoNuSAC
from benchmark.data.store.prepare import prepare
from benchmark.evaluation.scoring import score_image
from benchmark.runtime.errors import InputError
from tests.support import field_files
from tests.support.field_files import aperio_xml

TEST_SLIDE = "MoNuSAC Testing Data and Annotations/TCGA-2Z-A9JG-01Z-00-DX1"
REGION = "TCGA-2Z-A9JG-01Z-00-DX1_1"
BOXES = [
    [(2, 2), (8, 2), (8, 8), (2, 8)],
    [(20, 20), (30, 20), (30, 30), (20, 30)],
    [(40, 2), (60, 2), (60, 22), (40, 22)],
]


def test_reads_regions_of_any_size_with_their_types(tmp_path, capsys):
    data = prepare(MoNuSAC(field_files.monusac(tmp_path / "d")), tmp_path / "c", split=1)
    train, test = data.folds[1], data.folds[2]
    assert data.classes == CLASSES and (len(train), len(test)) == (4, 2)
    assert [train.shape(i) for i in range(4)] == [(96, 80), (64, 120), (80, 80), (74, 90)]
    assert train.meta["sources"] == ["TCGA-55-1594", "TCGA-55-1594", "TCGA-69-7760", "TCGA-B0-5711"]
    image, instances, types = field_files.field(1, 64, 120)
    assert np.array_equal(train[1].image, image) and len(train[1].nuclei) == instances.max()
    names = sorted(CLASSES[t - 1] for t in train[1].nuclei.types)
    assert names == sorted(field_files.KINDS[t % 4] for t in types) and train[1].nuclei.ignore is None
    sides = [set(data.subset(1, side).sources) for side in ("train", "val", "test")]
    assert [len(side) for side in sides] == [2, 1, 2] and not sides[0] & sides[1]
    assert "its test part has 2 images, the published one has 101" in capsys.readouterr().err


def with_ambiguous(root):
    """One test region with three nuclei and two ambiguous regions, one in the XML and one in a mask."""
    kinds = ["Lymphocyte", "Epithelial", "Ambiguous"]
    (root / TEST_SLIDE / f"{REGION}.xml").write_text(aperio_xml(BOXES, kinds))
    mask = np.zeros((96, 80), np.uint8)
    mask[60:90, 10:40] = 255
    folder = root / "Testing ambiguous regions" / "TCGA-2Z-A9JG-01Z-00-DX1"
    folder.mkdir(parents=True)
    Image.fromarray(mask).save(folder / f"{REGION}_mask.png")
    return root


def test_ambiguous_regions_come_from_the_xml_and_from_masks(tmp_path, capsys):
    data = prepare(MoNuSAC(with_ambiguous(field_files.monusac(tmp_path / "d"))), tmp_path / "c")
    assert "monusac: 1 of 2 test regions have a mask of ambiguous regions." in capsys.readouterr().err
    expected = np.zeros((96, 80), bool)
    expected[2:22, 40:60] = expected[60:90, 10:40] = True
    first, second = data.folds[2][0].nuclei, data.folds[2][1].nuclei
    assert np.array_equal(first.ignore, expected) and second.ignore is None
    assert [CLASSES[t - 1] for t in first.types] == ["Lymphocyte", "Epithelial"], "an ambiguous region is no nucleus"
    assert np.array_equal(first.crop(60, 8, 20, 20).ignore, expected[60:80, 8:28])
    assert first.with_map(first.instances[::-1]).ignore is None


def test_a_mask_of_no_region_is_said(tmp_path, capsys):
    root = with_ambiguous(field_files.monusac(tmp_path / "d"))
    mask = next(root.rglob("*_mask.png"))
    mask.rename(mask.with_name(f"{REGION}_ambiguous.png"))
    prepare(MoNuSAC(root), tmp_path / "c")
    lines = capsys.readouterr().err
    assert "monusac: 0 of 2 test regions have a mask of ambiguous regions." in lines
    assert "WARNING: 1 masks of ambiguous regions are called after none of the regions" in lines


def test_predictions_in_ambiguous_regions_are_not_counted():
    truth = Nuclei.from_labels(np.pad(np.full((6, 6), 1), ((2, 12), (2, 12))), np.array([1]), 0.25)
    predicted = np.array(truth.instances)
    predicted[12:18, 12:18] = 2  # wholly in the region
    predicted[9:11, 12:18] = 3  # a third of it
    predicted[10, 0:3] = 4  # in no region
    ignore = np.zeros((20, 20), bool)
    ignore[10:20, 14:20] = ignore[12:20, 10:20] = True
    nuclei = Nuclei.from_labels(predicted, np.array([1, 2, 1, 2]), 0.25)
    counted = score_image(0, replace(truth, ignore=ignore), nuclei, True, keep=True)
    assert len(score_image(0, truth, nuclei, True).match.pred) == 4
    assert len(counted.match.pred) == 3 and counted.prediction.types.tolist() == [1, 1, 2]
    mixed = replace(nuclei, type_map=np.where(predicted == 3, 2, nuclei.pixel_types()).astype(np.uint8))
    left = mixed.outside(ignore)
    assert left.type_map[12:18, 12:18].max() == 0 and (left.type_map[9:11, 12:18] == 2).all()
    assert len(nuclei.outside(np.zeros((20, 20), bool))) == 4


def test_train_and_evaluate_end_to_end(tmp_path, capsys):
    root = with_ambiguous(field_files.monusac(tmp_path / "d"))
    words = ["--dataset", "monusac", "--classes", "2", "--data-root", str(root), "--cache", str(tmp_path / "c")]
    run = ["run", "--method", "hovernet", "--preset", "debug", "--device", "cpu", "recipe.epochs=1"]
    assert main([*run, *words, "--results", str(tmp_path / "r")]) == 0, capsys.readouterr().err
    (metrics,) = (tmp_path / "r").rglob("metrics.json")
    assert json.loads(metrics.read_text())["n_images"] == 2
    assert metrics.relative_to(tmp_path / "r").parts[0] == "monusac@classes=2"
    sheet = ["contact-sheet", *words, "--out", str(tmp_path / "sheet.png")]
    assert main(sheet) == 0, capsys.readouterr().err
    assert Image.open(tmp_path / "sheet.png").size == (200, 192), "two regions side by side, each above its outlines"


def broken_mask(root):
    with_ambiguous(root)
    Image.new("L", (80, 90)).save(next(root.rglob("*_mask.png")))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda r: (r / TEST_SLIDE / f"{REGION}.tif").unlink(), r"\.xml files of outlines, one for each of 0 images"),
        (lambda r: [shutil.rmtree(path) for path in r.iterdir()], r"MoNuSAC is missing below"),
        (lambda r: shutil.rmtree((r / TEST_SLIDE).parent), r"MoNuSAC: its test part is missing"),
        (
            lambda r: (r / TEST_SLIDE / f"{REGION}.xml").write_text(
                aperio_xml(BOXES, ["Lymphocyte", "Plasma", "Plasma"])
            ),
            r"named Epithelial, Lymphocyte, Macrophage, Neutrophil or Ambiguous, found 'Plasma'",
        ),
        (lambda r: (r / TEST_SLIDE / f"{REGION}.xml").write_text(aperio_xml(BOXES)), r"or Ambiguous, found ''"),
        (
            lambda r: shutil.copytree(with_ambiguous(r) / "Testing ambiguous regions", r / "ambiguous too"),
            r"_mask\.png and .*_mask\.png are both of ambiguous regions of one image; keep one",
        ),
        (broken_mask, r"_mask\.png: expected a mask of the image's shape \(96, 80\), found \(90, 80\)"),
        (
            lambda r: shutil.copytree((r / TEST_SLIDE).parent, r / "test"),
            r"the region 'TCGA-2Z.*' of MoNuSAC lies twice",
        ),
    ],
)
def test_refuses(tmp_path, capsys, damage, message):
    root = field_files.monusac(tmp_path / "d")
    damage(root)
    with pytest.raises(InputError, match=message) as caught:
        prepare(MoNuSAC(root), tmp_path / "c", split=1, progress=False)
    assert ". " not in str(caught.value) and str(caught.value).endswith((".", "?"))
