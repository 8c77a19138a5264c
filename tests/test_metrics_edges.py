"""Boundaries that decide a score: IoU of exactly one half, pixels of the background, sums of many pairs, radii."""

import numpy as np
import pytest

from benchmark.metrics.detection import Points, gated
from benchmark.metrics.match import match
from benchmark.metrics.pairs import sum_by_pair


def test_half_is_no_pair_and_the_largest_overlap_is_kept():
    true, pred = np.zeros((1, 12), int), np.zeros((1, 12), int)
    true[0, 1:9] = 1
    pred[0, 1:5] = 4  # 4 of 8: IoU 1/2
    pred[0, 5:7] = 7  # 2 of 8: IoU 1/4
    m = match(true, None, pred, None, mpp=1.0)
    assert m.true.partner.tolist() == [0] and m.pred.partner.tolist() == [0, 0]
    assert m.true.iou.tolist() == [0.5] and m.pred.iou.tolist() == [0.5, 0.25]


def test_types_of_background_pixels_are_ignored():
    instances = np.zeros((4, 6), int)
    instances[1:3, 1:3], instances[1:3, 4:6] = 1, 2
    types = np.where(instances == 1, 2, 3)  # 3 on the second nucleus and on all background
    m = match(instances, types, instances, np.where(instances > 0, types, 0), mpp=1.0)
    assert m.true.type.tolist() == [2, 3]
    assert sorted(zip(m.true_id.tolist(), m.true_type.tolist(), m.pixels.tolist())) == [
        (0, 0, 16),
        (1, 2, 4),
        (2, 3, 4),
    ]


@pytest.mark.parametrize("types", [np.full((2, 2), 256), np.array([256])])
def test_types_above_255_are_refused(types):
    ones = np.ones((2, 2), int)
    with pytest.raises(ValueError, match=r"true_types holds .*256, expected 0\.\.255"):
        match(ones, types, ones, None, mpp=1.0)


def test_a_map_of_huge_ids_without_background_loses_none():
    ids = np.array([[10**12, 10**12], [10**15, 10**15]])
    m = match(ids, None, ids, None, mpp=1.0)
    assert m.true.id.tolist() == [10**12, 10**15] and m.true.partner.tolist() == [10**12, 10**15]
    assert m.true.area.tolist() == [2, 2]


@pytest.mark.parametrize("width", [50, 10**6, 2**40])  # a table, packed keys, keys too large to pack
def test_sums_of_pairs_of_any_size(width):
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 40, 200), rng.integers(0, 40, 200) * (width // 50)
    weights = rng.integers(1, 2**32 - 1, 200)  # more than 16 bits
    expected = {}
    for key in zip(a.tolist(), b.tolist(), weights.tolist()):
        expected[key[:2]] = expected.get(key[:2], 0) + key[2]
    found = sum_by_pair(a, b, weights, width)
    assert list(zip(*(column.tolist() for column in found))) == [(*key, expected[key]) for key in sorted(expected)]


def points(*rows) -> Points:
    """Points of (image, x, y)."""
    image, x, y = np.array(rows, np.float64).reshape(-1, 3).T
    return Points(image.astype(int), np.stack([x, y], 1), np.zeros(len(image), int))


def test_a_detection_counts_up_to_its_image_own_radius():
    true = points((0, 0, 0), (1, 0, 0), (2, 10, 10))
    pred = points((0, 12, 0), (1, 8, 0), (2, 10, 16.5))
    rows, cols = gated(true, pred, np.array([12.0, 6.0, 6.0]))
    assert (rows.tolist(), cols.tolist()) == ([0], [0]), "12 px are within 12 px, 8 and 6.5 are not within 6"


def test_nuclei_of_different_images_are_no_pair():
    true, pred = points((0, 5, 5), (2, 7, 7)), points((1, 5, 5), (3, 7, 7))
    rows, _ = gated(true, pred, np.full(4, 3.0))
    assert not len(rows)
