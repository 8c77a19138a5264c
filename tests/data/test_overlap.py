"""What a training has seen of a test set: by patients, sources, the sets that images were taken from, and pixels."""

import numpy as np
import pytest

from benchmark.data.nuclei import Nuclei, Sample
from benchmark.data.overlap import between, of_origin
from benchmark.data.registry import dataset
from benchmark.data.source import Part, Split
from benchmark.data.sources.conic import taken_from
from benchmark.data.store import duplicates
from benchmark.data.store.prepare import prepare
from benchmark.runtime.errors import InputError
from tests.support import tiny_data
from tests.support.annotated_files import lizard
from tests.support.field_files import consep
from tests.support.tiny_data import Drawn


class Named(Drawn):
    """Images of one's own with these sources: train on the first fold, validate on the second, test on the third.

    Args:
        images: of each fold; None: drawn, all different.
    """

    varies = True

    def __init__(self, name, *sources, images=None, ids=None):
        super().__init__(1)
        self.name, self.sources, self.images, self.ids = name, dict(enumerate(sources, 1)), images or {}, ids

    def folds(self):
        return [1, 2, 3]

    def split(self, k, sources):
        return Split([Part(1)], [Part(2)], [Part(3)])

    def identity(self, fold):
        return {"name": self.name, "fold": fold}

    def count(self, fold):
        return len(self.sources[fold])

    def samples(self, fold, start=0):
        for i, source in list(enumerate(self.sources[fold]))[start:]:
            image = self.images.get((fold, i), picture([*self.name.encode(), fold, i]))
            name = source if self.ids == "sources" else f"{fold}_{i}"
            nuclei = Nuclei.from_labels(np.zeros(image.shape[:2], int), None, 0.5, image_id=name, source=source)
            yield Sample(image, nuclei)


def picture(seed, height=20, width=30):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def prepared(folder, source):
    return prepare(source, folder, progress=False)


def of(folder, name, *sources, **kind):
    return prepared(folder, Named(name, *sources, **kind))


def test_a_patient_of_tcga_is_one_in_any_two_sets(tmp_path):
    train = of(tmp_path, "a", ["TCGA-AA-0001-01Z-00-DX1"], ["TCGA-AA-0002"], ["p"])
    test = of(
        tmp_path, "b", ["x"], ["y"], ["TCGA-AA-0001-01Z-00-DX9", "tcga-aa-0002-01", "TCGA-AA-0003", "TCGA-AA-000"]
    )
    overlap = between(train, 1, test, 1)
    assert (overlap.left_out, overlap.images, overlap.by_name, overlap.by_pixels) == ((0, 1), 4, 2, 0)
    assert not overlap.unknown and "2 of 4 test images are known to the training and left out (2 by name" in (
        overlap.sentence
    )


def test_sources_of_two_sets_of_ones_own_are_compared_where_they_are_more_than_the_images_names(tmp_path):
    train = of(tmp_path, "a", ["Patient 1"], ["patient 2"], ["p"])
    overlap = between(train, 1, of(tmp_path, "b", ["x"], ["y"], ["patient 1", "patient 3"]), 1)
    assert overlap.left_out == (0,) and not overlap.unknown
    by_image = of(tmp_path, "c", ["x"], ["y"], ["patient 1", "patient 3"], ids="sources")
    overlap = between(train, 1, by_image, 1)
    assert overlap.left_out == () and overlap.unknown == "c names images, not their patients or slides"


def test_a_set_without_sources_is_of_unknown_overlap_and_pixels_are_all_that_is_compared(tmp_path):
    train = of(tmp_path, "a", ["p1"], ["p2"], ["p3"], images={(2, 0): picture(7)})
    twin = np.ascontiguousarray(np.rot90(picture(7)))
    test = of(tmp_path, "b", ["x"], ["y"], ["", ""], images={(3, 1): twin})
    overlap = between(train, 1, test, 1)
    assert (overlap.left_out, overlap.by_name, overlap.by_pixels) == ((1,), 0, 1)
    assert overlap.unknown == "b names neither patients nor source images" and "Overlap unknown" in overlap.sentence


@pytest.mark.parametrize("halved", ["train", "test"])
@pytest.mark.parametrize("turn", [0, 3])
def test_an_image_is_known_at_half_its_size_too(tmp_path, halved, turn):
    small = np.ascontiguousarray(np.rot90(duplicates.half(picture(7)), turn))
    assert small.shape in ((10, 15, 3), (15, 10, 3))
    images = (small, picture(7)) if halved == "train" else (picture(7), small)
    train = of(tmp_path, "a", ["p1"], ["p2"], ["p3"], images={(1, 0): images[0]})
    test = of(tmp_path, "b", ["x"], ["y"], ["q1", "q2"], images={(3, 0): images[1]})
    overlap = between(train, 1, test, 1)
    assert (overlap.left_out, overlap.by_pixels) == ((0,), 1)


def test_half_of_an_image_is_the_rounded_mean_of_its_squares():
    image = np.array([[[0], [1], [9]], [[2], [3], [9]], [[9], [9], [9]]], np.uint8).repeat(3, 2)
    assert duplicates.half(image).tolist() == [[[2, 2, 2]]]  # (0 + 1 + 2 + 3) / 4 = 1.5


def test_conic_is_cut_from_lizard_and_named_after_its_images(tmp_path):
    """Lizard's first part is tested in split 1: consep_1 and glas_4; training knows the others."""
    train = prepared(tmp_path, dataset("lizard", lizard(tmp_path / "lizard")))
    names = [f"{image}-{i:04d}" for image in ("consep_1", "glas_4", "crag_2", "tcga_6") for i in range(3)]
    conic = prepared(tmp_path, dataset("conic", tiny_data.conic(tmp_path / "conic", names=names)))
    tested = [conic.subset(1, "test").sources[i] for i in range(len(conic.subset(1, "test")))]
    if set(tested) <= {"crag_2", "tcga_6"}:
        with pytest.raises(InputError, match="nothing is left to test on"):
            between(train, 1, conic, 1)
    else:
        overlap = between(train, 1, conic, 1)
        assert [i for i, name in enumerate(tested) if name in ("crag_2", "tcga_6")] == list(overlap.left_out)
    overlap = between(conic, 1, train, 1)
    known = {s for side in ("train", "val") for s in conic.subset(1, side).sources}
    assert overlap.left_out == tuple(i for i, name in enumerate(("consep_1", "glas_4")) if name in known)
    assert overlap.unknown == ""


def test_images_that_were_taken_from_the_training_set_are_left_out(tmp_path):
    """Lizard's consep_1 is of CoNSeP, under another name than there."""
    train = prepared(tmp_path, dataset("consep", consep(tmp_path / "consep")))
    test = prepared(tmp_path, dataset("lizard", lizard(tmp_path / "lizard")))
    overlap = between(train, 1, test, 1)
    assert (overlap.images, overlap.left_out, overlap.by_name) == (2, (0,), 1)
    assert between(train, 1, test, 3).left_out == ()
    mapped = prepared(tmp_path, dataset("consep@classes=4", tmp_path / "consep"))
    assert between(mapped, 1, test, 1).left_out == (0,)


def test_weights_of_a_published_file_leave_out_what_was_taken_from_their_set(tmp_path):
    test = prepared(tmp_path, dataset("lizard", lizard(tmp_path / "lizard")))
    overlap = of_origin("pannuke", test, 2)
    assert (overlap.images, overlap.left_out) == (2, (1,)) and "pannuke are not at hand" in overlap.sentence


def test_an_overlap_that_cannot_be_removed_is_refused(tmp_path):
    """Training images of Lizard were taken from CoNSeP, and nothing says which these are."""
    train = prepared(tmp_path, dataset("lizard", lizard(tmp_path / "lizard")))
    test = prepared(tmp_path, dataset("consep", consep(tmp_path / "consep")))
    with pytest.raises(InputError, match=r"1 training images of lizard were taken from consep .* cannot be removed"):
        between(train, 2, test, 1)
    overlap = between(train, 1, test, 1)  # its split 1 tests on consep_1
    assert overlap.left_out == ()
    pannuke = prepared(tmp_path, dataset("pannuke", tiny_data.pannuke(tmp_path / "pannuke")))
    with pytest.raises(InputError, match=r"were taken from pannuke under other names"):
        between(train, 1, pannuke, 1)


def test_nothing_left_to_test_on_is_refused(tmp_path):
    train = of(tmp_path, "a", ["p1"], ["p2"], ["p3"])
    with pytest.raises(InputError, match=r"all 1 test images of b are of source images that training on a has seen"):
        between(train, 1, of(tmp_path, "b", ["x"], ["y"], ["p2"]), 1)


def test_slides_of_one_name_are_drawn_anew_by_another_seed(tmp_path):
    sets = {seed: prepared(tmp_path, dataset(f"synthetic@patches=6,size=64,seed={seed}")) for seed in (0, 1)}
    assert between(sets[0], 1, sets[1], 3).left_out == ()
    with pytest.raises(InputError, match="nothing is left to test on"):
        between(sets[0], 1, sets[0], 3)  # split 3 tests on the fold that split 1 trains on


def test_where_images_of_lizard_come_from():
    names = ("consep_1", "CoNSeP", "pannuke_12", "tcga_3", "glas_1", "consepx_1", "dpath_2")
    assert [taken_from(name) for name in names] == ["consep", "consep", "pannuke", "tcga", "", "", ""]


def test_images_without_some_keep_their_order(tmp_path):
    data = of(tmp_path, "a", ["p1"], ["p2"], ["q0", "q1", "q2", "q3"])
    rest = data.subset(1, "test").without((0, 2))
    assert rest.sources == ["q1", "q3"] and [rest[i].nuclei.source for i in range(2)] == ["q1", "q3"]
    assert rest.counts.shape == (2, 2) and len(data.subset(1, "test").without(())) == 4
