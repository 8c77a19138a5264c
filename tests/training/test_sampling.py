"""Sampling weights: equal to the measured and the published ones; draws are deterministic."""

import itertools
import json

import numpy as np
import pytest

from benchmark.runtime.errors import InputError
from benchmark.training.sampling import PANNUKE_TISSUES, cell_weights, draws, weights
from tests.support.shared import GOLDEN, shared

CONIC = [1069, 4189, 4356, 3103, 1025, 4527]


def check_measured(path) -> None:
    z = np.load(path, allow_pickle=False)
    tissues = z["image_tissue"].tolist()
    known = dict(zip(z["tissue_counts_names"].tolist(), z["tissue_counts"].tolist()))
    counts = z["cell_counts_neo_inf_con_dead_epi"]
    conic = z["conic_cell_counts_neu_epi_lym_pla_eos_con"]
    for gamma in ("0.0", "0.5", "0.85", "1.0"):
        for strategy in ("tissue", "cell", "cell+tissue"):
            found = weights(tissues, counts, strategy, float(gamma), "pannuke", known)
            expected = z[f"{strategy.replace('+', '_')}_gamma{gamma}"]
            np.testing.assert_allclose(found, expected, rtol=5e-7)
        found = weights(tissues, conic, "cell", float(gamma), CONIC)
        np.testing.assert_allclose(found, z[f"conic_cell_gamma{gamma}"], rtol=5e-7)


def test_weights_equal_the_measured_ones():
    check_measured(GOLDEN / "sampling_weights.npz")


def test_weights_equal_the_measured_ones_of_the_reference_folder():
    check_measured(shared("golden/models/sampling_weights_cellvta.npz"))


def test_published_log_is_reproduced():
    log = json.loads((GOLDEN / "sampling_published_log.json").read_text())
    assert log["tissue_counts"] == PANNUKE_TISSUES
    classes = np.array([s for s in itertools.product((0, 1), repeat=5) if any(s)])
    # classes that occur together in no image of that fold would raise the maximum above the recorded one
    occurring = classes[cell_weights(classes, 0.85, "pannuke") < log["max_cell_weight_in_fold0"] + 1e-6]
    tissues = [t for t in PANNUKE_TISSUES for _ in occurring]
    found = weights(tissues, np.tile(occurring, (19, 1)), "cell+tissue", 0.85, "pannuke")
    published = np.array(log["unique_weights"])
    assert len(published) == 181
    assert np.abs(found[None] - published[:, None]).min(1).max() <= 5e-5 + 1e-12


def test_frequencies_come_from_the_images_unless_given():
    counts = np.array([[5, 0], [1, 0], [2, 0], [0, 9]])
    found = cell_weights(counts, 0.5)
    # f = 3 and 1, K = 4: class weights 4 / (1.5 + 2) and 4 / (0.5 + 2)
    np.testing.assert_allclose(found, 0.5 + 0.5 * np.array([8 / 7, 8 / 7, 8 / 7, 1.6]))
    tissue = weights(["a", "a", "a", "b"], counts, "tissue", 1.0)
    np.testing.assert_allclose(tissue, [4 / 3, 4 / 3, 4 / 3, 4])


def test_images_without_nuclei_get_the_smallest_weight():
    found = cell_weights(np.array([[1, 0], [0, 0], [0, 1], [1, 1], [1, 0]]), 0.85)
    assert found[1] == found[[0, 2, 3, 4]].min()
    assert np.array_equal(cell_weights(np.zeros((3, 2), int), 0.85), np.ones(3))


def test_a_class_that_no_image_contains_changes_nothing():
    counts = np.array([[1, 0], [0, 1]])
    wider = np.c_[counts, [0, 0]]
    for gamma in (0.85, 1.0):
        np.testing.assert_array_equal(cell_weights(wider, gamma), cell_weights(counts, gamma))


def test_random_and_gamma_zero_are_uniform():
    counts = np.array([[1, 0], [0, 7]])
    assert np.array_equal(weights(["a", "b"], counts, "random", 0.85), [1, 1])
    assert np.ptp(weights(["a", "b"], counts, "cell+tissue", 0.0)) == 0


def test_draws_repeat_and_follow_the_weights():
    w = np.array([0.0, 1.0, 3.0, 0.0])
    first = draws(w, 8000, np.random.default_rng(5))
    assert first.dtype == np.int64 and np.array_equal(first, draws(w, 8000, np.random.default_rng(5)))
    assert not np.array_equal(first, draws(w, 8000, np.random.default_rng(6)))
    share = np.bincount(first, minlength=4) / 8000
    assert share[0] == share[3] == 0 and abs(share[2] - 0.75) < 0.02


@pytest.mark.parametrize(
    "change,message",
    [
        ({"strategy": "cell+tisue"}, "Did you mean 'cell\\+tissue'"),
        ({"gamma": 1.5}, "0 to 1"),
        ({"tissues": ["a"]}, "one row of class counts"),
        ({"factors": "conic"}, "'pannuke'"),
        ({"factors": [1, 2, 3]}, "3 class factors"),
    ],
)
def test_bad_input(change, message):
    arguments = {"tissues": ["a", "b"], "counts": np.ones((2, 2), int), "strategy": "cell+tissue"} | change
    with pytest.raises(InputError, match=message):
        weights(**arguments)


@pytest.mark.parametrize("bad", [[], [0.0, 0.0], [-1.0, 2.0], [np.nan, 1.0]])
def test_bad_weights(bad):
    with pytest.raises(InputError, match="finite"):
        draws(np.array(bad), 3, np.random.default_rng(0))
