"""Drawn nuclei with the maps that a perfect network of the HV family gives them."""

import numpy as np

from benchmark.data.nuclei import Nuclei
from benchmark.postproc.hv import hv_targets


def image(seed: int, side: int = 96) -> tuple[Nuclei, dict[str, np.ndarray]]:
    """A few discs, small ones among them, and their perfect logits with a little noise."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((side, side), np.int32)
    y, x = np.indices(labels.shape)
    for k, (row, column) in enumerate(np.stack(np.meshgrid([16, 48, 80], [16, 48, 80]), -1).reshape(-1, 2)):
        labels[(y - row) ** 2 + (x - column) ** 2 <= (2, 6, 9)[k % 3] ** 2] = k + 1
    truth = Nuclei(labels, rng.integers(1, 3, 9).astype(np.uint8), 0.25, image_id=f"i{seed}", tissue="Colon")
    types = np.where(np.arange(3)[:, None, None] == truth.pixel_types(), 4.0, -4.0)
    np_map = np.where(np.arange(2)[:, None, None] == (labels > 0), 4.0, -4.0)
    hv = hv_targets(labels) + rng.normal(0, 0.02, (2, side, side))
    return truth, {"np": np_map, "hv": hv, "tp": types, "tissue": np.zeros(3)}
