"""From nucleus and distance maps to instances: the marker-controlled watershed of HoVer-Net and CellViT.

HoVer-Net (Graham et al. 2019, section III-C) and CellViT (Hörst et al. 2024) share the chain and differ in
numbers; OpenCV's operations are restated with scipy and scikit-image and give the same instance maps.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage
from skimage.segmentation import watershed as flood

from benchmark.postproc.settings import Settings


@dataclass(frozen=True)
class HVSettings(Settings):
    """Numbers of the post-processing.

    Attributes:
        threshold: "argmax": nucleus where its probability is > .5 (CellViT); "half": >= .5 (HoVer-Net).
        ksize: side of the Sobel kernel in pixels, odd, >= 3.
        object_size: markers smaller than this many pixels are dropped.
        component_size: nucleus components (4-connected) smaller than this are dropped; published 10.
        edge: markers are where the normalised gradient stays below this; published 0.4.
        opening: side in pixels, odd, of the ellipse that markers are opened with; published 5, 1 = no opening.
            It removes small nuclei.
    """

    threshold: str = "argmax"
    ksize: int = 21
    object_size: int = 10
    component_size: int = 10
    edge: float = 0.4
    opening: int = 5

    def __post_init__(self):
        if self.threshold not in ("argmax", "half"):
            raise ValueError(f"threshold is '{self.threshold}', expected 'argmax' or 'half'")
        for name, least in (("ksize", 3), ("opening", 1)):
            value = getattr(self, name)
            if type(value) is not int or value < least or value % 2 == 0:
                raise ValueError(f"{name} is {value}, expected an odd number >= {least}")
        self.check_count("object_size", "component_size")
        self.check_share("edge")

    @classmethod
    def cellvit40(cls) -> "HVSettings":
        """CellViT and CellVTA at 40x (0.25 µm/px)."""
        return cls()

    @classmethod
    def cellvit20(cls) -> "HVSettings":
        """CellViT and CellVTA at 20x (0.5 µm/px)."""
        return cls(ksize=11, object_size=3)

    @classmethod
    def hovernet(cls) -> "HVSettings":
        """HoVer-Net, at any magnification."""
        return cls(threshold="half")

    @classmethod
    def for_mpp(cls, mpp: float) -> "HVSettings":
        """CellViT's settings for the nearer of the two published resolutions, 0.25 and 0.5 µm/px."""
        return cls.cellvit40() if mpp < 0.375 else cls.cellvit20()


def foreground(np_map: np.ndarray, settings: HVSettings) -> np.ndarray:
    """bool (H, W) nucleus pixels.

    Args:
        np_map: (2, H, W) logits or probabilities (background, nucleus), (H, W) probability of nucleus, or
            bool (H, W).

    Raises:
        ValueError: anything else.
    """
    np_map = np.asarray(np_map)
    if np_map.ndim == 2 and np_map.dtype == bool:
        return np_map
    if np_map.ndim == 3 and len(np_map) == 2:
        above, level = np_map[1], np_map[0]
    elif np_map.ndim == 2 and np_map.dtype.kind == "f":
        above, level = np_map, 0.5
    else:
        raise ValueError(
            "expected (2, height, width) logits, a (height, width) probability or a bool map, found "
            f"{np_map.dtype} {np_map.shape}"
        )
    return above > level if settings.threshold == "argmax" else above >= level


def watershed(np_map: np.ndarray, hv: np.ndarray, settings: HVSettings | None = None) -> np.ndarray:
    """Instances from a nucleus map and its distance maps.

    Args:
        np_map: as in `foreground`.
        hv: (2, H, W), channel 0 = x, 1 = y.
        settings: default HVSettings.cellvit40().

    Returns:
        int32 (H, W) instance ids in raster order of their markers, 0 = background; ids have gaps where small
        markers were dropped, as in the published code. Components without a marker are background. The
        distance maps are normalised over the whole image: a tile's result differs from its image's.

    Raises:
        ValueError: shapes that do not belong together.
    """
    settings = settings or HVSettings.cellvit40()
    nuclei = foreground(np_map, settings)
    hv = np.asarray(hv, np.float32)
    if hv.shape != (2, *nuclei.shape):
        raise ValueError(f"hv has shape {hv.shape}, expected {(2, *nuclei.shape)} to match the nucleus map")
    components, _ = ndimage.label(nuclei)
    nuclei = drop_small(components, settings.component_size) > 0
    if not nuclei.any():
        return np.zeros(nuclei.shape, np.int32)
    edges = np.maximum(_gradient(hv[0], 1, settings.ksize), _gradient(hv[1], 0, settings.ksize))
    # overall = max(edges - (1 - nuclei), 0) of the published code: edges lie in [0, 1], so 0 off the nuclei
    overall = np.multiply(edges, nuclei, dtype=np.float64)
    relief = (1.0 - overall) * nuclei
    for axis in (0, 1):
        relief = ndimage.correlate1d(relief, [0.25, 0.5, 0.25], axis, mode="mirror")
    markers = fill_holes(nuclei & (overall < settings.edge))
    markers = open_ellipse(markers, settings.opening)
    markers = drop_small(ndimage.label(markers)[0], settings.object_size)
    return flood(-relief, markers, mask=nuclei).astype(np.int32, copy=False)


def drop_small(labels: np.ndarray, size: int) -> np.ndarray:
    """Labels with fewer than `size` pixels become 0; the others keep their id."""
    keep = np.bincount(labels.ravel()) >= size
    keep[0] = False
    lookup = np.where(keep, np.arange(len(keep)), 0).astype(labels.dtype)
    return lookup[labels]


def fill_holes(mask: np.ndarray) -> np.ndarray:
    """Background not 4-connected to the image border becomes foreground (scipy's binary_fill_holes)."""
    outside, n = ndimage.label(~mask)
    open_air = np.zeros(n + 1, bool)
    for line in (outside[0], outside[-1], outside[:, 0], outside[:, -1]):
        open_air[line] = True
    open_air[0] = False
    return ~open_air[outside]


def open_ellipse(mask: np.ndarray, side: int = 5) -> np.ndarray:
    """Morphological opening with OpenCV's ellipse of an odd side (5: rows 00100/11111/11111/11111/00100; 3: a
    cross; 1: nothing happens).

    Erosion treats everything outside the image as foreground, dilation as background.
    """
    if side == 1:
        return mask
    return _stamp(_stamp(mask, side, True, np.logical_and), side, False, np.logical_or)


def _stamp(mask: np.ndarray, side: int, outside: bool, combine) -> np.ndarray:
    """Combine each pixel's neighbours under the ellipse, whose rows are runs centred on the pixel's column."""
    height, width = mask.shape
    reach = side // 2
    padded = np.pad(mask, reach, constant_values=outside)
    run, out, grown = padded[:, reach : reach + width].copy(), None, 0
    rows = [(round(math.sqrt(reach**2 - dy**2)), dy) for dy in range(-reach, reach + 1)]
    for half, dy in sorted(rows):  # from the shortest run to the longest: each grows out of the one before
        for shift in range(grown + 1, half + 1):
            for start in (reach - shift, reach + shift):
                combine(run, padded[:, start : start + width], out=run)
        grown = half
        row = run[reach + dy : reach + dy + height]
        out = row.copy() if out is None else combine(out, row, out=out)
    return out


def _gradient(values: np.ndarray, axis: int, ksize: int) -> np.ndarray:
    """float32 (H, W) in [0, 1]: 1 - the min-max normalised Sobel slope of the normalised map along `axis`."""
    derivative, smooth = _sobel(ksize)
    scaled = _unit_range(values).astype(np.float64)
    slope = ndimage.correlate1d(scaled, derivative, axis, mode="mirror")
    slope = ndimage.correlate1d(slope, smooth, 1 - axis, mode="mirror")
    return np.float32(1) - _unit_range(slope)


@functools.cache
def _sobel(ksize: int) -> tuple[np.ndarray, np.ndarray]:
    """Derivative and smoothing kernels: [-1, 1] * [1, 1]^(k-2) and [1, 1]^(k-1) by convolution."""
    smooth = np.ones(1)
    for _ in range(ksize - 2):
        smooth = np.convolve(smooth, [1.0, 1.0])
    return np.convolve(smooth, [-1.0, 1.0]), np.convolve(smooth, [1.0, 1.0])


def _unit_range(values: np.ndarray) -> np.ndarray:
    """(values - min) / (max - min) in float32; a constant map becomes 0.

    As in OpenCV, scale and shift of a float32 map are rounded to float32 and the sum is rounded once.
    """
    low, high = float(values.min()), float(values.max())
    scale = 1.0 / (high - low) if high - low > np.finfo(np.float64).eps else 0.0
    shift = -low * scale
    if values.dtype == np.float32:
        scale, shift = float(np.float32(scale)), float(np.float32(shift))
    return (values.astype(np.float64) * scale + shift).astype(np.float32)
