"""Real fields: those of CoNSeP and MoNuSeg in the reference data, put together again, written in their own layouts."""

import csv
from collections import Counter, defaultdict

import numpy as np
import pytest
import tifffile

from benchmark.data.registry import dataset
from benchmark.data.sources.pannuke import PanNuke
from benchmark.data.store.prepare import prepare
from tests.support import field_files
from tests.support.shared import shared

FOLD, SIDE = 3, 768
# PanNuke's slots as the reference data fill them -> types of CoNSeP: inflammatory, spindle-shaped, other, epithelial
OF_CONSEP = np.array([0, 0, 2, 5, 1, 3], np.uint8)


@pytest.fixture(scope="module")
def fields() -> tuple[dict, list[dict]]:
    """(source image -> (image, instances, types)) of a fold's patches at their places, white elsewhere; its table."""
    root = shared("data/pannuke_like")
    with open(root / f"provenance_fold{FOLD}.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    whole: dict = defaultdict(
        lambda: [np.full((SIDE, SIDE, 3), 255, np.uint8), np.zeros((SIDE, SIDE), np.int32), np.zeros(0, np.uint8)]
    )
    for sample, row in zip(PanNuke(root).samples(FOLD), rows, strict=True):
        image, instances, types = whole[row["source"], row["source_image"]]
        top, left = int(row["y"]), int(row["x"])
        image[top : top + 256, left : left + 256] = sample.image
        own = sample.nuclei.instances
        instances[top : top + 256, left : left + 256] = np.where(own > 0, own + len(types), 0)
        whole[row["source"], row["source_image"]][2] = np.append(types, sample.nuclei.types)
    return whole, rows


def test_consep_has_the_nuclei_and_types_of_its_patches(tmp_path, fields):
    whole, rows = fields
    for side in ("Train", "Test"):
        for name in ("Images", "Labels"):
            (tmp_path / "d" / side / name).mkdir(parents=True)
    for k, (image, instances, types) in enumerate(v for (source, _), v in whole.items() if source == "CoNSeP"):
        side = "Test" if k == 0 else "Train"
        field_files.consep_image(tmp_path / "d" / side, f"{side.lower()}_{k + 1}", image, instances, OF_CONSEP[types])
    data = prepare(dataset("consep@classes=4", tmp_path / "d"), tmp_path / "c", progress=False)
    nuclei = [fold[i].nuclei for fold in data.folds.values() for i in range(len(fold))]
    counts = Counter(data.classes[t - 1] for one in nuclei for t in one.types)
    expected = [row for row in rows if row["source"] == "CoNSeP"]
    assert sum(map(len, nuclei)) == sum(int(row["n_nuclei"]) for row in expected) > 1000
    for name, column in (
        ("inflammatory", "inflammatory"),
        ("spindle-shaped", "connective"),
        ("other", "dead"),
        ("epithelial", "epithelial"),
    ):
        assert counts[name] == sum(int(row[column]) for row in expected), name


def test_monuseg_has_the_nuclei_of_its_patches(tmp_path, fields):
    whole, rows = fields
    own = {name: v for (source, name), v in whole.items() if source == "MoNuSeg"}
    parts = [tmp_path / "d" / name for name in ("train/Tissue Images", "train/Annotations", "test")]
    for part in parts:
        part.mkdir(parents=True)
    for k, (name, (image, instances, _)) in enumerate(own.items()):
        images, annotations = parts[:2] if k else (parts[2], parts[2])
        tifffile.imwrite(images / f"{name}.tif", image)
        (annotations / f"{name}.xml").write_text(field_files.aperio_xml(field_files.around(instances)))
    data = prepare(dataset("monuseg", tmp_path / "d"), tmp_path / "c", progress=False)
    stored = {fold.meta["image_ids"][i]: fold[i] for fold in data.folds.values() for i in range(len(fold))}
    assert sum(len(s.nuclei) for s in stored.values()) == sum(
        int(row["n_nuclei"]) for row in rows if row["source"] == "MoNuSeg"
    )
    for name, (image, instances, _) in own.items():
        assert np.array_equal(stored[name].image, image)
        assert ((stored[name].nuclei.instances > 0) == (instances > 0)).mean() > 0.999
