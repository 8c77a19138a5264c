"""Stored predictions: what is read is what was written; files that are not what they should be are named."""

import numpy as np
import pytest

from benchmark.data.nuclei import Nuclei
from benchmark.results import predictions
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.errors import InputError


@pytest.fixture
def truths():
    """Three images, the second without nuclei."""
    rng = np.random.default_rng(0)
    labels = [rng.integers(0, n + 1, (24, 32)) for n in (7, 0, 300)]
    return [Nuclei.from_labels(one, rng.integers(1, 4, len(np.unique(one[one > 0]))), 0.25) for one in labels]


@pytest.fixture
def folder(tmp_path, truths):
    predictions.write(RunFolder(tmp_path).predictions, [predictions.Packed.of(nuclei) for nuclei in truths])
    return tmp_path


@pytest.mark.parametrize("rows", [[0, 1, 2], [2, 0], [1], []])
def test_what_was_written_is_read(folder, truths, rows):
    loaded = predictions.load(RunFolder(folder).predictions, rows, 0.25)
    assert len(loaded) == len(rows)
    for row, nuclei in zip(rows, loaded):
        assert nuclei.instances.dtype == np.int32 and nuclei.mpp == 0.25
        assert np.array_equal(nuclei.instances, truths[row].instances)
        assert np.array_equal(nuclei.types, truths[row].types)


def test_types_by_pixel_are_kept_where_a_nucleus_is_of_mixed_type(tmp_path):
    labels = np.zeros((8, 12), np.int32)
    labels[1:5, 1:5], labels[2:7, 7:11] = 1, 2
    types = np.where(labels == 1, 1, np.where(labels == 2, 2, 0)).astype(np.uint8)
    mixed = types.copy()
    mixed[1:3, 1:3] = 3
    written = [Nuclei.from_labels(labels, one, 0.25) for one in (types, mixed)]
    folder = RunFolder(tmp_path)
    predictions.write(folder.predictions, [predictions.Packed.of(nuclei) for nuclei in written])
    plain, kept = predictions.load(folder.predictions, [0, 1], 0.25)
    assert plain.type_map is None and np.array_equal(plain.types, [1, 2])
    assert np.array_equal(kept.type_map, mixed) and np.array_equal(kept.types, written[1].types)
    predictions.write(folder.predictions, [predictions.Packed.of(written[0])])
    with np.load(folder.predictions) as stored:
        assert sorted(stored.files) == ["instances", "offsets", "types"], "no map that says nothing new"


def test_missing_and_foreign_predictions_are_named(folder, tmp_path):
    with pytest.raises(InputError, match=r"predictions\.npz: holds 3 images, this test set more"):
        predictions.load(RunFolder(folder).predictions, [3], 0.25)
    with pytest.raises(InputError, match=r"predictions\.npz: expected the predictions .* found no file"):
        predictions.load(RunFolder(tmp_path / "nothing").predictions, [0], 0.25)


def test_damaged_predictions_are_named(folder):
    path = RunFolder(folder).predictions
    whole = path.read_bytes()
    with open(folder / "array.npy", "wb") as handle:
        np.save(handle, np.zeros(3))
    array = (folder / "array.npy").read_bytes()
    for damaged in (b"", b"no zip", whole[:-40], whole[:200] + bytes(90) + whole[290:], array):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"predictions\.npz: expected .* found a damaged file"):
            predictions.load(RunFolder(folder).predictions, [0], 0.25)
    np.savez_compressed(path, instances=np.zeros((1, 4, 4), np.uint16))
    with pytest.raises(InputError, match=r"damaged file \(KeyError"):
        predictions.load(RunFolder(folder).predictions, [0], 0.25)
