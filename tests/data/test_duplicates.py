"""One image under two names: as it is, turned and mirrored, within a data set and between two; named at prepare."""

import numpy as np
import pytest
from PIL import Image

from benchmark.cli import main
from benchmark.data.nuclei import Nuclei, Sample
from benchmark.data.sources.consep import CoNSeP
from benchmark.data.store import duplicates
from benchmark.data.store.prepare import prepare
from tests.support import field_files
from tests.support.tiny_data import Drawn


class Images(Drawn):
    """The given images."""

    def __init__(self, images, name="given"):
        super().__init__(len(images))
        self.images, self.name = images, name

    varies = True

    def samples(self, fold, start=0):
        for i in range(start, self.n):
            labels = np.zeros(self.images[i].shape[:2], int)
            yield Sample(self.images[i], Nuclei.from_labels(labels, None, 0.5, image_id=f"{self.name}{i}"))


def picture(seed, height=20, width=30):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def fold_of(images, folder, name="given"):
    return prepare(Images(images, name), folder, progress=False).folds[1]


ORIENTATIONS = [(k, mirrored) for mirrored in (False, True) for k in range(4)]


@pytest.mark.parametrize(("k", "mirrored"), ORIENTATIONS)
def test_all_eight_orientations_between_two_sets(tmp_path, k, mirrored):
    turned = np.rot90(picture(1)[:, ::-1] if mirrored else picture(1), k)
    one = fold_of([picture(0), picture(1)], tmp_path / "a", "a")
    other = fold_of([picture(2), np.ascontiguousarray(turned), picture(3)], tmp_path / "b", "b")
    (twins,) = duplicates.between([(one, 0), (one, 1)], [(other, i) for i in range(3)])
    assert twins.names == ("a1", "b1") and twins.turned == ((k, mirrored) != (0, False))


def test_other_images_are_no_duplicates(tmp_path):
    changed = picture(1)
    changed[0, 0, 0] ^= 1
    blank = np.full((20, 30, 3), 255, np.uint8)
    one = fold_of([picture(1), blank], tmp_path / "a")
    # the bytes of the third are the same, its shape is not
    other = fold_of([changed, blank, picture(1).reshape(30, 20, 3)], tmp_path / "b")
    assert not duplicates.between([(one, 0), (one, 1)], [(other, i) for i in range(3)])


def test_hashes_are_kept_beside_the_fold_and_made_again_where_they_are_damaged(tmp_path, monkeypatch):
    fold = fold_of([picture(0), picture(1)], tmp_path / "a")
    first = duplicates.digests(fold)
    path = fold.folder / duplicates.FILE
    written = path.read_bytes()
    flipped = [written[:i] + bytes([written[i] ^ 8]) + written[i + 1 :] for i in (1, 64, len(written) - 40)]
    for damaged in (b"no array", written[:-1], *flipped):  # byte 64 lies in the header, which numpy then cannot parse
        path.write_bytes(damaged)
        again = duplicates.digests(type(fold)(fold.folder))
        assert np.array_equal(first, again) and path.read_bytes() == written
    monkeypatch.setattr(duplicates, "_of", lambda image: pytest.fail("they were there"))
    assert np.array_equal(duplicates.digests(type(fold)(fold.folder)), first)
    assert type(fold)(fold.folder).damaged() is None, "they are no part of the data"


def copied(root, how):
    """The first training image of CoNSeP is the second test image."""
    image = np.asarray(Image.open(root / "Train/Images/train_1.png"))
    Image.fromarray(how(image)).save(root / "Test/Images/test_2.png")
    if how(image).shape != image.shape:
        field_files.consep_image(root / "Test", "test_2", how(image), np.zeros(how(image).shape[:2], int), np.zeros(0))
    return root


@pytest.mark.parametrize(("how", "words"), [(lambda i: i, ""), (lambda i: np.rot90(i), "turned or mirrored, ")])
def test_prepare_names_them(tmp_path, capsys, how, words):
    root = copied(field_files.consep(tmp_path / "d"), how)
    assert main(["prepare", "--dataset", "consep", "--data-root", str(root), "--cache", str(tmp_path / "c")]) == 0
    side = "val" if "images of train_1." in (told := capsys.readouterr().err) else "train"
    assert (
        "consep: WARNING: images stand on two sides of a split, under two names: 'test_2' is 'train_1' "
        f"({words}split 1: {side}, test)." in told
    )


def test_nothing_is_said_without_duplicates_or_of_those_on_one_side(tmp_path, capsys):
    root = field_files.consep(tmp_path / "d")
    for name in ("test_2", "test_3"):
        (root / f"Test/Images/{name}.png").write_bytes((root / "Test/Images/test_1.png").read_bytes())
    prepare(CoNSeP(root), tmp_path / "c", split=1)
    assert "two sides" not in capsys.readouterr().err
