"""CoNIC: read as published, split by source image, refused when its files do not belong together."""

import shutil

import numpy as np
import pytest

from benchmark.data.sources.conic import CoNIC
from benchmark.data.store.prepare import prepare
from benchmark.runtime.errors import InputError
from tests.support.shared import shared
from tests.support.tiny_data import CONIC_NAMES, conic


@pytest.mark.parametrize("dtype", [np.int32, np.uint16])
@pytest.mark.parametrize("zipped", [False, True])
def test_reads_instances_types_and_sources(tmp_path, dtype, zipped):
    root = conic(tmp_path / "the data" / "conic", dtype)
    if zipped:
        shutil.make_archive(str(tmp_path / "zip" / "conic"), "zip", root.parent, "conic")
        root = tmp_path / "zip"
    data = prepare(CoNIC(root), tmp_path / "c", split=1, progress=False)
    fold = data.folds[1]
    assert data.mpp == 0.5 and data.tissues == ("Colon",)
    assert data.classes == (
        "neutrophil",
        "epithelial",
        "lymphocyte",
        "plasma",
        "eosinophil",
        "connective",
    )  # as labelled
    first = fold[0].nuclei
    assert first.types.tolist() == [2, 6], "types follow the ascending ids 40, 900"
    assert first.instances[9, 9] == 1 and first.instances[3, 3] == 2
    assert first.type_map[11, 9] == 5 and fold[1].nuclei.type_map is None
    assert (first.image_id, first.source, first.tissue) == ("glas_1-0000", "glas_1", "Colon")
    assert len(fold[3].nuclei) == 0 and fold.meta["sources"][13] == "dpath_9-b"


def test_another_number_of_patches_than_published_is_said(tmp_path):
    assert CoNIC(conic(tmp_path)).remarks() == ["conic: 20 patches, the published set has 4981."]


def test_a_copy_of_other_sizes_that_is_not_read_is_named(tmp_path):
    conic(tmp_path)
    conic(tmp_path / "same" / "deeper")
    assert not [line for line in CoNIC(tmp_path).remarks() if "twice" in line]
    conic(tmp_path / "another", side=24)
    (line,) = [line for line in CoNIC(tmp_path).remarks() if "twice" in line]
    assert f"{tmp_path / 'images.npy'} is read, {tmp_path / 'another/images.npy'}, whose files" in line


def test_split_keeps_source_images_whole(tmp_path):
    data = prepare(CoNIC(conic(tmp_path / "d")), tmp_path / "c", progress=False)
    sides = [data.subset(1, side) for side in ("train", "val", "test")]
    sources = [set(side.sources) for side in sides]
    assert sum(map(len, sides)) == 20 and all(sources)
    assert not (sources[0] & sources[1] or sources[0] & sources[2] or sources[1] & sources[2])
    assert sides[1].sources == ["crag_3"] * 2
    for side in sides:
        found = [side[i].nuclei for i in range(len(side))]
        assert side.nuclei.tolist() == [len(n) for n in found] and side.image_ids == [n.image_id for n in found]
        assert side.counts.tolist() == [np.bincount(n.types, minlength=7)[1:].tolist() for n in found]


def drop(root, name, rows):
    lines = (root / name).read_text().splitlines(keepends=True)
    (root / name).write_text("".join(lines[:-rows]))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda r: (r / "labels.npy").unlink(),
            r"CoNIC is missing.*found counts\.csv, images\.npy, patch_info\.csv",
        ),
        (lambda r: drop(r, "counts.csv", 2), r"counts\.csv: expected a row for each of 20 images.*found 18"),
        (lambda r: drop(r, "patch_info.csv", 1), r"patch_info\.csv: expected a row for each of 20.*found 19"),
        (
            lambda r: (r / "patch_info.csv").write_text("patch_info\n" + "consep\n" * 20),
            "names such as 'consep_1-0000'",
        ),
        (lambda r: np.save(r / "labels.npy", np.load(r / "labels.npy")[:19]), r"found \(19, 16, 16, 2\)"),
        (lambda r: np.save(r / "labels.npy", np.load(r / "labels.npy")[..., :1]), r"found \(20, 16, 16, 1\)"),
        (
            lambda r: np.save(r / "labels.npy", np.load(r / "labels.npy") % 40 + 7),
            r"expected types 0\.\.6 .*found 13",
        ),
        (lambda r: np.save(r / "labels.npy", -np.load(r / "labels.npy")), "negative id -900"),
        (lambda r: np.save(r / "images.npy", np.load(r / "images.npy")[..., 0]), "expected RGB"),
        (lambda r: (r / "images.npy").write_bytes((r / "images.npy").read_bytes()[:-1]), "is truncated"),
        (lambda r: shutil.rmtree(r), "does not exist"),
    ],
)
def test_refuses(tmp_path, damage, message):
    root = conic(tmp_path / "d")
    damage(root)
    with pytest.raises(InputError, match=message) as caught:
        prepare(CoNIC(root), tmp_path / "c", progress=False)
    assert ". " not in str(caught.value) and str(caught.value).endswith(".")
    assert not list((tmp_path / "c").glob("conic*/meta.json"))


def test_one_split_only_and_enough_sources(tmp_path):
    with pytest.raises(InputError, match="one split, by source image, found FOLD=2; use FOLD=1"):
        prepare(CoNIC(conic(tmp_path / "d")), tmp_path / "c", split=2, progress=False)
    few = prepare(CoNIC(conic(tmp_path / "few", names=CONIC_NAMES[:13])), tmp_path / "c", progress=False)
    with pytest.raises(InputError, match="at least 3 source images"):
        few.subset(1, "train")


def test_real_sample(tmp_path):
    root = shared("data/conic_like")
    data = prepare(CoNIC(root), tmp_path / "c", split=1, progress=False)
    sides = [data.subset(1, side) for side in ("train", "val", "test")]
    assert len(data.folds[1]) == 108 and [len(s) for s in sides] == [76, 12, 20]
    assert data.folds[1].meta["sources"][0] == "consep_train1"
    assert all(s.typed.all() for s in sides)
