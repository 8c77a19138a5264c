"""Which images are predicted at once: of one shape, a number of them, and fewer where they are large."""

import numpy as np
import pytest

from benchmark.data.nuclei import Nuclei, Sample
from benchmark.evaluation.test_set import batches


def sample(*sides):
    return Sample(np.zeros((*sides, 3), np.uint8), Nuclei.from_labels(np.zeros(sides, int), None, 0.25))


@pytest.mark.parametrize(
    ("sides", "size", "expected"),
    [
        ([(256, 256)] * 7, 3, [3, 3, 1]),
        ([(512, 512)] * 7, 3, [3, 3, 1]),
        ([(64, 64), (64, 64), (64, 80), (64, 64)], 8, [2, 1, 1]),
        ([(1000, 1000)] * 3, 8, [1, 1, 1]),
        ([(1000, 1000)] * 5, 31, [2, 2, 1]),
        ([], 4, []),
    ],
)
def test_images_of_one_shape_and_no_more_pixels_than_their_number_says(sides, size, expected):
    subset = [sample(*each) for each in sides]
    rows = [3 * k for k in range(len(sides))]
    held = list(batches({row: one for row, one in zip(rows, subset)}, rows, size))
    assert [len(indices) for indices, _ in held] == expected and [k for indices, _ in held for k in indices] == rows
    assert all(len({one.image.shape for one in samples}) == 1 for _, samples in held)
