"""What each augmentation step does to pixels whose answer is known, with its random numbers given."""

import numpy as np
import pytest

from benchmark.training.augment import geometric, photometric
from benchmark.training.augment.geometric import Patch


class Given:
    """A generator that answers with the given numbers in turn; a uniform one must lie in the range asked for."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def _next(self, *_):
        return self.answers.pop(0)

    random = permutation = _next

    def uniform(self, low, high, shape=None):
        value = np.asarray(self.answers.pop(0), np.float64)
        assert shape is None or value.shape == tuple(np.atleast_1d(shape))
        assert (value >= low - 1e-12).all() and (value <= high + 1e-12).all()
        return value if shape is not None else float(value)

    def standard_normal(self, shape, dtype):
        return np.ones(shape, dtype) * np.arange(1, shape[-1] + 1, dtype=dtype)


def numbered(height: int, width: int) -> Patch:
    """Every pixel an id of its own; the image tells the column."""
    image = np.broadcast_to(3 * np.arange(width)[:, None], (height, width, 3)).astype(np.uint8)
    return Patch(image, np.arange(height * width, dtype=np.int32).reshape(height, width))


def still(shape=(30, 30)) -> list:
    """No displacement field."""
    return [np.zeros(shape), np.zeros(shape)]


def test_elastic_carries_three_points_to_their_places():
    patch = numbered(30, 30)
    source = np.array([[25, 25], [25, 5], [5, 5]])  # a third of the side from the centre
    shift = np.array([[2, 0], [0, -3], [-1, 1]])
    moved = geometric.elastic(patch, Given(shift, *still()), alpha_affine=3)
    for at, to in zip(source, source + shift):
        assert moved.instances[tuple(to)] == patch.instances[tuple(at)]
    ids = (patch.instances // 90 * 1000).astype(np.int32)
    found = geometric.elastic(Patch(patch.image, ids), Given(shift, *still()), alpha_affine=3).instances
    assert set(np.unique(found)) <= set(np.unique(ids)), "ids are never interpolated"


def test_elastic_mirrors_beyond_the_border():
    patch = numbered(30, 30)
    moved = geometric.elastic(patch, Given(np.full((3, 2), -4.0), *still()), alpha_affine=4)
    assert np.array_equal(moved.instances[:26, :26], patch.instances[4:, 4:])
    assert np.array_equal(moved.instances[26, :26], patch.instances[28, 4:]), "the border is not repeated"
    assert np.array_equal(moved.image[:26, 26], patch.image[:26, 28])


def affine(patch: Patch, scale=(1, 1), translate=(0, 0), shear=0, rotate=0) -> Patch:
    given = Given(scale, translate, shear, rotate)
    return geometric.affine(patch, given, scale=0.5, translate=0.1, shear=5, rotate=179)


def test_affine_turns_and_scales_about_the_centre():
    patch = numbered(21, 21)
    assert np.array_equal(affine(patch, rotate=90).instances, np.rot90(patch.instances, -1))
    assert affine(patch, scale=(1.5, 0.5)).instances[10, 10] == patch.instances[10, 10]
    wider = affine(patch, scale=(1.5, 1)).instances
    assert np.array_equal(wider[:, 4::3], patch.instances[:, 6:17:2]), "x first: columns 10 ± 3k show 10 ± 2k"


def test_affine_moves_by_shares_of_width_and_height():
    patch = numbered(20, 40)
    assert np.array_equal(affine(patch, translate=(0.1, 0)).instances[:, 4:], patch.instances[:, :-4])
    assert np.array_equal(affine(patch, translate=(0, 0.1)).instances[2:], patch.instances[:-2])


def test_enlarged_images_are_interpolated_and_rounded():
    moved = geometric.random_sized_crop(numbered(20, 20), np.random.default_rng(0), low=0.5, high=0.5)
    left = moved.instances[0, 0] % 20
    # between pixel centres, a quarter and three quarters of the way: 3 (left + k) + 0.75 and + 2.25
    inner = 3 * (left + np.arange(1, 9))
    assert np.array_equal(moved.image[5, 3:19:2, 0], inner + 1) and np.array_equal(moved.image[5, 4:19:2, 0], inner + 2)


def colour(red, green, blue) -> np.ndarray:
    return np.full((2, 2, 3), (red, green, blue), np.uint8)


LUMA = 0.299 * 200 + 0.587 * 100 + 0.114 * 40  # of (200, 100, 40)


@pytest.mark.parametrize(
    ("step", "answers", "settings", "expected"),
    [
        ("shift_brightness", [26], {}, (226, 126, 66)),
        ("shift_brightness", [90], {"limit": 90}, (255, 190, 130)),
        ("shift_hue", [1 / 3], {"limit": 0.5}, (40, 200, 100)),
        ("scale_saturation", [0.8], {}, tuple(round(LUMA + 0.8 * (v - LUMA)) for v in (200, 100, 40))),
        ("scale_saturation", [0], {"limit": 1}, (round(LUMA),) * 3),
        ("color_jitter", [[0], 1.2], {"brightness": 0.2}, (240, 120, 48)),
        ("color_jitter", [[1], 1.25], {}, tuple(round(LUMA + 1.25 * (v - LUMA)) for v in (200, 100, 40))),
        ("color_jitter", [[2], 0.9], {}, tuple(round(LUMA + 0.9 * (v - LUMA)) for v in (200, 100, 40))),
        ("color_jitter", [[3], 1 / 3], {"hue": 0.5}, (40, 200, 100)),
        ("gauss_noise", [4], {}, (202, 104, 46)),  # variance 4: 2, 4 and 6 levels
        ("additive_noise", [5, 0.4], {}, (205, 110, 55)),
        ("additive_noise", [5, 0.6], {}, (205, 105, 45)),  # the same in all channels
    ],
)
def test_levels_by_hand(step, answers, settings, expected):
    found = photometric.STEPS[step](colour(200, 100, 40), Given(*answers), **settings)
    assert found.dtype == np.uint8 and np.abs(found.astype(int) - expected).max() == 0


def test_contrast_is_about_the_mean_of_each_channel():
    image = np.array([[[100, 10, 50], [140, 30, 50]]], np.uint8)
    found = photometric.scale_contrast(image, Given(1.25))
    assert found.tolist() == [[[95, 8, 50], [145, 32, 50]]]  # 120 ± 25, 20 ± 12.5, to even


def test_gaussian_blur_of_one_pixel():
    image = np.zeros((5, 5, 3), np.uint8)
    image[2, 2] = 255
    side = np.exp(-0.5) / (1 + 2 * np.exp(-0.5))
    weights = np.array([0, side, 1 - 2 * side, side, 0])
    found = photometric.gaussian_blur(image, Given(1.0))
    assert np.array_equal(found[..., 0], np.rint(255 * np.outer(weights, weights)))


def test_zoom_blur_is_the_mean_of_copies_about_the_centre():
    image = np.full((21, 21, 3), 40, np.uint8)
    image[10, 10] = 240
    found = photometric.zoom_blur(image, Given(1.05, 0.02))  # 1, 1.02, 1.04
    assert found[10, 10].tolist() == [240] * 3 and found[4, 4].tolist() == [40] * 3


def test_superpixels_that_are_chosen_become_flat():
    rng = np.random.default_rng(0)
    tiles = rng.integers(40, 200, (4, 4, 3)).repeat(16, 0).repeat(16, 1)
    image = (tiles + rng.integers(0, 20, tiles.shape)).astype(np.uint8)

    def painted(share, max_size):
        return photometric.superpixels(image, Given(np.asarray(share)), segments=len(share), max_size=max_size)

    assert painted([0.5] * 16, 64) is image, "none drawn"
    assert len(np.unique(painted([0.05] * 16, 64).reshape(-1, 3), axis=0)) <= 32 < len(np.unique(image))
    first = [0.05] + [0.5] * 15
    assert np.array_equal(painted(first, 64)[48:, 48:], image[48:, 48:])
    corner = slice(52, 60), slice(52, 60), 0
    assert painted(first, 32)[corner].std() < 0.8 * image[corner].std(), "a large image is worked on smaller"
