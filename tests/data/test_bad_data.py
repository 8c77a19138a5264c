"""Every kind of bad PanNuke data is refused with one sentence, and leaves nothing that counts as prepared."""

import shutil

import numpy as np
import pytest

from benchmark.data.files import checks
from benchmark.data.sources.pannuke import PanNuke
from benchmark.data.store.prepare import prepare
from benchmark.runtime.errors import InputError
from tests.support import tiny_data


def file(root, name, fold=1):
    return next((root / f"Fold {fold}").rglob(name))


def cut(root, name, keep=0.5):
    path = file(root, name)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])


def change(root, name, edit):
    path = file(root, name)
    np.save(path, edit(np.load(path)), allow_pickle=True)


def put(array, place, value, dtype=np.float64):
    array = array.astype(dtype)
    array[place] = value
    return array


def zipped(root, edit):
    path = tiny_data.zip_fold(root, 1)
    path.write_bytes(edit(path.read_bytes()))


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes(255 - b for b in data[middle : middle + 64]) + data[middle + 64 :]


CASES = {
    "missing fold": (
        lambda r: shutil.rmtree(r / "Fold 3"),
        r"Fold 3 of PanNuke is missing.*found folds: 1, 2",
    ),
    "missing file": (lambda r: file(r, "masks.npy").unlink(), r"Fold 1 is incomplete.*no masks\.npy"),
    "empty folder": (lambda r: [shutil.rmtree(r / f"Fold {k}") for k in (1, 2, 3)], "found folds: none"),
    "no root": (shutil.rmtree, "does not exist"),
    "truncated images": (lambda r: cut(r, "images.npy"), r"images\.npy is truncated.*promises"),
    "truncated masks": (lambda r: cut(r, "masks.npy", 0.99), r"masks\.npy is truncated"),
    "truncated header": (lambda r: cut(r, "images.npy", 0.001), r"images\.npy is not a readable \.npy"),
    "too long": (lambda r: file(r, "images.npy").open("ab").write(b"more"), "longer than its header"),
    "not npy": (lambda r: file(r, "types.npy").write_text("Colon\n" * 90), r"types\.npy is not a readable"),
    "empty file": (lambda r: file(r, "types.npy").write_text(""), r"types\.npy is not a readable"),
    "truncated zip": (
        lambda r: zipped(r, lambda b: b[: len(b) // 2]),
        r"fold_1\.zip cannot be read.*truncated",
    ),
    "not a zip": (lambda r: zipped(r, lambda b: b"<html>404</html>"), r"fold_1\.zip cannot be read"),
    "corrupt zip": (lambda r: zipped(r, flip), r"fold_1\.zip: .*cannot be read"),
    "masks of another shape": (
        lambda r: change(r, "masks.npy", lambda m: m[:, :16]),
        r"expected masks of shape \(5, 32, 32, 6\).*found \(5, 16, 32, 6\)",
    ),
    "five channels": (lambda r: change(r, "masks.npy", lambda m: m[..., :5]), r"found \(5, 32, 32, 5\)"),
    "masks of another count": (lambda r: change(r, "masks.npy", lambda m: m[1:]), r"found \(4, 32, 32, 6\)"),
    "types of another length": (
        lambda r: change(r, "types.npy", lambda t: t[:4]),
        r"expected a tissue name for each of 5 images, found <U13 of shape \(4,\)",
    ),
    "types as numbers": (lambda r: change(r, "types.npy", lambda t: np.arange(5)), "found int64"),
    "types pickled": (lambda r: change(r, "types.npy", lambda t: t.astype(object)), "never executed"),
    "images in 0..1": (
        lambda r: change(r, "images.npy", lambda x: x / 255.0),
        r"image 0: expected values in 0\.\.255, found a float image in 0\S*\.\.1",
    ),
    "images beyond 255": (
        lambda r: change(r, "images.npy", lambda x: x.astype(np.uint16) * 257),
        r"found \d+\.\.65535",
    ),
    "NaN in images": (
        lambda r: change(r, "images.npy", lambda x: put(x, (3, 5, 5, 1), np.nan)),
        "image 3.*NaN",
    ),
    "infinite image": (
        lambda r: change(r, "images.npy", lambda x: put(x, (0, 5, 5, 1), np.inf)),
        "NaN or inf",
    ),
    "grey images": (
        lambda r: change(r, "images.npy", lambda x: x[..., :1]),
        r"expected RGB.*\(5, 32, 32, 1\)",
    ),
    "no images": (lambda r: change(r, "images.npy", lambda x: x[:0]), r"expected RGB.*\(0, 32, 32, 3\)"),
    "Fortran order": (lambda r: change(r, "images.npy", np.asfortranarray), "Fortran order"),
    "NaN in masks": (
        lambda r: change(r, "masks.npy", lambda m: put(m, (2, 0, 0, 4), np.nan)),
        "image 2.*NaN",
    ),
    "negative id": (
        lambda r: change(r, "masks.npy", lambda m: put(m, (4, 0, 0, 0), -3, np.int32)),
        r"masks\.npy, image 4: .*negative id -3",
    ),
    "fractional id": (
        lambda r: change(r, "masks.npy", lambda m: put(m, (1, 0, 0, 0), 7.5)),
        "image 1.*found 7.5",
    ),
    "huge id": (lambda r: change(r, "masks.npy", lambda m: put(m, (1, 0, 0, 0), 1e18)), r"below 2\^53"),
    "mislabelled folder": (
        lambda r: (r / "Fold 1" / "images" / "fold1").rename(r / "Fold 1" / "images" / "fold2"),
        r"is mislabelled.*\[1, 2\]",
    ),
    "mislabelled zip": (
        lambda r: tiny_data.zip_fold(r, 1).rename(r / "fold_2.zip"),
        r"fold_2\.zip: Fold 1/\S+ is mislabelled",
    ),
    "a fold twice": (lambda r: shutil.copytree(r / "Fold 1", r / "fold_1"), "Fold 1 lies twice"),
    "short provenance": (
        lambda r: tiny_data.provenance(r / "provenance_fold1.csv", [("a", "none")] * 4),
        r"provenance_fold1\.csv: expected a row for each of 5 images, found 4",
    ),
    "provenance without its column": (
        lambda r: tiny_data.table(r / "provenance_fold1.csv", ["index"], [[i] for i in range(5)]),
        "expected the column types_real",
    ),
    "provenance counted from 1": (
        lambda r: tiny_data.table(
            r / "provenance_fold1.csv", ["index", "types_real"], [(i, "none") for i in range(1, 6)]
        ),
        r"0\.\.4 once",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_with_one_sentence(tmp_path, case):
    root, cache = tiny_data.pannuke(tmp_path / "data"), tmp_path / "cache"
    damage, message = CASES[case]
    damage(root)
    with pytest.raises(InputError, match=message) as caught:
        prepare(PanNuke(root), cache, split=1, progress=False)
    sentence = str(caught.value)
    assert "\n" not in sentence and sentence.endswith(".") and ". " not in sentence
    whole = [folder.name for folder in cache.glob("*/")] if cache.exists() else []
    assert not any(name.startswith("pannuke-fold1") for name in whole)


def test_fractions_are_rounded_and_the_last_class_is_one():
    image = np.array([[[0.4, 0.6, 254.5]]], np.float32)
    assert checks.rgb(image, "here").tolist() == [[[0, 1, 254]]]
    assert checks.types(np.array([[0, 2]]), ("a", "b"), "here").tolist() == [[0, 2]]
    with pytest.raises(InputError, match=r"expected types 0\.\.2 \(a, b\), found 3"):
        checks.types(np.array([[3]]), ("a", "b"), "here")


def test_unknown_split_and_no_root(tmp_path):
    with pytest.raises(InputError, match="splits 1, 2 and 3, found FOLD=4"):
        prepare(PanNuke(tiny_data.pannuke(tmp_path, n=2)), tmp_path / "c", split=4, progress=False)
    with pytest.raises(InputError, match="DATA_ROOT"):
        PanNuke().folds()
