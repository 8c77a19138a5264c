"""Augmentation steps that move image, instances and pixel types together.

Every step is a function (patch, rng, **settings) -> patch; all randomness comes from `rng`. Labels are
sampled with nearest neighbour, images linearly (unless a recipe says otherwise), at the same coordinates;
beyond the border both are mirrored. As in the published recipes, pieces of one nucleus that a step tears
apart or mirrors keep one id.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.transform import AffineTransform


@dataclass(frozen=True)
class Patch:
    """What moves together. image: uint8 (H, W, 3); instances: int32 (H, W); type_map: uint8 (H, W) or
    None."""

    image: np.ndarray
    instances: np.ndarray
    type_map: np.ndarray | None = None

    def moved(self, image, labels) -> "Patch":
        """The patch with `image` applied to the image and `labels` to the label maps."""
        types = None if self.type_map is None else labels(self.type_map)
        return Patch(image(self.image), labels(self.instances), types)


def rot90(patch: Patch, rng: np.random.Generator) -> Patch:
    """Turned by 0, 90, 180 or 270 degrees (0 or 180 where the patch is not square)."""
    turns = int(rng.integers(4))
    if patch.instances.shape[0] != patch.instances.shape[1]:
        turns -= turns % 2
    return patch.moved(*[lambda a: np.rot90(a, turns)] * 2)


def hflip(patch: Patch, rng: np.random.Generator) -> Patch:
    """Left and right exchanged."""
    return patch.moved(*[lambda a: a[:, ::-1]] * 2)


def vflip(patch: Patch, rng: np.random.Generator) -> Patch:
    """Top and bottom exchanged."""
    return patch.moved(*[lambda a: a[::-1]] * 2)


def random_sized_crop(patch: Patch, rng: np.random.Generator, low: float = 0.5, high: float = 1.0) -> Patch:
    """A window of the same aspect, low..high of the height, enlarged to the size of the patch."""
    height, width = patch.instances.shape
    side = int(rng.integers(max(1, round(low * height)), round(high * height) + 1))
    across = max(1, round(side * width / height))
    top = int(rng.integers(height - side + 1))
    left = int(rng.integers(width - across + 1))
    scale = np.array([side / height, across / width])
    # centres of pixels: (i + 1/2) * scale = source + 1/2 within the window
    return _affine(patch, np.diag(scale), np.array([top, left]) + (scale - 1) / 2)


def elastic(
    patch: Patch,
    rng: np.random.Generator,
    alpha: float = 0.5,
    sigma: float = 25.0,
    alpha_affine: float = 15.0,
) -> Patch:
    """An affine map that moves three points by up to ± alpha_affine pixels, then a displacement field: white
    noise in -1..1 smoothed with sigma pixels, times alpha (Simard et al. 2003). With the published alpha 0.5
    and sigma 25 the field is some thousandths of a pixel, so the affine part is what acts."""
    shape = patch.instances.shape
    centre, reach = np.array(shape) // 2, min(shape) // 3
    source = centre + reach * np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    target = source + rng.uniform(-alpha_affine, alpha_affine, source.shape)
    inverse = np.linalg.solve(np.c_[target, np.ones(3)], source)  # rows: (target, 1) -> source
    field = [ndimage.gaussian_filter(rng.uniform(-1, 1, shape), sigma) * alpha for _ in range(2)]
    rows, cols = np.indices(shape, dtype=np.float64)
    rows, cols = rows + field[0], cols + field[1]
    places = np.stack([rows * inverse[0, k] + cols * inverse[1, k] + inverse[2, k] for k in range(2)])

    def sample(values: np.ndarray, order: int) -> np.ndarray:
        return ndimage.map_coordinates(values, places, order=order, mode="mirror")

    return patch.moved(lambda a: _channels(a, sample, 1), lambda a: sample(a, 0))


def affine(
    patch: Patch,
    rng: np.random.Generator,
    scale: float = 0.2,
    translate: float = 0.01,
    shear: float = 5.0,
    rotate: float = 179.0,
    order: int = 0,
) -> Patch:
    """Scaling by 1 ± scale per axis, translation by ± translate of each side, shear and rotation in ±
    degrees, about the centre. `order` of the image's interpolation; HoVer-Net's is 0."""
    height, width = patch.instances.shape
    factors = rng.uniform(1 - scale, 1 + scale, 2)
    offset = rng.uniform(-translate, translate, 2) * (width, height)
    angles = np.deg2rad([rng.uniform(-shear, shear), rng.uniform(-rotate, rotate)])
    centre = AffineTransform(translation=((1 - width) / 2, (1 - height) / 2))
    middle = AffineTransform(scale=factors, shear=angles[0], rotation=angles[1], translation=offset)
    inverse = np.linalg.inv((centre + middle + centre.inverse).params)
    return _affine(patch, inverse[1::-1, 1::-1], inverse[1::-1, 2], order)  # (x, y) to (row, column)


def _affine(patch: Patch, matrix: np.ndarray, offset: np.ndarray, order: int = 1) -> Patch:
    """Output pixel o shows the source at matrix @ o + offset (row, column)."""

    def sample(values: np.ndarray, order: int) -> np.ndarray:
        return ndimage.affine_transform(values, matrix, offset, order=order, mode="mirror")

    return patch.moved(lambda a: _channels(a, sample, order), lambda a: sample(a, 0))


def _channels(image: np.ndarray, sample, order: int) -> np.ndarray:
    """`sample` per channel, rounded to uint8."""
    levels = image if order == 0 else image.astype(np.float32)
    out = np.stack([sample(levels[..., k], order) for k in range(image.shape[2])], -1)
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


STEPS = {f.__name__: f for f in (rot90, hflip, vflip, random_sized_crop, elastic, affine)}
