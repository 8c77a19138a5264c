"""Patches for the pretext task of `training.pretrain`, with dense labels per 16×16 token.

Drawn from synthetic slides that belong to no fold.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from benchmark.data.nuclei import Nuclei
from benchmark.data.sources import synthetic

VERSION = 1  # raise it when labels or crops change
FIRST_SLIDE = 10_000
TOKEN, CELLS, QUARTERS = 16, 4, 2
N_CLASSES = len(synthetic.CLASSES)

# task -> its channels among the labels of a token
TASKS = {
    "coverage": slice(0, 16),  # share of each of the 4×4 cells that is nucleus
    "rim": slice(16, 32),  # share of each cell whose right or lower neighbour belongs to another label
    "centre": slice(32, 48),  # whether a nucleus' centre of mass lies in the cell
    "types": slice(48, 48 + N_CLASSES * QUARTERS**2),  # share of each of the 2×2 quarters that each type covers
}
CHANNELS = 48 + N_CLASSES * QUARTERS**2


class Patches:
    """A set of synthetic patches in memory, one slide each.

    Args:
        n: number of 256×256 patches; tissues take turns.
        seed: of the drawing.
        first_slide: at least FIRST_SLIDE; patch k comes from slide first_slide + k.
        tick: called after each patch.
    """

    def __init__(self, n: int, seed: int, first_slide: int, tick: Callable[[], None] = lambda: None):
        images, planes = [], []
        for k in range(n):
            tissue = synthetic.TISSUES[k % len(synthetic.TISSUES)]
            sample = synthetic.draw(tissue, first_slide + k, 0, seed)
            images.append(sample.image)
            planes.append(label_planes(sample.nuclei))
            tick()
        self.images, self.planes = np.stack(images), np.stack(planes)

    def batch(self, n: int, side: int, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """n random crops, turned, mirrored and jittered.

        Returns:
            float32 images (n, 3, side, side) in [0, 1]; float32 labels (n, CHANNELS, side / 16, side / 16).
        """
        images, labels = [], []
        for k in rng.integers(len(self.images), size=n):
            top, left = rng.integers(self.images.shape[1] - side + 1, size=2)
            turns, mirror = int(rng.integers(4)), rng.random() < 0.5
            window = (slice(top, top + side), slice(left, left + side))
            image = np.rot90(self.images[k][window], turns)
            planes = np.rot90(self.planes[k][(slice(None), *window)], turns, axes=(1, 2))
            if mirror:
                image, planes = image[:, ::-1], planes[..., ::-1]
            images.append(_jitter(image, rng))
            labels.append(token_labels(planes))
        return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(labels))

    def whole(self, side: int) -> tuple[Tensor, Tensor]:
        """All patches cut into a grid of crops, as they are; shapes as in `batch`."""
        images, labels = [], []
        for image, planes in zip(self.images, self.planes):
            for top in range(0, image.shape[0] - side + 1, side):
                for left in range(0, image.shape[1] - side + 1, side):
                    window = (slice(top, top + side), slice(left, left + side))
                    images.append(image[window].astype(np.float32).transpose(2, 0, 1) / 255)
                    labels.append(token_labels(planes[(slice(None), *window)]))
        return torch.from_numpy(np.stack(images)), torch.from_numpy(np.stack(labels))


def label_planes(nuclei: Nuclei) -> np.ndarray:
    """uint8 (3, H, W): type per pixel (0 = background), rim, centres of mass."""
    instances = nuclei.instances
    rim = np.zeros(instances.shape, bool)
    rim[:, :-1] |= instances[:, :-1] != instances[:, 1:]
    rim[:-1] |= instances[:-1] != instances[1:]
    centres = np.zeros(instances.shape, np.uint8)
    rows, cols = np.nonzero(instances)
    if len(rows):
        which = instances[rows, cols]
        area = np.maximum(np.bincount(which), 1)
        centre_rows = np.bincount(which, rows) / area
        centre_cols = np.bincount(which, cols) / area
        centres[centre_rows[1:].round().astype(int), centre_cols[1:].round().astype(int)] = 1
    return np.stack([nuclei.pixel_types(), rim, centres]).astype(np.uint8)


def token_labels(planes: np.ndarray) -> np.ndarray:
    """float32 (CHANNELS, H / 16, W / 16) in [0, 1] from `label_planes` (3, H, W); the channels are TASKS'."""
    types, rim, centres = planes
    quarters = [_pool(types == c + 1, QUARTERS, np.mean) for c in range(N_CLASSES)]
    cells = [_pool(types > 0, CELLS, np.mean), _pool(rim, CELLS, np.mean), _pool(centres, CELLS, np.max)]
    return np.concatenate([*cells, *quarters]).astype(np.float32)


def _pool(plane: np.ndarray, parts: int, how: Callable) -> np.ndarray:
    """(H, W) to (parts², H / 16, W / 16): each token's parts × parts cells, row by row."""
    rows, cols = plane.shape[0] // TOKEN, plane.shape[1] // TOKEN
    step = TOKEN // parts
    cells = how(plane.reshape(rows, parts, step, cols, parts, step), axis=(2, 5))
    return cells.transpose(1, 3, 0, 2).reshape(parts * parts, rows, cols)


def _jitter(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """uint8 (H, W, 3) to float32 (3, H, W) in [0, 1]: random gain and offset per channel."""
    gain = rng.normal(1, 0.1) * rng.normal(1, 0.06, (3, 1, 1))
    offset = rng.normal(0, 0.05) + rng.normal(0, 0.02, (3, 1, 1))
    scaled = (image.transpose(2, 0, 1).astype(np.float32) / 255 - 0.5) * gain + 0.5 + offset
    return scaled.clip(0, 1).astype(np.float32)
