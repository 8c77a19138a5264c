"""Parquet files of images: PanNuke's equal its arrays, either schema is read, what does not fit is one sentence."""

import re
import shutil
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmark.cli import main
from benchmark.data.registry import dataset
from benchmark.data.sources.pannuke import TISSUES, PanNuke
from benchmark.data.store.prepare import prepare
from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import ROOT
from tests.support import parquet_files, tiny_data
from tests.support.tiny_data import fold_arrays

CLASSES = parquet_files.CLASSES
OVERLAPPING = 2  # image whose masks overlap, in `drawn`


def drawn(fold: int):
    """images, channels and tissues' names of a fold of five patches, one of them with overlapping channels."""
    images, masks, _ = fold_arrays(5, seed=fold)
    masks[OVERLAPPING, 4:12, 4:12, 4] = 9
    masks[OVERLAPPING, 28:30, 28:30, 1], masks[OVERLAPPING, 27:31, 27:31, 3] = 5, 6  # the former lies wholly under
    masks[..., 5] = ~masks[..., :5].any(-1)
    return images, masks, np.array(["Bile-duct", "HeadNeck", "Adrenal_gland", "Colon", "Colon"])


def as_arrays(root):
    for fold in (1, 2, 3):
        tiny_data.extracted(root, fold, *drawn(fold))
    return root


def as_masks(root, **more):
    for fold in (1, 2, 3):
        images, masks, tissues = drawn(fold)
        numbers = [TISSUES.index(tissue) for tissue in tissues]
        parquet_files.as_masks(
            root / "data" / f"fold{fold}-00000-of-00001.parquet", images, masks[..., :5], numbers, **more
        )
    return root


def as_maps(root):
    """One file in which the folds take turns."""
    folds = [drawn(fold) for fold in (1, 2, 3)]
    written = dict(zip(TISSUES, parquet_files.TISSUES))
    rows = [(fold, i) for i in range(5) for fold in (1, 2, 3)]
    images, masks, tissues = (np.stack([folds[fold - 1][k][i] for fold, i in rows]) for k in range(3))
    numbers = [fold for fold, _ in rows]
    parquet_files.as_maps(root / "all.parquet", images, masks[..., :5], [written[t] for t in tissues], numbers)
    return root


@pytest.mark.parametrize("write", [as_masks, lambda r: as_masks(r, named=False, plain=True), as_maps])
def test_pannuke_is_the_same_from_parquet_as_from_arrays(tmp_path, write):
    arrays = prepare(PanNuke(as_arrays(tmp_path / "npy")), tmp_path / "a", progress=False)
    parquet = prepare(PanNuke(write(tmp_path / "parquet")), tmp_path / "b", progress=False)
    for fold in (1, 2, 3):
        assert parquet.folds[fold].meta["content"] == arrays.folds[fold].meta["content"], "pixels, types and names"
    assert parquet.fingerprint(1) == arrays.fingerprint(1)
    assert parquet.folds[2].meta["tissues"][:3] == ["Bile-duct", "HeadNeck", "Adrenal_gland"]


def test_folds_of_another_size_than_published_are_said(tmp_path):
    root = as_masks(tmp_path)
    assert PanNuke(root).remarks()[0] == "pannuke: its fold 1 has 5 images, the published one has 2656."
    assert len(PanNuke(root).remarks()) == 3 and not PanNuke(root, name="mystudy").remarks()


def test_overlapping_masks_are_counted_and_said(tmp_path, capsys):
    prepare(PanNuke(as_masks(tmp_path / "d")), tmp_path / "c", progress=False)
    lines = [line for line in capsys.readouterr().err.splitlines() if "fold 3" in line]
    assert len(lines) == 2
    # the square of class 4 covers one nucleus of the four, that of class 3 another
    assert lines[0].startswith("pannuke fold 3: 2 masks overlap another: the one of the later class")
    assert lines[1] == "pannuke fold 3: 1 masks lie wholly under others and are no nuclei"


def test_reading_goes_on_in_the_middle_of_a_row_group(tmp_path):
    source = PanNuke(as_masks(tmp_path / "d"))
    whole, rest = list(source.samples(2)), list(source.samples(2, 3))
    assert [s.nuclei.image_id for s in rest] == ["2_3", "2_4"]
    for one, other in zip(whole[3:], rest, strict=True):
        assert np.array_equal(one.image, other.image) and np.array_equal(one.nuclei.instances, other.nuclei.instances)


def test_arrays_come_before_parquet(tmp_path):
    root = as_arrays(tmp_path / "d")
    parquet_files.as_masks(root / "fold1.parquet", *drawn(1)[:1], drawn(1)[1][:, ..., :5] * 0, [0] * 5)
    assert sum(len(s.nuclei) for s in PanNuke(root).samples(1)) > 0


def test_classes_in_another_order_are_reordered_by_name(tmp_path, monkeypatch):
    plain = [s.nuclei.types.tolist() for s in PanNuke(as_masks(tmp_path / "a")).samples(1)]
    monkeypatch.setattr(parquet_files, "CLASSES", CLASSES[::-1])
    turned = [s.nuclei.types.tolist() for s in PanNuke(as_masks(tmp_path / "b")).samples(1)]
    assert turned == [[6 - t for t in types] for types in plain]


def generic(path, n=4, seed=0, **more):
    """A file of image, instances, categories, tissue without names of anything; images differ in size."""
    rng = np.random.default_rng(seed)
    images = [rng.integers(2, 256, (20 + 4 * i, 24, 3), dtype=np.uint8) for i in range(n)]
    channels = []
    for image in images:
        channels.append(np.zeros((*image.shape[:2], 2), int))
        channels[-1][2:8, 2:8, 1], channels[-1][10:14, 10:20, 0] = 5, 3
    return parquet_files.as_masks(path, images, channels, [3] * n, named=False, **more)


def opened(text, root, cache):
    return prepare(dataset(text, root), cache, progress=False)


def test_any_set_with_training_and_test_files(tmp_path):
    patients = [f"TCGA-A7-A13{i}-01Z-00-DX1" for i in (1, 1, 2, 3)]
    for side, seed in (("train", 0), ("test", 1)):
        generic(tmp_path / "d" / side / "0000.parquet", seed=seed, patient=patients)
    data = opened("parquet@mpp=0.5,types=tumour+lymphocyte,name=mine,patch=16", tmp_path / "d", tmp_path / "c")
    assert (data.name, data.mpp, data.classes, data.tissues) == ("mine", 0.5, ("tumour", "lymphocyte"), ())
    assert data.splits() == [1] and len(data.subset(1, "test")) == 4
    assert data.folds[1].meta["sources"] == ["TCGA-A7-A131", "TCGA-A7-A131", "TCGA-A7-A132", "TCGA-A7-A133"]
    nuclei = data.folds[1][3].nuclei
    assert nuclei.instances.shape == (32, 24) and nuclei.types.tolist() == [1, 2]
    assert np.bincount(nuclei.instances.ravel())[1:].tolist() == [40, 36] and nuclei.tissue == ""
    train, val = (set(data.subset(1, side).sources) for side in ("train", "val"))
    assert len(val) == 1 and len(train) == 2 and not train & val


def test_numbered_folds_take_turns_and_files_without_a_part_are_dealt(tmp_path):
    for fold in (1, 2, 3, 4):
        generic(tmp_path / "d" / f"fold_{fold}.parquet", seed=fold)
    data = opened("parquet@mpp=0.5,types=none", tmp_path / "d", tmp_path / "c")
    assert data.splits() == [1, 2, 3, 4] and data.classes == ()
    ids = {side: {name[0] for name in data.subset(4, side).image_ids} for side in ("train", "val", "test")}
    assert ids == {"train": {"2", "3"}, "val": {"1"}, "test": {"4"}}
    one = opened("parquet@mpp=0.5,types=none", generic(tmp_path / "alone.parquet", n=10), tmp_path / "c")
    assert [len(set(one.subset(1, side).sources)) for side in ("train", "val", "test")] == [7, 1, 2]


def test_names_of_the_metadata_are_used(tmp_path):
    data = opened("parquet@mpp=0.25", as_masks(tmp_path / "d"), tmp_path / "c")
    assert data.classes == tuple(CLASSES) and data.tissues == tuple(parquet_files.TISSUES)
    assert data.folds[1].meta["tissues"][1] == "Head & Neck"


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of the memory from /proc")
def test_memory_is_of_a_row_group(tmp_path):
    """200 images of 1 MB with their labels, of noise that no packing makes smaller, in row groups of 20."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (200, 512, 512, 3), dtype=np.uint8)
    path = tmp_path / "a.parquet"
    columns = {"image": [parquet_files.png(i) for i in images], "inst": [parquet_files.png(i[..., 0]) for i in images]}
    del images
    parquet_files.write(path, columns, dict.fromkeys(columns, pa.binary()), group=20)
    del columns
    code = (
        "import numpy as np, re, sys\n"
        "from pathlib import Path\n"
        "from benchmark.data.files.parquet_images import ImageFile, Rule\n"
        "from benchmark.data.files.tally import Tally\n"
        "file, rule = ImageFile(Path(sys.argv[1])), Rule()\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) >> 10\n"
        "before = peak()\n"
        "n = sum(1 for row in file.rows(np.arange(200), rule, Tally('x')))\n"
        "print(n, peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    n, more = map(int, done.stdout.split())
    assert n == 200 and path.stat().st_size > 190 << 20 and more < 160, f"{more} MB"


def rewritten(path, **columns):
    """The file with some columns in place of its own: (type, values); None drops one."""
    table = pq.read_table(path)
    for name, column in columns.items():
        at = table.column_names.index(name) if name in table.column_names else table.num_columns
        if column is None:
            table = table.drop([name])
        elif at < table.num_columns:
            table = table.set_column(at, name, pa.array(column[1], column[0]))
        else:
            table = table.append_column(name, pa.array(column[1], column[0]))
    pq.write_table(table, path)


def fold1(root):
    return root / "data" / "fold1-00000-of-00001.parquet"


MASKS = pa.list_(parquet_files.PICTURE)
SMALL = parquet_files.picture(np.ones((4, 4), bool))
NUMBERS = pa.list_(pa.int64())
CASES = {
    "a file of two less": (
        lambda r: fold1(r).rename(r / "data" / "fold1-00001-of-00002.parquet"),
        r"expected the 2 files of which fold1-00001-of-00002\.parquet is one, found 1 and no fold1-00000-of-00002",
    ),
    "no Parquet": (lambda r: fold1(r).write_text("404"), r"of-00001\.parquet cannot be read"),
    "truncated": (
        lambda r: fold1(r).write_bytes(fold1(r).read_bytes()[: fold1(r).stat().st_size // 2]),
        r"of-00001\.parquet cannot be read",
    ),
    "a part of a page": (
        lambda r: fold1(r).write_bytes((b := fold1(r).read_bytes())[:900] + bytes(2000) + b[2900:]),
        r"of-00001\.parquet.* cannot be read",
    ),
    "no images": (
        lambda r: rewritten(fold1(r), image=None),
        r"expected the columns image, instances .*found instances",
    ),
    "other columns than the others": (lambda r: rewritten(fold1(r), tissue=None), "expected the columns of"),
    "images as text": (
        lambda r: [rewritten(p, image=(pa.string(), ["x"] * 5)) for p in r.rglob("*.parquet")],
        "expected PNG bytes in the column image, found string",
    ),
    "no bytes": (
        lambda r: rewritten(fold1(r), image=(parquet_files.PICTURE, [{"bytes": None, "path": "a.png"}] * 5)),
        r"row 0 image: expected the bytes of a picture, found none",
    ),
    "no picture": (
        lambda r: rewritten(fold1(r), image=(parquet_files.PICTURE, [{"bytes": b"GIF", "path": ""}] * 5)),
        r"row 0 cannot be read \(it is no picture of a known format\)",
    ),
    "masks of another size": (
        lambda r: rewritten(fold1(r), instances=(MASKS, [[SMALL]] * 5), categories=(NUMBERS, [[0]] * 5)),
        r"row 0, mask 0: expected the image's shape \(32, 32\), found \(4, 4\)",
    ),
    "a category less": (
        lambda r: rewritten(fold1(r), categories=(NUMBERS, [[0]] * 5)),
        "expected a category for each of 4 masks, found 1",
    ),
    "a category of 5": (
        lambda r: rewritten(fold1(r), instances=(MASKS, [[SMALL]] * 5), categories=(NUMBERS, [[5]] * 5)),
        r"expected categories 0\.\.4 .*found 5",
    ),
    "a tissue of 19": (lambda r: rewritten(fold1(r), tissue=(pa.int64(), [19] * 5)), r"tissues 0\.\.18, found 19"),
    "a fold by no word": (
        lambda r: [rewritten(p, fold=(pa.string(), ["one"] * 5)) for p in r.rglob("*.parquet")],
        "in the column fold, found 'one'",
    ),
    "a file twice": (lambda r: shutil.copytree(r / "data", r / "more"), "are of one name and one fold"),
    "folds by words": (
        lambda r: [p.rename(p.parent / f"{word}.parquet") for p, word in zip(sorted(r.rglob("*.parquet")), SIDES)],
        "expected PanNuke's folds 1, 2 and 3",
    ),
    "folds by words and by numbers": (lambda r: fold1(r).rename(r / "train.parquet"), "by words .* or all by numbers"),
    "no types": (
        lambda r: [rewritten(p, categories=None) for p in r.rglob("*.parquet")],
        "expected the types of PanNuke in the column categories",
    ),
}
SIDES = ("train", "val", "test")


@pytest.mark.parametrize("case", CASES)
def test_refused_with_one_sentence(tmp_path, case, capsys):
    damage, message = CASES[case]
    damage(as_masks(tmp_path / "d"))
    words = ("prepare", "--dataset", "pannuke", "--data-root", tmp_path / "d", "--cache", tmp_path / "c")
    assert main(list(map(str, words))) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("error: ") and last.endswith(".") and re.search(message, last), last
    assert not list((tmp_path / "c").glob("pannuke-fold1*/meta.json"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("parquet", r"as in DATASET=parquet@mpp=0\.25, found none"),
        ("parquet@mpp=x", "found mpp=x"),
        ("parquet@mpp=0.5", "types that the files' metadata do not name; name them"),
        ("parquet@mpp=0.5,types=a+A", "expected distinct names with"),
        ("parquet@mpp=0.5,types=a", r"expected categories 0\.\.0 \(a\), found 1"),
        ("parquet@mpp=0.5,types=a+b,name=pannuke", "expected a plain word other than"),
        ("parquet@mpp=0.5,types=a+b,patch=17", "a multiple of 16"),
    ],
)
def test_arguments_of_any_set_are_checked(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        opened(text, generic(tmp_path / "a.parquet"), tmp_path / "c")


def test_a_root_without_parquet_and_parts_that_do_not_suffice(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no Parquet files"):
        dataset("parquet@mpp=0.5", tmp_path / "empty")
    generic(tmp_path / "d" / "train.parquet")
    with pytest.raises(InputError, match="expected the parts train and test, found train"):
        opened("parquet@mpp=0.5,types=none", tmp_path / "d", tmp_path / "c").subset(1, "train")
