"""PanNuke is read in every form in which it is met, and each of its quirks survives."""

import pickle
import shutil
import zipfile
from itertools import chain

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from benchmark.cli import main
from benchmark.data.nuclei import Nuclei
from benchmark.data.registry import dataset
from benchmark.data.sources import cellvit_layout
from benchmark.data.sources.pannuke import TISSUES, PanNuke, merge
from benchmark.data.store.prepare import prepare
from benchmark.experiment.grid import cells
from benchmark.experiment.setup import Setup
from benchmark.runtime.errors import InputError
from tests.support import tiny_data
from tests.support.shared import shared


def ready(root, cache, **kwargs):
    return prepare(PanNuke(root), cache, progress=False, **kwargs)


def equal(one, other) -> bool:
    pairs = list(zip(one, other, strict=True))
    return all(
        np.array_equal(a.image, b.image)
        and np.array_equal(a.nuclei.instances, b.nuclei.instances)
        and np.array_equal(a.nuclei.types, b.nuclei.types)
        and (a.nuclei.tissue, a.nuclei.image_id) == (b.nuclei.tissue, b.nuclei.image_id)
        for a, b in pairs
    )


@pytest.mark.parametrize(
    ("dtype", "mask_dtype"),
    [
        (np.float64, np.float64),
        (np.uint8, np.uint16),
        (np.uint16, np.int32),
        (np.int32, np.int64),
        (">f4", ">u2"),
    ],
)
@pytest.mark.parametrize("zipped", [False, True])
def test_same_data_in_any_dtype_and_packing(tmp_path, dtype, mask_dtype, zipped):
    plain = ready(tiny_data.pannuke(tmp_path / "plain"), tmp_path / "cache")
    other = ready(tiny_data.pannuke(tmp_path / "other", (1, 2, 3), 5, dtype, mask_dtype, zipped), tmp_path / "cache")
    images, masks, tissues = tiny_data.fold_arrays(seed=1)
    train = other.subset(1, "train")
    assert len(train) == 5 and train.tissues == tissues.tolist()
    for i in range(5):
        assert np.array_equal(train[i].image, images[i])
        assert np.array_equal(train[i].nuclei.instances > 0, masks[i, ..., :5].any(-1))
    for side in ("train", "val", "test"):
        assert equal(plain.subset(2, side), other.subset(2, side))
    assert plain.fingerprint(3) == other.fingerprint(3) != other.fingerprint(1)


def test_splits_are_the_published_ones(tmp_path):
    data = ready(tiny_data.pannuke(tmp_path / "d", n=2), tmp_path / "c")
    expected = {1: "123", 2: "213", 3: "321"}
    for k, folds in expected.items():
        assert [data.subset(k, s).image_ids[0][0] for s in ("train", "val", "test")] == list(folds)
    assert len(TISSUES) == 19 and data.splits() == [1, 2, 3] and data.mpp == 0.25


def test_nested_symlinked_named_with_spaces_and_beside_a_zip(tmp_path):
    real = tiny_data.pannuke(tmp_path / "real one")
    root = tmp_path / "my data" / "deeper"
    root.mkdir(parents=True)
    (root / "PanNuke link").symlink_to(real, target_is_directory=True)
    (root / "fold_1.zip").write_bytes(b"a download that broke off, but fold 1 is extracted")
    data = ready(tmp_path / "my data", tmp_path / "c")
    assert equal(data.subset(1, "train"), ready(real, tmp_path / "c2").subset(1, "train"))


def test_a_zip_of_other_sizes_beside_the_extracted_fold_is_named(tmp_path):
    root = tiny_data.pannuke(tmp_path / "d", (1, 2))
    copies = tiny_data.pannuke(tmp_path / "e", (1, 2), 7)
    extracted = root / "Fold 1/images/fold1/images.npy"
    shutil.copy(tiny_data.zip_fold(copies, 1), root)
    same = tiny_data.pannuke(tmp_path / "f", (1, 2))
    shutil.copy(tiny_data.zip_fold(same, 2), root)
    lines = [line for line in PanNuke(root).remarks() if "twice" in line]
    assert len(lines) == 1 and lines[0].startswith(f"pannuke: WARNING: fold 1 lies there twice: {extracted} is read, ")
    assert f"{root / 'fold_1.zip'}: " in lines[0] and "remove the copy" in lines[0]


def test_folder_without_top_level_and_single_zip(tmp_path):
    root = tiny_data.pannuke(tmp_path / "d")
    flat = tmp_path / "flat"
    for fold in (1, 2, 3):
        shutil.copytree(root / f"Fold {fold}" / "images", flat / "images", dirs_exist_ok=True)
        shutil.copytree(root / f"Fold {fold}" / "masks", flat / "masks", dirs_exist_ok=True)
    assert PanNuke(flat).folds() == [1, 2, 3]
    assert equal(ready(flat, tmp_path / "a").subset(1, "val"), ready(root, tmp_path / "b").subset(1, "val"))
    zipped = tiny_data.zip_fold(root, 2)
    assert ready(zipped, tmp_path / "c").folds[2].meta["n"] == 5


def test_stored_zip_member_is_read_too(tmp_path):
    root = tiny_data.pannuke(tmp_path / "d", (1,))
    with zipfile.ZipFile(tmp_path / "fold_1.zip", "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(root.rglob("*.npy")):
            archive.write(path, path.relative_to(root))
    stored = [s for s in PanNuke(tmp_path / "fold_1.zip").samples(1, 2)]
    assert equal(stored, list(PanNuke(root).samples(1))[2:])


def test_later_channels_win_and_equal_ids_in_two_channels_are_two_nuclei():
    channels = np.zeros((8, 8, 5), np.int64)
    channels[0:4, 0:4, 0] = 2282
    channels[2:6, 2:6, 3] = 2282  # same id, other class, overlapping
    channels[6:8, 6:8, 1] = 9
    channels[6:8, 6:8, 4] = 1  # covers id 9 wholly
    nuclei = merge(channels, 0.25)
    assert nuclei.types.tolist() == [1, 4, 5]
    areas = np.bincount(nuclei.instances.ravel())[1:]
    assert areas.tolist() == [12, 16, 4]
    assert nuclei.instances[3, 3] == 2 and nuclei.type_map is None
    assert merge(channels, 0.25, typed=False).types.tolist() == [0, 0, 0]


def test_two_pieces_slivers_many_ids_and_empty_patches_survive(tmp_path):
    images, masks, tissues = tiny_data.fold_arrays(3)
    masks[0] = 0
    masks[0, 0:3, 0:3, 2] = masks[0, 20:23, 0:3, 2] = 1700  # one nucleus in two pieces
    masks[0, 31, 10:13, 0] = 1  # a sliver at the border
    masks[2] = 0
    masks[2, ..., 4] = np.arange(1, 1025).reshape(32, 32) * 3  # more than 255 nuclei
    tiny_data.extracted(tmp_path / "d", 1, images, masks, tissues)
    fold = ready(tmp_path / "d", tmp_path / "c").folds[1]
    assert np.diff(fold.offsets).tolist() == [2, 0, 1024]
    first = fold[0].nuclei
    assert sorted(np.bincount(first.instances.ravel())[1:].tolist()) == [3, 18]
    assert first.types.tolist() == [1, 3] and len(fold[1].nuclei) == 0
    assert fold[2].nuclei.instances.max() == 1024 and fold[2].nuclei.instances.dtype == np.int32


@pytest.mark.parametrize("inside", [False, True])
def test_provenance_marks_untyped_images_and_names_sources(tmp_path, capsys, inside):
    root = tiny_data.pannuke(tmp_path / "d", zipped=False)
    rows = [
        ("slide a", "4-class"),
        ("slide b", "none"),
        ("slide b", "none"),
        ("slide c", "4-class"),
        ("", ""),
    ]
    tiny_data.provenance(root / "Fold 1" / "provenance.csv" if inside else root / "provenance_fold1.csv", rows)
    data = prepare(PanNuke(root), tmp_path / "c", split=1)
    train = data.subset(1, "train")
    assert train.typed.tolist() == [True, False, False, True, False]
    assert train.sources == ["slide a", "slide b", "slide b", "slide c", ""]
    assert train.nuclei.tolist() == [4, 0, 4, 4, 4] and train.counts.sum(1).tolist() == [4, 0, 0, 4, 0]
    assert not train[2].nuclei.types.any() and not train[2].nuclei.typed
    assert "3 of 5 images are untyped and left out of type losses" in capsys.readouterr().err
    assert data.subset(1, "val").typed.all()


def test_unknown_tissue_keeps_its_name_and_is_said_once(tmp_path, capsys):
    images, masks, tissues = tiny_data.fold_arrays(4)
    for fold in (1, 2):
        tiny_data.extracted(tmp_path / "d", fold, images, masks, np.where(tissues == "Colon", "Brain", tissues))
    data = prepare(PanNuke(tmp_path / "d"), tmp_path / "c")
    assert data.folds[1].meta["tissues"] == ["Breast", "Brain", "Breast", "Brain"]
    said = capsys.readouterr().err
    assert said.count("Brain") == 1 and "'Brain' (4)" in said
    assert "WARNING: folds 1 and 2 hold the same images" in said


def per_image(root, first: int):
    for k in range(3):
        folder = root / f"fold{k + first}"
        (folder / "images").mkdir(parents=True)
        (folder / "labels").mkdir()
        images, masks, tissues = tiny_data.fold_arrays(11, seed=k + 1)
        rows = []
        for i in range(11):
            stem = f"{k + first}_{i}"
            Image.fromarray(images[i]).save(folder / "images" / f"{stem}.png")
            nuclei = merge(masks[i, ..., :5].astype(np.int64), 0.25)
            maps = {"inst_map": nuclei.instances * 3, "type_map": nuclei.pixel_types().astype(np.int32)}
            np.save(folder / "labels" / f"{stem}.npy", maps)
            rows.append((f"{stem}.png", tissues[i]))
        tiny_data.table(folder / "types.csv", ["img", "type"], rows)
        tiny_data.table(folder / "cell_count.csv", ["Image", "Neoplastic"], [(r[0], 0) for r in rows])
    return root


@pytest.mark.parametrize("first", [0, 1])
def test_per_image_layout_equals_the_published_one(tmp_path, first):
    published = ready(tiny_data.pannuke(tmp_path / "d", n=11), tmp_path / "c")
    other = ready(per_image(tmp_path / "p", first), tmp_path / "c")
    for side in ("train", "val", "test"):
        assert equal(published.subset(1, side), other.subset(1, side))


class Evil:
    def __reduce__(self):
        return (eval, ("open('/nowhere/at all', 'w')",))


def test_pickled_labels_execute_nothing(tmp_path):
    path = tmp_path / "1_0.npy"
    for value in ({"inst_map": Evil()}, Evil(), {"inst_map": np.array([Evil()], object)}):
        np.save(path, np.array(value, dtype=object), allow_pickle=True)
        with pytest.raises(InputError, match=r"asks for builtins\.eval"):
            cellvit_layout.read_dict(path)
    path.write_bytes(pickle.dumps({"inst_map": 1}))
    with pytest.raises(InputError, match="expected a dict"):
        cellvit_layout.read_dict(path)
    np.save(path, np.zeros((4, 4)))
    with pytest.raises(InputError, match=r"found float64 of shape \(4, 4\)"):
        cellvit_layout.read_dict(path)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "labels" / "1_3.npy").unlink(), "'1_3' being an image without label"),
        (lambda f: (f / "types.csv").unlink(), "cannot be read"),
        (
            lambda f: tiny_data.table(f / "types.csv", ["img", "type"], [("1_0.png", "Colon")]),
            "found 1, and none for '1_1'; copy the fold again",
        ),
        (
            lambda f: tiny_data.table(f / "cell_count.csv", ["Image"], [("1_0.png",)]),
            "row for each of 11 images",
        ),
        (lambda f: np.save(f / "labels" / "1_0.npy", {"inst_map": np.zeros((3, 3), int)}), r"found \(3, 3\)"),
        (lambda f: (f / "images" / "1_2.png").write_bytes(b"\x89PNG"), r"1_2\.png cannot be read"),
        (lambda f: Image.new("L", (32, 32)).save(f / "images" / "1_2.png"), "expected RGB"),
        (
            lambda f: (f / "labels" / "1_0.npy").write_bytes((f / "labels" / "1_0.npy").read_bytes()[:600]),
            "cannot be read",
        ),
    ],
)
def test_per_image_layout_refuses(tmp_path, damage, message):
    root = per_image(tmp_path / "p", 1)
    damage(root / "fold1")
    with pytest.raises(InputError, match=message):
        ready(root, tmp_path / "c", split=1)


def test_real_samples(tmp_path):
    data = ready(shared("data/pannuke_like"), tmp_path / "c", split=1)
    subsets = [data.subset(1, side) for side in ("train", "val", "test")]
    assert [len(s) for s in subsets] == [86, 81, 87]
    assert [int(s.nuclei.sum()) for s in subsets] == [3935, 3177, 2542]
    assert [int((~s.typed).sum()) for s in subsets] == [36, 36, 45]
    assert (subsets[2].nuclei == 0).sum() == 3
    for subset in subsets:
        assert (subset.counts.sum(1) == np.where(subset.typed, subset.nuclei, 0)).all()
    sides = [set(s.sources) for s in subsets]
    assert not (sides[0] & sides[1] or sides[0] & sides[2] or sides[1] & sides[2])
    assert "" not in set.union(*sides)
    areas, pieces = [], 0
    for sample in chain(*subsets):
        labels = sample.nuclei.instances
        areas += np.bincount(labels.ravel())[1:].tolist()
        for i, window in enumerate(ndimage.find_objects(labels), 1):
            pieces += ndimage.label(labels[window] == i, np.ones((3, 3)))[1] > 1
    assert min(areas) >= 1 and np.count_nonzero(np.array(areas) < 10) == 133, "slivers are kept"
    assert pieces == 9, "an id in two pieces stays one nucleus"


def test_genuine_patches_with_only_fold_one(tmp_path):
    root = shared("data/pannuke_genuine")
    data = ready(root, tmp_path / "c")
    assert len(data.folds) == 1 and np.diff(data.folds[1].offsets).tolist() == [20, 47, 58]
    assert data.folds[1].meta["typed"] == [True] * 3 and data.folds[1].meta["tissues"] == ["Unknown"] * 3
    types = [data.folds[1][i].nuclei.types for i in range(3)]
    assert np.bincount(np.concatenate(types), minlength=6).tolist() == [0, 63, 24, 19, 0, 19]
    with pytest.raises(InputError, match="Fold 2 of PanNuke is missing"):
        ready(root, tmp_path / "c", split=1)
    with pytest.raises(InputError, match="needs fold 2"):
        data.subset(1, "val")


def test_the_command_says_which_splits_can_be_run(tmp_path, capsys):
    root = tmp_path / "data"
    tiny_data.pannuke(root)
    words = ["prepare", "--dataset", "pannuke", "--data-root", str(root), "--cache", str(tmp_path / "cache")]
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "FOLD=1, 2 or 3 can be run."
    shutil.rmtree(root)
    tiny_data.pannuke(root, folds=(1,))
    assert main(words) == 0
    folds, runnable = capsys.readouterr().out.splitlines()
    assert folds.startswith("pannuke: folds 1 (5 images); 5 types; in ")
    assert runnable == "No split can be run; 1, 2, 3 need folds that do not lie under DATA_ROOT."


def test_nuclei_take_their_types_and_scores_along():
    labels, types = np.array([[5, 5, 5, 5, 0, 9]]), np.array([[0, 0, 0, 2, 0, 1]])
    found = Nuclei.from_labels(labels, types, 0.25)
    assert found.types.tolist() == [2, 1], "untyped pixels have no vote"
    three = Nuclei(np.array([[1, 2, 3]]), np.array([4, 5, 6]), 0.25, np.array([0.1, 0.2, 0.3]))
    last = three.with_map(np.array([[0, 3, 0]]))
    assert (last.instances.tolist(), last.types.tolist(), last.scores.tolist()) == ([[0, 1, 0]], [6], [0.3])


def test_per_image_tissues_are_those_of_the_names_whatever_the_order(tmp_path):
    fold = tmp_path / "fold1"
    for folder, suffix in (("images", "png"), ("labels", "npy")):
        (fold / folder).mkdir(parents=True)
        for k in (0, 2, 10):
            (fold / folder / f"1_{k}.{suffix}").touch()
    (fold / "types.csv").write_text("img,type\n1_10.png,Skin\n1_2.png,Colon\n1_0.png,Liver\n")
    found = cellvit_layout.load(fold)
    assert found.stems == ("1_0", "1_2", "1_10") and found.tissues == ("Liver", "Colon", "Skin")
    assert PanNuke.classes == ("Neoplastic", "Inflammatory", "Connective", "Dead", "Epithelial"), "as the channels lie"


def test_other_data_in_this_layout_go_by_a_name_of_their_own(tmp_path):
    root = tiny_data.pannuke(tmp_path / "data")
    setup = Setup("pannuke@name=consep+monuseg", str(root), "debug", "main", tmp_path / "results", tmp_path / "cache")
    (cell,) = cells(setup, ["decoder_only"], [1], [0])
    assert setup.label == cell.run.dataset == cell.identity["dataset"] == "consep+monuseg"
    assert cell.recipe.sampling.factors == "counted"
    plain = Setup("pannuke", str(root), "debug", "main", tmp_path / "results", tmp_path / "cache")
    assert plain.label == "pannuke"


@pytest.mark.parametrize("name", ["conic", "synthetic", "folder", "a/b", "../up", ".hidden", ""])
def test_a_name_that_is_taken_or_no_folder_is_refused(tmp_path, name):
    with pytest.raises(InputError, match="expected a plain word"):
        dataset(f"pannuke@name={name}", tiny_data.pannuke(tmp_path / "data"))
