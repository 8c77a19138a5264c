"""Noise that synthetic tissue is made of: periodic fields, filtered once, read through random windows."""

from functools import cache

import numpy as np
from scipy import ndimage

SIDE = 512
SCALES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


@cache
def field(scale: float) -> np.ndarray:
    """float32 (512, 512) periodic Gaussian noise, zero mean, unit variance, correlation length `scale` px."""
    white = np.random.default_rng([20, SCALES.index(scale)]).standard_normal((SIDE, SIDE), dtype=np.float32)
    smooth = ndimage.gaussian_filter(white, scale, mode="wrap", truncate=3)
    smooth = (smooth - smooth.mean()) / smooth.std()
    smooth.flags.writeable = False
    return smooth


def window(rng: np.random.Generator, scale: float, height: int, width: int) -> np.ndarray:
    """float32 (height, width) random window of `field(scale)`; read-only where it is a view."""
    source = field(scale)
    top, left = (int(v) for v in rng.integers(0, SIDE, 2))
    if top + height <= SIDE and left + width <= SIDE:
        return source[top : top + height, left : left + width]
    return source[np.ix_(np.arange(top, top + height) % SIDE, np.arange(left, left + width) % SIDE)]


def grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """float32 row and column coordinates, (side, 1) and (1, side)."""
    line = np.arange(side, dtype=np.float32)
    return line[:, None], line[None, :]


class Fibres:
    """Wavy fibres that cross a square patch."""

    def __init__(self, rng: np.random.Generator, side: int, waviness: float):
        self.theta = rng.uniform(0, np.pi)
        y, x = grid(side)
        self.across = y * np.cos(self.theta) - x * np.sin(self.theta)
        self.across = self.across + waviness * (window(rng, 32.0, side, side) + 0.25 * window(rng, 16.0, side, side))
        self.along = x * np.cos(self.theta) + y * np.sin(self.theta)
        self.rng = rng

    def streaks(self, scale: float, stretch: float) -> np.ndarray:
        """float32 (side, side), unit variance: noise `scale` px wide, `stretch` times longer."""
        shift = self.rng.uniform(0, SIDE, 2).astype(np.float32)
        where = np.stack([self.across + shift[0], self.along / np.float32(stretch) + shift[1]])
        return ndimage.map_coordinates(field(scale), where, order=1, mode="grid-wrap")

    def angle(self, y: float, x: float) -> float:
        """Direction of the fibres at a place, in radians from the row axis (x)."""
        side = self.across.shape[0]
        r, c = (int(np.clip(v, 1, side - 2)) for v in (y, x))
        dy = self.across[r + 1, c] - self.across[r - 1, c]
        dx = self.across[r, c + 1] - self.across[r, c - 1]
        return float(np.arctan2(-dx, dy))
