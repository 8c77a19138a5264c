"""Records of drawn nuclei: as many a side as wanted, predicted ones shifted, some missed, some invented."""

import numpy as np

from benchmark.metrics.match import match
from benchmark.metrics.records import Records

TISSUES = ("Breast", "Colon_x", "Skin")


def ellipses(rng, shape, centres, radii, turns) -> np.ndarray:
    """int64 (H, W): ellipses, the later over the earlier; those that stick out of the image are cut."""
    height, width = shape
    out = np.zeros(shape, np.int64)
    for number, ((y, x), (a, b), turn) in enumerate(zip(centres, radii, turns), 1):
        reach = int(max(a, b)) + 2
        top, left = max(int(y) - reach, 0), max(int(x) - reach, 0)
        rows, cols = np.mgrid[top : min(int(y) + reach, height), left : min(int(x) + reach, width)]
        u = (rows - y) * np.cos(turn) + (cols - x) * np.sin(turn)
        v = (cols - x) * np.cos(turn) - (rows - y) * np.sin(turn)
        ragged = 1 + 0.25 * rng.standard_normal(rows.shape)  # an outline is no perfect ellipse
        out[rows[(u / a) ** 2 + (v / b) ** 2 < ragged], cols[(u / a) ** 2 + (v / b) ** 2 < ragged]] = number
    return out


def image(rng, shape, nuclei: int):
    """(true instance map, predicted one) with about `nuclei` each; ids of the true map are consecutive."""
    centres = rng.uniform((0, 0), shape, (nuclei, 2))
    radii, turns = rng.uniform(4, 11, (nuclei, 2)), rng.uniform(0, np.pi, nuclei)
    true = ellipses(rng, shape, centres, radii, turns)
    found = centres + rng.normal(0, 1.5, centres.shape)
    invented = rng.random(nuclei) < 0.15
    found[invented] = rng.uniform((0, 0), shape, (int(invented.sum()), 2))
    pred = ellipses(rng, shape, found.clip(0, np.array(shape) - 1), radii * rng.uniform(0.85, 1.15, radii.shape), turns)
    order = rng.permutation(nuclei + 1)
    order[order == 0], order[0] = order[0], 0  # predicted in another order than drawn
    return consecutive(true), consecutive(order[pred])


def consecutive(labels: np.ndarray) -> np.ndarray:
    """The same nuclei with the ids 1..n."""
    return np.unique(np.append(labels.ravel(), 0), return_inverse=True)[1][:-1].reshape(labels.shape)


def drawn(images: int, nuclei: int, shape=(256, 256), seed: int = 0, classes: int = 5, edit=None, **meta) -> Records:
    """Records of `images` drawn images.

    Args:
        edit: called with (number, true map, true types, predicted map, predicted types), types by nucleus; returns the
            four maps and types to be matched.
        meta: entries of the rows of meta, such as typed=False.
    """
    rng = np.random.default_rng(seed)
    matches, rows = [], []
    for number in range(images):
        true, pred = image(rng, shape, nuclei)
        true_types, pred_types = (rng.integers(1, classes + 1, int(labels.max())) for labels in (true, pred))
        sides = (true, true_types, pred, pred_types)
        matches.append(match(*(edit(number, *sides) if edit else sides), mpp=0.25))
        row = {"image": number, "image_id": f"patch {number}", "tissue": TISSUES[number % 3]}
        rows.append(row | {"source": f"slide {number // 4}"} | meta)
    return Records.collect(matches, rows)
