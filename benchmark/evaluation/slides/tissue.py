"""Where a slide has tissue: what is coloured, on its thumbnail."""

import numpy as np
from scipy import ndimage
from skimage.filters import threshold_otsu

SMOOTH = 4.0  # µm, sigma
AROUND = 40.0  # µm around coloured pixels that count as tissue
LEAST, MOST = 0.03, 0.08  # chroma, of 1: between them lies the threshold


def tissue(thumbnail: np.ndarray, mpp: float) -> np.ndarray:
    """bool (H, W): coloured pixels, and those within AROUND of them.

    Chroma, the largest less the smallest of the three colours, sets stained tissue apart from glass, which is white or
    grey, and from the black that scanners put around a slide. Its threshold is Otsu's, held between LEAST and MOST, so
    that a slide without tissue has none and one without glass has no part left out.

    Args:
        thumbnail: uint8 (H, W, 3).
        mpp: micrometres per pixel of it.
    """
    chroma = (thumbnail.max(2).astype(np.float32) - thumbnail.min(2)) / 255
    chroma = ndimage.gaussian_filter(chroma, SMOOTH / mpp)
    threshold = float(np.clip(threshold_otsu(chroma), LEAST, MOST)) if np.ptp(chroma) > 0 else LEAST
    coloured = chroma > threshold
    if not coloured.any():
        return coloured
    return ndimage.distance_transform_edt(~coloured) <= AROUND / mpp
