"""MoNuSeg and MoNuSAC as the Parquet files of their mirrors."""

import numpy as np
import pyarrow as pa
import pytest

from benchmark.cli import main
from benchmark.data.registry import dataset
from benchmark.data.store.prepare import prepare
from benchmark.runtime.errors import InputError
from tests.support import parquet_files

ORGANS = ["Unknown", "Breast", "Kidney"]
KINDS = ["Ambiguous", "Epithelial", "Lymphocyte", "Macrophage", "Neutrophil"]


def mask(top, left, height, width):
    out = np.zeros((40, 40), bool)
    out[top : top + height, left : left + width] = True
    return parquet_files.picture(out)


def write(root, sides=("train", "test"), kinds=None, of=KINDS):
    """Two files of two images each, of two patients; kinds: the categories of the three masks of each image."""
    rng = np.random.default_rng(0)
    for side in sides:
        columns = {
            "patient": [f"TCGA-A7-A13{k}-01Z-00-DX1" for k in "EF"],
            "image": [parquet_files.picture(rng.integers(2, 256, (40, 40, 3), dtype=np.uint8)) for _ in range(2)],
            # the second reaches into the first
            "instances": [[mask(2, 2, 10, 10), mask(10, 2, 10, 10), mask(28, 28, 6, 6)]] * 2,
            "tissue": [2, 0],
        }
        types = [pa.string(), parquet_files.PICTURE, pa.list_(parquet_files.PICTURE), pa.int64()]
        names = {"tissue": ORGANS}
        if kinds is not None:
            columns["categories"], names["categories"] = [kinds] * 2, of
            types.append(pa.list_(pa.int64()))
        path = root / "data" / f"{side}-00000-of-00001.parquet"
        parquet_files.write(path, columns, dict(zip(columns, types)), parquet_files.features(**names))
    return root


def test_monuseg_is_read_from_parquet(tmp_path, capsys):
    data = prepare(dataset("monuseg", write(tmp_path / "d")), tmp_path / "c")
    lines = capsys.readouterr().err
    assert "monuseg fold 1: 2 masks overlap another: the earlier in the list has the pixels" in lines
    assert "its train part has 2 images, the published one has 37" in lines
    nuclei = data.folds[1][0].nuclei
    assert np.bincount(nuclei.instances.ravel())[1:].tolist() == [100, 80, 36] and not nuclei.types.any()
    assert (nuclei.image_id, nuclei.source, nuclei.tissue) == ("TCGA-A7-A13E-01Z-00-DX1", "TCGA-A7-A13E", "Kidney")
    assert data.folds[2].meta["tissues"] == ["Kidney", ""] and data.tissues == ("Breast", "Kidney")
    assert [len(data.subset(1, side)) for side in ("train", "val", "test")] == [1, 1, 2]


@pytest.mark.parametrize("of", [KINDS, [*KINDS[1:], KINDS[0]]])
def test_monusac_has_its_ambiguous_masks_as_regions(tmp_path, of):
    kinds = [of.index("Ambiguous"), of.index("Neutrophil"), of.index("Epithelial")]
    data = prepare(dataset("monusac", write(tmp_path / "d", kinds=kinds, of=of)), tmp_path / "c", progress=False)
    nuclei = data.folds[2][1].nuclei
    assert [data.classes[t - 1] for t in nuclei.types] == ["Neutrophil", "Epithelial"]
    assert np.bincount(nuclei.instances.ravel())[1:].tolist() == [100, 36], "no pixels are lost to the region"
    assert nuclei.ignore.sum() == 100 and nuclei.ignore[2:12, 2:12].all()


@pytest.mark.parametrize(("name", "kinds"), [("monuseg", None), ("monusac", [0, 1, 4])])
def test_the_command_prepares_a_mirror(tmp_path, capsys, name, kinds):
    root = write(tmp_path / "d", kinds=kinds)
    words = ("prepare", "--dataset", name, "--data-root", root, "--cache", tmp_path / "c")
    assert main(list(map(str, words))) == 0
    printed = capsys.readouterr()
    assert f"{name}: folds 1 (2 images), 2 (2 images)" in printed.out and "FOLD=1 can be run." in printed.out
    assert f"{name}: validation is on the training images of TCGA-A7-A13" in printed.err


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("monuseg", {"sides": ("fold1", "fold2")}, "expected the parts train and test of MoNuSeg"),
        ("monuseg", {"kinds": [1, 1, 1]}, "expected MoNuSeg to have no types, found some"),
        ("monusac", {}, "expected MoNuSAC to have types, found none"),
        ("monusac", {"kinds": [0, 0, 0], "of": ["stroma"]}, "and Ambiguous, found stroma"),
    ],
)
def test_other_files_are_refused(tmp_path, name, arguments, message):
    with pytest.raises(InputError, match=message):
        prepare(dataset(name, write(tmp_path / "d", **arguments)), tmp_path / "c", progress=False)
