"""CoNSeP: read as published, split as published, run end to end; what is no CoNSeP is refused."""

import json
import shutil

import numpy as np
import pytest
import scipy.io
from PIL import Image

from benchmark.cli import main
from benchmark.data.registry import dataset
from benchmark.data.sources.consep import CLASSES, CoNSeP
from benchmark.data.store.prepare import prepare
from benchmark.runtime.errors import InputError
from tests.support import field_files


def ready(root, cache, **kwargs):
    return prepare(CoNSeP(root), cache, progress=False, **kwargs)


@pytest.mark.parametrize("place", ["", "CoNSeP/data"])
def test_reads_every_nucleus_of_every_field(tmp_path, place):
    field_files.consep(tmp_path / "d" / place, train=11)
    data = ready(tmp_path / "d", tmp_path / "c")
    assert data.classes == CLASSES and data.mpp == 0.25 and data.splits() == [1]
    train, test = data.folds[1], data.folds[2]
    assert train.meta["image_ids"] == [f"train_{i}" for i in range(1, 12)] == train.meta["sources"]
    assert test.meta["image_ids"] == ["test_1", "test_2", "test_3"]
    for i in range(3):
        image, instances, types = field_files.field(101 + i)
        sample = test[i]
        assert np.array_equal(sample.image, image) and np.array_equal(sample.nuclei.instances, instances)
        assert sample.nuclei.types.tolist() == ((types + i + 1) % 7 + 1).tolist()
        assert (sample.nuclei.tissue, sample.nuclei.typed, sample.nuclei.type_map) == ("Colon", True, None)


def test_training_sees_patches_and_the_test_whole_fields(tmp_path):
    root = field_files.consep(tmp_path / "d", train=10)
    data = prepare(dataset("consep@patch=64", root), tmp_path / "c", split=1, progress=False)
    train, val, test = (data.subset(1, side) for side in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (8 * 4, 2 * 4, 3), "96 x 80 px are 2 x 2 patches"
    assert test[0].image.shape == (96, 80, 3) and not set(train.sources) & set(val.sources)
    whole = data.folds[1][0]
    for i in range(4):
        top, left = 32 * (i // 2), 16 * (i % 2)
        window = np.s_[top : top + 64, left : left + 64]
        patch = train[i] if train.sources[0] == "train_1" else val[i]
        assert np.array_equal(patch.image, whole.image[window])
        assert np.array_equal(patch.nuclei.instances > 0, whole.nuclei.instances[window] > 0)
        assert patch.nuclei.image_id == f"train_1-{top}-{left}"
    seen = [train[i].nuclei for i in range(len(train))]
    assert train.nuclei.tolist() == [len(n) for n in seen] and train.image_ids == [n.image_id for n in seen]
    assert train.counts.tolist() == [np.bincount(n.types, minlength=8)[1:].tolist() for n in seen]
    other = prepare(dataset("consep", root), tmp_path / "c", split=1, progress=False)
    assert other.fingerprint(1) != data.fingerprint(1), "other patches are other training data"


def test_a_part_of_another_size_is_named(tmp_path, capsys):
    prepare(CoNSeP(field_files.consep(tmp_path / "d")), tmp_path / "c")
    messages = capsys.readouterr().err
    assert "its train part has 5 images, the published one has 27" in messages
    assert "validation is on the training images of train_" in messages


def test_prepare_train_and_evaluate_end_to_end(tmp_path, capsys):
    root = field_files.consep(tmp_path / "d")
    places = ["--results", str(tmp_path / "r"), "--cache", str(tmp_path / "c")]
    data = ["--dataset", "consep", "--data-root", str(root)]
    assert main(["prepare", *data, *places[2:]]) == 0
    assert "consep: folds 1 (5 images), 2 (3 images); 7 types" in capsys.readouterr().out
    run = ["run", "--method", "hovernet", "--preset", "debug", "--device", "cpu", "recipe.epochs=1"]
    assert main([*run, *data, *places]) == 0, capsys.readouterr().err
    (metrics,) = (tmp_path / "r").rglob("metrics.json")
    found = json.loads(metrics.read_text())
    assert found["n_images"] == 3 and 0 <= found["protocols"]["cellvit"]["bPQ"] <= 1
    (weights,) = (tmp_path / "r").rglob("*.safetensors")
    again = ["evaluate", "--weights", str(weights), "--out", str(tmp_path / "e"), *places[2:], "--device", "cpu"]
    assert main([*again, *data]) == 0, capsys.readouterr().err
    (evaluated,) = (tmp_path / "e").rglob("metrics.json")
    assert json.loads(evaluated.read_text())["protocols"]["cellvit"] == found["protocols"]["cellvit"]


def resized(root):
    path = root / "Test" / "Labels" / "test_2.mat"
    scipy.io.savemat(path, {"inst_map": np.zeros((90, 80)), "type_map": np.zeros((90, 80))})


def typeless(root):
    scipy.io.savemat(root / "Train" / "Labels" / "train_2.mat", {"inst_map": np.zeros((96, 80))})


def typed_beyond(root):
    path = root / "Train" / "Labels" / "train_2.mat"
    content = {k: v for k, v in scipy.io.loadmat(path).items() if not k.startswith("__")}
    scipy.io.savemat(path, content | {"type_map": content["type_map"] + 7 * (content["inst_map"] > 0)})


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda r: (r / "Train/Labels/train_3.mat").unlink(),
            r"one for each of 5 images, found 4, and 'train_3' has none",
        ),
        (lambda r: (r / "Test/Images/test_1.png").unlink(), r"found 3, and 'test_1' has no image"),
        (lambda r: shutil.rmtree(r / "Test/Labels"), r"CoNSeP: its test part is missing below"),
        (lambda r: shutil.rmtree(r), r"does not exist"),
        (lambda r: [shutil.rmtree(r / side) for side in ("Train", "Test")], r"expected Train/Images/train_1\.png"),
        (resized, r"test_2\.mat: expected a map of the image's shape \(96, 80\), found \(90, 80\)"),
        (typeless, r"train_2\.mat: expected type_map or inst_type beside inst_map, found neither"),
        (typed_beyond, r"train_2\.mat.*expected types 0\.\.7|train_2\.mat: its type_map and its inst_type"),
        (lambda r: truncated(r / "Train/Labels/train_2.mat"), r"train_2\.mat cannot be read"),
        (lambda r: truncated(r / "Train/Images/train_2.png"), r"train_2\.png cannot be read"),
        (lambda r: Image.new("L", (80, 96)).save(r / "Train/Images/train_2.png"), r"train_2\.png: expected RGB"),
        (lambda r: shutil.copytree(r / "Test", r / "copy" / "Test"), r"hold the same part of CoNSeP; keep one"),
    ],
)
def test_refuses(tmp_path, capsys, damage, message):
    root = field_files.consep(tmp_path / "d")
    damage(root)
    with pytest.raises(InputError, match=message) as caught:
        ready(root, tmp_path / "c", split=1)
    assert ". " not in str(caught.value) and str(caught.value).endswith(".")
    words = ["run", "--method", "classical", "--dataset", "consep", "--data-root", str(root), "--preset", "debug"]
    assert main([*words, "--results", str(tmp_path / "r"), "--cache", str(tmp_path / "c")]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("error: ")
    assert not list((tmp_path / "r").rglob("metrics.json"))


def test_an_archive_and_another_split_are_refused(tmp_path):
    root = field_files.consep(tmp_path / "d")
    shutil.make_archive(str(tmp_path / "consep"), "zip", root)
    with pytest.raises(InputError, match="found a file; extract it and name its folder"):
        ready(tmp_path / "consep.zip", tmp_path / "c")
    with pytest.raises(InputError, match="one split, its training and test images, found FOLD=2; use FOLD=1"):
        ready(root, tmp_path / "c", split=2)
    for patch in ("30", "0", "8208", "1.5", "x"):
        with pytest.raises(InputError, match=rf"consep@patch={patch}: expected a multiple of 16"):
            dataset(f"consep@patch={patch}", root)
