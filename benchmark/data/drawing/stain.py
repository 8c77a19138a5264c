"""Stain of a slide and the way from amounts of stain to RGB (Beer-Lambert law).

Stain vectors span the directions that Macenko's method (Macenko et al., ISBI 2009) finds on public H&E sets;
colour and strength are drawn per slide because slides differ more than fields of one slide.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from benchmark.data.drawing import texture

HAEMATOXYLIN = np.array([[0.61, 0.71, 0.31], [0.58, 0.71, 0.38], [0.73, 0.66, 0.19]])
EOSIN = np.array([[0.40, 0.81, 0.36], [0.21, 0.80, 0.55], [0.34, 0.87, 0.35]])


@dataclass(frozen=True)
class Stain:
    """Colour of one slide and optics of its scan.

    Attributes:
        haematoxylin, eosin: float32 (3,) unit vectors of optical density (natural log) in RGB.
        nuclei, stroma: optical density of a typical nucleus and of typical stroma.
        glass: float32 (3,) RGB of the empty slide.
        blur: sigma of the optics in px. quality: JPEG quality. grain: sd of the sensor noise, grey levels.
    """

    haematoxylin: np.ndarray
    eosin: np.ndarray
    nuclei: float
    stroma: float
    glass: np.ndarray
    blur: float
    quality: int
    grain: float


def draw_stain(rng: np.random.Generator, strength: float = 1.0) -> Stain:
    """Stain of one slide; `strength` moves the tissue's typical depth of stain."""
    nuclei = float(np.clip(strength * np.exp(rng.normal(0.05, 0.42)), 0.62, 2.6))
    stroma = float(np.clip(0.4 * np.exp(rng.normal(0.0, 0.32)) * nuclei**0.45, 0.17, 0.95))
    return Stain(
        _mix(rng, HAEMATOXYLIN),
        _mix(rng, EOSIN),
        nuclei,
        stroma,
        np.float32([245, 236, 244]) + rng.uniform([-6, -6, -5], [6, 4, 5]).astype(np.float32),
        float(rng.uniform(0.45, 1.0)),
        int(rng.integers(55, 93)),
        float(rng.uniform(1.0, 4.0)),
    )


def develop(rng: np.random.Generator, h: np.ndarray, e: np.ndarray, dye: np.ndarray | None, stain: Stain) -> np.ndarray:
    """The scanned image of a section.

    Args:
        h, e: float32 (H, W) amounts of haematoxylin and eosin, 1 = a typical nucleus, typical stroma.
        dye: float32 (H, W, 3) further optical density (ink, pigment), or None.
        stain: of the slide.

    Returns:
        uint8 (H, W, 3): blurred, noisy, compressed by JPEG.
    """
    density = (h * stain.nuclei)[..., None] * stain.haematoxylin + (e * stain.stroma)[..., None] * stain.eosin
    if dye is not None:
        density = density + dye
    light = np.exp(-density) * stain.glass
    sigma = stain.blur * float(rng.choice([1.0, 1.0, 1.0, 1.6]))
    light = ndimage.gaussian_filter(light, (sigma, sigma, 0), truncate=3)
    height, width = h.shape
    for channel in range(3):
        light[..., channel] += stain.grain * texture.window(rng, 1.0, height, width)
    image = Image.fromarray(np.clip(light + 0.5, 0, 255).astype(np.uint8))
    packed = io.BytesIO()
    image.save(packed, "JPEG", quality=stain.quality)
    return np.array(Image.open(packed))


def _mix(rng: np.random.Generator, vectors: np.ndarray) -> np.ndarray:
    vector = rng.dirichlet([0.5] * len(vectors)) @ vectors + rng.normal(0, 0.035, 3)
    vector = np.clip(vector, 0.05, None)
    return (vector / np.linalg.norm(vector)).astype(np.float32)
