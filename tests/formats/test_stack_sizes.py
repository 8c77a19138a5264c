"""Stacks of images that differ in size: `sizes` says how large each is, and maps are cropped to it."""

import numpy as np
import pytest

from benchmark.data.nuclei import Nuclei
from benchmark.formats.collection import collection
from benchmark.formats.type_names import TypeNames
from benchmark.results import predictions
from benchmark.runtime.errors import InputError

SHAPES = ((24, 32), (40, 16), (8, 40))


def drawn(mixed: bool) -> list[Nuclei]:
    """An image of each shape; mixed: with nuclei of several types."""
    rng, out = np.random.default_rng(0), []
    for shape in SHAPES:
        labels = np.kron(rng.integers(0, 9, (shape[0] // 4, shape[1] // 4)), np.ones((4, 4), int))
        types = rng.integers(1, 4, shape) if mixed else np.array([0, 1, 2, 3, 1, 2, 3, 1, 2])[labels]
        out.append(Nuclei.from_labels(labels, types * (labels > 0), 0.25))
    return out


@pytest.mark.parametrize("mixed", (False, True))
def test_predictions_of_a_run_are_read_as_large_as_they_were(tmp_path, mixed):
    """They were read as large as the largest image, which fitted no truth."""
    written = drawn(mixed)
    predictions.write(tmp_path / "p.npz", [predictions.Packed.of(nuclei) for nuclei in written])
    with np.load(tmp_path / "p.npz") as stored:
        assert ("type_maps" in stored) == mixed and stored["sizes"].tolist() == [list(shape) for shape in SHAPES]
    images = collection(tmp_path / "p.npz", TypeNames()).images
    assert [image.shape() for image in images] == list(SHAPES)
    for image, nuclei in zip(images, written):
        labelled = image.read(None)
        assert np.array_equal(labelled.instances, nuclei.instances)
        types = labelled.types if mixed else np.concatenate([[0], labelled.types])[nuclei.instances]
        assert np.array_equal(types, nuclei.pixel_types())


def test_type_maps_and_pairs_are_cropped_too(tmp_path):
    labels, types = np.zeros((2, 2, 20, 24), int)
    labels[:, 2:8, 2:8], types[:, 2:8, 2:8] = 1, 3
    sizes = np.array([[20, 24], [10, 12]])
    np.savez(tmp_path / "maps.npz", instances=labels, types=types, sizes=sizes)
    np.savez(tmp_path / "pairs.npz", instances=np.stack([labels, types], -1), sizes=sizes)
    for name in ("maps.npz", "pairs.npz"):
        second = collection(tmp_path / name, TypeNames()).images[1].read(None)
        assert np.array_equal(second.instances, labels[1, :10, :12])
        assert np.array_equal(second.types, types[1, :10, :12])


@pytest.mark.parametrize(
    ("sizes", "reason"),
    (
        ([[20, 24]], r"int64 \(1, 2\)"),
        ([20, 24], r"int64 \(2,\)"),
        ([[20.0, 24.0], [20.0, 24.0]], r"float64 \(2, 2\)"),
        ([[20, 24], [0, 24]], "0 to 24"),
        ([[20, 24], [24, 20]], "20 to 24"),
        ([[20, 24], [-1, 20]], "-1 to 24"),
    ),
)
def test_sizes_that_do_not_fit_are_refused(tmp_path, sizes, reason):
    np.savez(tmp_path / "a.npz", instances=np.zeros((2, 20, 24), int), sizes=np.array(sizes))
    printed = rf"a\.npz: expected sizes as height and width of each of 2 images, 1 to 20 and 1 to 24, found {reason}; "
    with pytest.raises(InputError, match=printed):
        collection(tmp_path / "a.npz", TypeNames())


@pytest.mark.parametrize("what", ("nuclei", "types"))
def test_what_lies_beyond_an_image_is_refused(tmp_path, what):
    labels = np.zeros((2, 20, 24), int)
    labels[:, 2:8, 2:8] = 1
    other = labels.copy()
    other[1, 2:8, 14:20] = 1
    maps = {"instances": other, "types": labels} if what == "nuclei" else {"instances": labels, "types": other}
    np.savez(tmp_path / "a.npz", **maps, sizes=np.array([[20, 24], [20, 12]]))
    images = collection(tmp_path / "a.npz", TypeNames()).images
    images[0].read(None)
    with pytest.raises(InputError, match=rf"a\.npz image 1: expected no {what} beyond its 20 x 12 pixels"):
        images[1].read(None)
