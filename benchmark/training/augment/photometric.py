"""Augmentation steps that change the image and move nothing.

Every step is a function (image, rng, **settings) -> image on uint8 (H, W, 3) RGB arrays; all randomness comes
from `rng`. Settings follow albumentations 1.3 (blur … downscale: CellViT and CellVTA) and HoVer-Net's recipe
(the rest).
"""

import numpy as np
from scipy import ndimage
from skimage import color
from skimage.segmentation import slic
from skimage.transform import resize

GREY = np.array([0.299, 0.587, 0.114], np.float32)


def blur(image: np.ndarray, rng: np.random.Generator, limit: int = 10) -> np.ndarray:
    """Box blur with an odd side drawn from 3..limit pixels."""
    side = int(rng.choice(np.arange(3, limit + 1, 2)))
    return _bytes(ndimage.uniform_filter(image, (side, side, 0), output=np.float32, mode="mirror"))


def gaussian_blur(image: np.ndarray, rng: np.random.Generator, sigma: float = 1.0) -> np.ndarray:
    """Gaussian blur of a 3x3 window with a standard deviation drawn from 0.1..sigma pixels."""
    width = rng.uniform(0.1, sigma)
    side = np.exp(-0.5 / width**2)
    kernel = np.array([side, 1.0, side]) / (1 + 2 * side)
    rows = ndimage.correlate1d(image, kernel, 0, output=np.float32, mode="mirror")
    return _bytes(ndimage.correlate1d(rows, kernel, 1, mode="mirror"))


def median_blur(image: np.ndarray, rng: np.random.Generator, side: int = 3) -> np.ndarray:
    """Median of a side x side window per channel."""
    return ndimage.median_filter(image, (side, side, 1), mode="mirror")


def gauss_noise(image: np.ndarray, rng: np.random.Generator, variance: float = 10.0) -> np.ndarray:
    """Independent normal noise per pixel and channel, its variance drawn from 0..variance (grey levels
    squared)."""
    deviation = np.float32(np.sqrt(rng.uniform(0, variance)))
    return _bytes(image + deviation * rng.standard_normal(image.shape, np.float32))


def additive_noise(image: np.ndarray, rng: np.random.Generator, deviation: float = 12.75) -> np.ndarray:
    """Normal noise with a standard deviation drawn from 0..deviation grey levels, in half the cases the same
    in all channels."""
    scale = np.float32(rng.uniform(0, deviation))
    channels = image.shape[2] if rng.random() < 0.5 else 1
    return _bytes(image + scale * rng.standard_normal((*image.shape[:2], channels), np.float32))


def color_jitter(
    image: np.ndarray,
    rng: np.random.Generator,
    brightness: float = 0.25,
    contrast: float = 0.25,
    saturation: float = 0.1,
    hue: float = 0.05,
) -> np.ndarray:
    """Brightness, contrast and saturation by factors 1 ± setting, hue by ± setting turns, in random order."""
    levels = image.astype(np.float32)
    for which in rng.permutation(4):
        if which == 0 and brightness:
            levels = np.clip(levels * np.float32(rng.uniform(1 - brightness, 1 + brightness)), 0, 255)
        elif which == 1 and contrast:
            levels = _blend(levels, _grey(levels).mean(), rng.uniform(1 - contrast, 1 + contrast))
        elif which == 2 and saturation:
            levels = _blend(levels, _grey(levels), rng.uniform(1 - saturation, 1 + saturation))
        elif which == 3 and hue:
            levels = _turn_hue(levels, rng.uniform(-hue, hue))
    return _bytes(levels)


def shift_hue(image: np.ndarray, rng: np.random.Generator, limit: float = 8 / 180) -> np.ndarray:
    """Hue turned by up to ± limit of a full turn."""
    return _bytes(_turn_hue(image.astype(np.float32), rng.uniform(-limit, limit)))


def scale_saturation(image: np.ndarray, rng: np.random.Generator, limit: float = 0.2) -> np.ndarray:
    """Distance from grey times 1 ± limit."""
    levels = image.astype(np.float32)
    return _bytes(_blend(levels, _grey(levels), rng.uniform(1 - limit, 1 + limit)))


def shift_brightness(image: np.ndarray, rng: np.random.Generator, limit: float = 26.0) -> np.ndarray:
    """The same number of grey levels, up to ± limit, added to every pixel."""
    return _bytes(image + np.float32(rng.uniform(-limit, limit)))


def scale_contrast(image: np.ndarray, rng: np.random.Generator, low: float = 0.75, high: float = 1.25) -> np.ndarray:
    """Distance from each channel's mean times a factor from low..high."""
    levels = image.astype(np.float32)
    return _bytes(_blend(levels, levels.mean((0, 1)), rng.uniform(low, high)))


def superpixels(
    image: np.ndarray,
    rng: np.random.Generator,
    replace: float = 0.1,
    segments: int = 200,
    max_size: int = 128,
) -> np.ndarray:
    """Each SLIC segment takes its mean colour with probability `replace`.

    As in the published recipe an image with a side over max_size is worked on, and thereby smoothed, at that
    size.
    """
    chosen = rng.random(segments) < replace
    if not chosen.any():
        return image
    shape = image.shape[:2]
    scale = min(1.0, max_size / max(shape))
    small = _resize(image, tuple(round(s * scale) for s in shape), 1) if scale < 1 else image.astype(np.float32)
    labels = slic(small / 255, n_segments=segments, compactness=10, start_label=0, channel_axis=2)
    area = np.maximum(np.bincount(labels.ravel()), 1)
    # SLIC may return more segments than asked for; the choice is repeated cyclically
    painted = np.resize(chosen, len(area))[labels]
    for channel in range(small.shape[2]):
        mean = np.bincount(labels.ravel(), small[..., channel].ravel()) / area
        small[..., channel][painted] = mean[labels[painted]]
    return _bytes(_resize(small, shape, 1) if scale < 1 else small)


def zoom_blur(image: np.ndarray, rng: np.random.Generator, max_factor: float = 1.05) -> np.ndarray:
    """Mean of copies zoomed about the centre by 1, 1 + step, … below a factor drawn from 1..max_factor; the
    step is drawn from 0.01..0.03."""
    largest = max(rng.uniform(1, max_factor), 1.01)
    factors = np.arange(1.0, largest, rng.uniform(0.01, 0.03))
    total = image.astype(np.float32)
    centre = (np.array(image.shape[:2]) - 1) / 2
    for factor in factors[1:]:
        for channel in range(image.shape[2]):
            total[..., channel] += ndimage.affine_transform(
                image[..., channel].astype(np.float32), [1 / factor] * 2, centre * (1 - 1 / factor), order=1
            )
    return _bytes(total / len(factors))


def downscale(image: np.ndarray, rng: np.random.Generator, scale: float = 0.5) -> np.ndarray:
    """Fewer pixels and back, nearest neighbour both ways: a coarser scan."""
    shape = image.shape[:2]
    small = _resize(image, tuple(max(1, round(s * scale)) for s in shape), 0)
    return _bytes(_resize(small, shape, 0))


def _bytes(levels: np.ndarray) -> np.ndarray:
    """Rounded and clipped to uint8."""
    return np.clip(np.rint(levels), 0, 255).astype(np.uint8)


def _grey(levels: np.ndarray) -> np.ndarray:
    """(H, W, 1) luma. Summed channel by channel: the same bits whatever library multiplies matrices."""
    return (levels[..., :1] * GREY[0] + levels[..., 1:2] * GREY[1]) + levels[..., 2:] * GREY[2]


def _blend(levels: np.ndarray, other, factor: float) -> np.ndarray:
    """other + factor * (levels - other), within 0..255."""
    return np.clip(levels * np.float32(factor) + np.float32(1 - factor) * np.float32(other), 0, 255)


def _turn_hue(levels: np.ndarray, turn: float) -> np.ndarray:
    hsv = color.rgb2hsv(levels / np.float32(255))
    hsv[..., 0] = (hsv[..., 0] + np.float32(turn)) % 1
    return color.hsv2rgb(hsv) * np.float32(255)


def _resize(image: np.ndarray, shape: tuple[int, int], order: int) -> np.ndarray:
    return resize(image.astype(np.float32), shape, order=order, mode="reflect", anti_aliasing=False)


STEPS = {
    f.__name__: f
    for f in (
        blur,
        gaussian_blur,
        median_blur,
        gauss_noise,
        additive_noise,
        color_jitter,
        shift_hue,
        scale_saturation,
        shift_brightness,
        scale_contrast,
        superpixels,
        zoom_blur,
        downscale,
    )
}
