"""Several data sets as one: how they are named, what of them is the union, what a set lacks, what is left out."""

import shutil

import numpy as np
import pytest
from PIL import Image

from benchmark.data import set_names
from benchmark.data.registry import dataset, dataset_names, results_name
from benchmark.data.store.prepare import opened, prepare
from benchmark.results.run_id import data_set, is_drawn
from benchmark.runtime.errors import InputError
from tests.support import joint_sets

SYNTHETIC = "synthetic@patches=6,seed=1"


@pytest.fixture
def folders(tmp_path):
    """Two sets of the same resolution that share the class Inflammatory, in two spellings."""
    return joint_sets.folder(tmp_path / "one", "one"), joint_sets.folder(tmp_path / "two", "two", slide=80)


def joined(folders, *more: str) -> str:
    return "+".join([*(f"folder:{folder}" for folder in folders), *more])


def prepared(text: str, tmp_path, k: int = 1):
    return prepare(dataset(text), tmp_path / "cache", k, progress=False)


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        ("pannuke", ["pannuke"]),
        ("pannuke+monuseg", ["pannuke", "monuseg"]),
        ("consep@classes=4:/d/c+monuseg:/d/m", ["consep@classes=4:/d/c", "monuseg:/d/m"]),
        ("folder:/d/a+b", ["folder:/d/a+b"]),
        ("folder:/d/a+b+consep@classes=4", ["folder:/d/a+b", "consep@classes=4"]),
        ("consep@classes=/d/a+b.toml+monuseg", ["consep@classes=/d/a+b.toml", "monuseg"]),
        ("pannuke@name=consep+monuseg", ["pannuke@name=consep+monuseg"]),
        ("pannuke@name=consep+monuseg:/d/p+lizard:/d/l", ["pannuke@name=consep+monuseg:/d/p", "lizard:/d/l"]),
        ("pannuk+monuseg", ["pannuk", "monuseg"]),
        ("monuseg+pannuk", ["monuseg", "pannuk"]),
    ],
)
def test_a_plus_joins_sets_and_parts_no_folder(text, sets):
    assert set_names.split(text, dataset_names()) == sets


def test_classes_and_tissues_are_the_union_by_name(folders):
    source = dataset(joined(folders))
    assert source.classes == ("Tumour", "Inflammatory", "Stroma", "Dead") and source.tissues == ("Colon",)
    assert (source.name, source.mpp, source.splits()) == ("one+two", 0.25, [1])
    assert results_name(joined(folders), source) == "one+two"
    other = dataset(joined(folders[::-1]))
    assert other.classes == ("inflammatory", "Stroma", "Dead", "Tumour") and other.name == "two+one"


def test_samples_have_the_types_of_the_union(folders, tmp_path):
    data = prepared(joined(folders), tmp_path)
    for side in ("train", "val", "test"):
        subset = data.subset(1, side)
        assert len(subset) == 4 and len({*subset.image_ids}) == 4 and subset.image_ids[0] == f"one/{side}0"
        assert subset.sources[2].startswith("two/two-8")
        for i, (folder, name, row) in enumerate(
            [(folders[0], "one", 0), (folders[0], "one", 1), (folders[1], "two", 0), (folders[1], "two", 1)]
        ):
            nuclei = subset[i].nuclei
            own = np.load(folder / "types" / f"{side}{row}.npy")
            table = {"one": [0, 1, 2], "two": [0, 2, 3, 4]}[name]
            assert (nuclei.pixel_types() == np.array(table)[own]).all() and own.any()
            counts = np.bincount(nuclei.types, minlength=5)[1:]
            assert subset.counts[i].tolist() == counts.tolist() and subset.nuclei[i] == len(nuclei)
            assert nuclei.tissue == subset.tissues[i] == joint_sets.TISSUES[name]
    with pytest.raises(IndexError):
        data.subset(1, "train")[4]
    assert data.subset(1, "train")[-1].nuclei.image_id == "two/train1"


def test_a_set_says_nothing_of_classes_that_it_lacks(folders, tmp_path):
    data = prepared(joined(folders), tmp_path)
    training, test = data.subset(1, "train"), data.subset(1, "test")
    # background, Tumour, Inflammatory, Stroma, Dead
    assert training.named.tolist() == [[True, True, True, False, False], [True, False, True, True, True]]
    assert training.typed.all() and all(training[i].nuclei.typed for i in range(4)), "masked in the loss"
    assert not test.typed.any() and not any(test[i].nuclei.typed for i in range(4)), "no truth of some of the classes"
    says = "\n".join(data.remarks(1))
    assert "one+two: one has no Stroma, Dead" in says and "two has no Tumour" in says


def test_sets_of_the_same_classes_lack_nothing(tmp_path):
    text = f"{SYNTHETIC}+synthetic@patches=6,seed=2"
    data = prepared(text, tmp_path)
    assert data.classes == dataset(SYNTHETIC).classes and data.subset(1, "train").named is None
    assert data.subset(1, "test").typed.all() and data.remarks(1) == []
    assert len(data.subset(1, "train")) == 2 * len(prepared(SYNTHETIC, tmp_path).subset(1, "train"))


def test_images_of_a_set_without_types_are_untyped(folders, tmp_path):
    plain = joint_sets.folder(tmp_path / "plain", "two", slide=120, typed=False)
    toml = plain / "dataset.toml"
    toml.write_text(toml.read_text().replace('"two"', '"plain"'))
    data = prepared(f"folder:{folders[0]}+folder:{plain}", tmp_path)
    training = data.subset(1, "train")
    assert data.classes == joint_sets.CLASSES["one"] and training.typed.tolist() == [True, True, False, False]
    assert [training[i].nuclei.typed for i in range(4)] == [True, True, False, False]
    assert training.named is None and data.subset(1, "test").typed.tolist() == [True, True, False, False]
    assert "plain names no types" in "\n".join(data.remarks(1))
    none = prepared(f"folder:{plain}+folder:{_renamed(plain, tmp_path / 'more')}", tmp_path)
    assert none.classes == () and none.subset(1, "train").named is None


def _renamed(folder, place, name: str = "more", slide: int = 160):
    """A set like `folder` of other images and another name."""
    joint_sets.folder(place, "two", slide=slide, typed=(folder / "types").is_dir())
    toml = place / "dataset.toml"
    toml.write_text(toml.read_text().replace('name = "two"', f'name = "{name}"'))
    return place


def test_images_that_another_set_trains_on_are_left_out(folders, tmp_path):
    one, two = folders
    for side in ("val", "test"):  # mirrored, in the other set
        seen = np.array(Image.open(one / "images" / "train0.png"))[:, ::-1]
        Image.fromarray(seen).save(two / "images" / f"{side}1.png")
    data = prepared(joined(folders), tmp_path)
    for side in ("val", "test"):
        assert data.subset(1, side).image_ids == [f"one/{side}0", f"one/{side}1", f"two/{side}0"]
        assert len(data.images(1, side)) == 3
    assert len(data.subset(1, "train")) == 4
    says = "\n".join(data.remarks(1))
    assert "1 of 2 validation images of two are known" in says and "1 of 2 test images of two are known" in says


def test_nothing_left_to_test_on_is_refused(folders, tmp_path):
    one, two = folders
    for row in (0, 1):
        shutil.copy(one / "images" / f"train{row}.png", two / "images" / f"test{row}.png")
    data = prepared(joined(folders), tmp_path)
    with pytest.raises(InputError, match="all 2 test images of two are of source images that training on one has seen"):
        data.subset(1, "test")


def test_the_fingerprint_is_of_all_sets_their_order_and_nothing_else(folders, tmp_path):
    data = prepared(joined(folders), tmp_path)
    assert opened(dataset(joined(folders)), tmp_path / "cache", 1).fingerprint(1) == data.fingerprint(1)
    assert prepared(joined(folders[::-1]), tmp_path).fingerprint(1) != data.fingerprint(1)
    assert opened(dataset(joined(folders)), tmp_path / "empty", 1) is None
    moved = shutil.move(folders[1], tmp_path / "moved")
    assert prepared(joined((folders[0], moved)), tmp_path).fingerprint(1) == data.fingerprint(1)
    types = moved / "types" / "train0.npy"
    np.save(types, np.minimum(np.load(types), 1))
    assert prepared(joined((folders[0], moved)), tmp_path).fingerprint(1) != data.fingerprint(1)


def test_splits_are_those_of_all_sets_and_stand_in_the_joint_numbers(folders, tmp_path):
    assert dataset(SYNTHETIC).splits() == [1, 2, 3]
    source = dataset(f"{SYNTHETIC}+folder:{folders[0]}", None)
    assert source.splits() == [1] and source.folds() == [1, 2, 3, 4, 5, 6]
    with pytest.raises(InputError, match="FOLD"):
        prepare(source, tmp_path / "cache", 2, progress=False)
    data = prepare(source, tmp_path / "cache", 1, progress=False)
    split = data.split(1)
    for side in ("train", "val", "test"):
        parts = getattr(split, side)
        rows = sum(len(data.folds[p.fold]) if p.rows is None else len(p.rows) for p in parts)
        assert rows == len(data.subset(1, side))


def bad(folders, tmp_path):
    one, _ = folders
    apart = joint_sets.folder(tmp_path / "apart", "two", slide=160)
    toml = apart / "dataset.toml"
    toml.write_text(toml.read_text().replace('name = "two"', 'name = "apart"').replace('"inflammatory"', '"Immune"'))
    return {
        "nothing in common": (f"folder:{one}+folder:{apart}", "expected a class in common, one has Tumour"),
        "one twice": (f"folder:{one}+folder:{one}", "expected each data set once, found one and one"),
        "no name": ("+pannuke", "expected a data set on both sides of each"),
        "no name behind": ("pannuke+", "expected a data set on both sides of each"),
        "no folder": (f"folder:+folder:{one}", "names no data set"),
        "misspelt": (f"consepp+folder:{one}", "Did you mean 'consep'"),
        "misspelt behind": (f"folder:{one}+consepp", "each of them one of conic, consep"),
        "scheme": (f"{SYNTHETIC}+synthetic@patches=6,seed=2,classes=none", "expected one of"),
    }


@pytest.mark.parametrize(
    "name",
    [
        "nothing in common",
        "one twice",
        "no name",
        "no name behind",
        "no folder",
        "misspelt",
        "misspelt behind",
        "scheme",
    ],
)
def test_what_cannot_be_joined_is_one_sentence(name, folders, tmp_path):
    text, says = bad(folders, tmp_path)[name]
    with pytest.raises(InputError, match=says.replace("(", r"\(")):
        dataset(text)


def test_a_bridge_joins_sets_that_share_nothing_themselves(folders, tmp_path):
    """a–b–c: some image compares each class with one of the next set's."""
    third = joint_sets.folder(tmp_path / "third", "two", slide=200)
    toml = third / "dataset.toml"
    text = toml.read_text().replace('name = "two"', 'name = "third"').replace('"inflammatory"', '"Immune"')
    toml.write_text(text)
    source = dataset(joined((folders[0], third, folders[1])))
    assert source.classes == ("Tumour", "Inflammatory", "Immune", "Stroma", "Dead")


def test_what_is_said_of_one_data_set_by_name_is_not_said_of_several():
    assert data_set("pannuke@classes=x") == "pannuke" and data_set("pannuke@classes=x+monuseg") == ""
    assert is_drawn("synthetic@patches=6") and is_drawn("synthetic+synthetic@seed=2")
    assert not is_drawn("synthetic+mine") and not is_drawn("mine")
