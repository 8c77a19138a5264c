"""Label maps that are odd are refused or warned of where they become training truth, as `score` does."""

import numpy as np
import pytest
from PIL import Image

from benchmark.data.files import checks
from benchmark.data.sources.conic import CoNIC
from benchmark.data.sources.folder import Folder
from benchmark.data.sources.pannuke import PanNuke, background_last
from benchmark.data.store.prepare import prepare
from benchmark.runtime.errors import InputError
from tests.support import tiny_data
from tests.support.shared import shared

LUMPED = "this looks like a binary mask, a map of types or a picture"


def nuclei() -> tuple[np.ndarray, np.ndarray]:
    """Nine nuclei and their type map, of classes 1 and 2 alternately."""
    labels = np.zeros((96, 96), np.uint16)
    for k in range(9):
        labels[32 * (k // 3) + 8 : 32 * (k // 3) + 20, 32 * (k % 3) + 8 : 32 * (k % 3) + 20] = k + 1
    return labels, np.where(labels > 0, 1 + labels % 2, 0).astype(np.uint8)


def folder(root, labels, types=None):
    rng = np.random.default_rng(0)
    for i in range(3):
        for name, array in (("images", rng.integers(0, 255, (96, 96, 3), np.uint8)), ("labels", labels)):
            (root / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(root / name / f"c{i}.png")
        if types is not None:
            (root / "types").mkdir(exist_ok=True)
            Image.fromarray(types).save(root / "types" / f"c{i}.png")
    (root / "dataset.toml").write_text(f"classes = {[] if types is None else ['a', 'b']}\nmpp = 0.25\npatch = 96\n")
    return root


def conic(root, labels, types):
    """Three patches with the same labels."""
    root.mkdir()
    np.save(root / "images.npy", np.zeros((3, 96, 96, 3), np.uint8))
    np.save(root / "labels.npy", np.repeat(np.stack([labels, types], -1).astype(np.int32)[None], 3, 0))
    tiny_data.table(root / "patch_info.csv", ["patch_info"], [[f"slide_{i}-0000"] for i in range(3)])
    return root


def cellvit_layout(root, labels, types):
    """A fold of two images in the layout of CellViT."""
    folder = root / "fold1"
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for i in range(2):
        Image.new("RGB", (96, 96)).save(folder / "images" / f"1_{i}.png")
        np.save(folder / "labels" / f"1_{i}.npy", {"inst_map": labels, "type_map": types}, allow_pickle=True)
    tiny_data.table(folder / "types.csv", ["img", "type"], [(f"1_{i}.png", "Colon") for i in range(2)])
    return root


def ready(source, tmp_path):
    return prepare(source, tmp_path / "cache", progress=False)


def test_good_labels_are_prepared_without_a_word(tmp_path, capsys):
    ready(Folder(folder(tmp_path / "d", *nuclei())), tmp_path)
    ready(PanNuke(tiny_data.pannuke(tmp_path / "p")), tmp_path)
    ready(CoNIC(conic(tmp_path / "c", *nuclei())), tmp_path)
    ready(PanNuke(cellvit_layout(tmp_path / "v", *nuclei())), tmp_path)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("kind", ["mask", "picture"])
def test_a_mask_or_a_picture_as_labels(tmp_path, capsys, kind):
    labels = (nuclei()[0] > 0) * np.uint8(255)
    if kind == "picture":
        labels = np.random.default_rng(1).integers(0, 24, (96, 96), np.uint8)
    ready(Folder(folder(tmp_path / "d", labels)), tmp_path)
    err = capsys.readouterr().err
    assert err.count("warning:") == 1 and "c0.png" in err and LUMPED in err and "(and 2 more such)" in err


def test_types_counted_from_0(tmp_path, capsys):
    labels, types = nuclei()
    ready(Folder(folder(tmp_path / "d", labels, types - (types > 0))), tmp_path)
    assert "12 nuclei have type 0, which stands for none, and no nucleus has type 2 ('b')" in capsys.readouterr().err
    with checks.Doubts(("a", "b")) as doubts:
        doubts.add("here", labels, np.ones(9, np.uint8))
        doubts.add("here", labels, np.zeros(9, np.uint8))
        doubts.add("here", labels, types)
    assert "warning: 9 of 27 nuclei have no type (type 0): types are counted from 1" in capsys.readouterr().err
    with checks.Doubts(("a", "b")) as doubts:
        doubts.add("here", labels, np.ones(9, np.uint8))
    assert not capsys.readouterr().err


def test_types_counted_from_0_where_not_all_classes_occur(tmp_path, capsys):
    """Of classes a, b and c only a and b occur, as 0 and 1: half of the nuclei would be untyped truth in silence."""
    labels, types = nuclei()
    root = folder(tmp_path / "d", labels, types - (types > 0))
    (root / "dataset.toml").write_text('classes = ["a", "b", "c"]\nmpp = 0.25\npatch = 96\n')
    ready(Folder(root), tmp_path)
    err = capsys.readouterr().err
    assert "12 nuclei have type 0, which stands for none, and no nucleus has type 3 ('c'), of 27 nuclei in all" in err


def test_type_maps_that_are_all_empty(tmp_path, capsys):
    labels, types = nuclei()
    ready(Folder(folder(tmp_path / "d", labels, types * 0)), tmp_path)
    err = capsys.readouterr().err
    assert "warning: none of 27 nuclei has a type (all are 0), and there are the classes a, b; give them types" in err


def test_types_that_are_a_placeholder_are_not_doubted(tmp_path, capsys):
    labels, types = nuclei()
    root = cellvit_layout(tmp_path / "v", labels, types * 0)
    tiny_data.table(root / "provenance_fold1.csv", ["index", "types_real"], [(0, "none"), (1, "none")])
    ready(PanNuke(root), tmp_path)
    assert not capsys.readouterr().err


def test_type_maps_of_other_images(tmp_path):
    labels, types = nuclei()
    with pytest.raises(InputError, match=r"c0\.png: the type map disagrees .* 1296 pixels have a type but no instance"):
        ready(Folder(folder(tmp_path / "d", labels, np.roll(types, 16, axis=1))), tmp_path)


def edit(path, change):
    np.save(path, change(np.load(path)))


def masks(root):
    return next((root / "Fold 1").rglob("masks.npy"))


def test_pannuke_with_the_background_first(tmp_path):
    root = tiny_data.pannuke(tmp_path / "d")
    edit(masks(root), lambda m: np.roll(m, 1, axis=-1))
    with pytest.raises(InputError, match=r"image 0: expected the channels Neoplastic.*found the background first"):
        ready(PanNuke(root), tmp_path)


def test_background_first_is_told_from_one_nucleus_of_the_first_class():
    channels = np.zeros((32, 32, 6), np.int64)
    channels[..., 5] = 1
    background_last(channels, "an empty image")
    channels[4:20, 4:20, 0], channels[4:20, 4:20, 5] = 7, 0
    background_last(channels, "one nucleus")
    channels[..., 0] = (~channels[..., 1:].any(-1)) * 2
    background_last(channels, "one nucleus")
    channels[24:30, 24:30, 2], channels[24:30, 24:30, 5] = 9, 0
    background_last(channels, "two nuclei")
    empty = np.zeros((32, 32, 6), np.int64)
    empty[..., 0] = 1
    with pytest.raises(InputError, match="1024 of 1024 pixels in one id"):
        background_last(empty, "here")


def test_pannuke_and_conic_of_binary_masks(tmp_path, capsys):
    root = tiny_data.pannuke(tmp_path / "d")
    edit(masks(root), lambda m: np.concatenate([m[..., :5].any(-1, keepdims=True) * 1, m[..., 1:] * 0], -1))
    ready(PanNuke(root), tmp_path)
    err = capsys.readouterr().err
    assert "masks.npy, image 0: 1 id in 4 separate pieces" in err and LUMPED in err

    labels, types = nuclei()
    ready(CoNIC(conic(tmp_path / "c", labels > 0, types)), tmp_path)
    err = capsys.readouterr().err
    assert "labels.npy, image 0: 1 id in 9 separate pieces" in err and "(and 2 more such)" in err
    with pytest.raises(InputError, match="image 0: the type map disagrees"):
        ready(CoNIC(conic(tmp_path / "t", labels, np.roll(types, 16, 0))), tmp_path)


def test_cellvits_layout(tmp_path, capsys):
    labels, types = nuclei()
    ready(PanNuke(cellvit_layout(tmp_path / "a", (labels > 0) * 1, types)), tmp_path)
    assert "1_0.npy: 1 id in 9 separate pieces" in capsys.readouterr().err
    with pytest.raises(InputError, match=r"1_0\.npy: the type map disagrees"):
        ready(PanNuke(cellvit_layout(tmp_path / "b", labels, np.roll(types, 16, 0))), tmp_path)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("binary", LUMPED),
        ("picture", LUMPED),
        ("types-from-0", "counted from 0"),
        ("types-of-other-images", "disagree"),
    ],
)
def test_folders_of_the_reference_data(tmp_path, capsys, name, words):
    source = Folder(shared(f"faults/folder-labels/{name}"))
    try:
        ready(source, tmp_path)
    except InputError as error:
        assert words in str(error)
    else:
        assert words in capsys.readouterr().err
