"""The floor: haematoxylin channel, Otsu threshold, distance-transform watershed. No training, no types.

Colour deconvolution after Ruifrok and Johnston (2001), threshold after Otsu (1979), seeds of the watershed at
the h-maxima of the distance to the background.
"""

import numpy as np
import torch
from scipy import ndimage
from skimage.color import rgb2hed
from skimage.filters import threshold_otsu
from skimage.measure import label
from skimage.morphology import h_maxima, remove_small_objects
from skimage.segmentation import watershed

from benchmark.data.nuclei import Nuclei
from benchmark.methods.base import Method
from benchmark.methods.registry import METHODS
from benchmark.representations.base import Representation

# micrometres; haematoxylin in the optical density of rgb2hed
DEFAULTS = {
    "smooth": 0.2,  # sigma of the smoothing of the haematoxylin channel
    "window": 8.0,  # sigma of the local mean that the global threshold is mixed with
    "mix": 0.6,  # share of the local mean in the threshold
    "contrast": 0.008,  # least difference of the means of the two sides, else the image holds no nuclei
    "area": 7.0,  # µm², smaller objects are dropped and smaller holes filled
    "depth": 0.1,  # h of the h-maxima
}


class Pixels(Representation):
    """The image itself: nothing is learnt, all is done by `decode`."""

    name = "pixels"

    def channels(self) -> dict[str, int]:
        return {"rgb": 3}

    def settings(self, mpp: float) -> dict[str, float]:
        return dict(DEFAULTS)

    def targets(self, nuclei: Nuclei) -> dict[str, np.ndarray]:
        """Nothing to learn."""
        return {}

    def decode(self, maps: dict[str, np.ndarray], mpp: float, settings: dict[str, float] | None = None) -> Nuclei:
        """Nuclei of one image.

        Args:
            maps: rgb float (3, H, W) in [0, 1]. mpp: micrometres per pixel.
            settings: values that replace DEFAULTS.

        Returns:
            Nuclei without types.
        """
        p = DEFAULTS | (settings or {})
        # darker than 0.04 there is no colour left to take apart, only noise
        rgb = np.moveaxis(np.asarray(maps["rgb"], np.float32), 0, -1).clip(0.04, 1)
        smooth = ndimage.gaussian_filter(rgb2hed(rgb)[..., 0].astype(np.float32), p["smooth"] / mpp)
        mask = _foreground(smooth, p, mpp)
        pixels = max(1, round(p["area"] / mpp**2))
        mask = ndimage.binary_opening(mask, iterations=max(1, round(0.25 / mpp)))
        mask = remove_small_objects(mask, max_size=pixels - 1)
        holes = remove_small_objects(~mask, max_size=4 * pixels)
        mask = ~holes
        if not mask.any():
            return Nuclei.from_labels(np.zeros(mask.shape, np.int32), None, mpp, typed=False)
        # px -> µm, so that `depth` means the same at every magnification
        distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask) * mpp, 0.25 / mpp)
        seeds = label(h_maxima(distance, p["depth"]))
        instances = watershed(-distance, seeds, mask=mask)
        instances[(np.bincount(instances.ravel()) < pixels)[instances]] = 0
        return Nuclei.from_labels(instances, None, mpp, typed=False)


@METHODS.register_module(name="classical")
class Classical(Method):
    """Thresholding and watershed with scikit-image; every network must beat it."""

    presets = {"debug": {}, "small": {}, "paper": {}}
    reference = "Ruifrok & Johnston 2001; Otsu 1979; Meyer 1994"
    licence = "Apache-2.0"
    trainable = False
    has_types = False
    multiple = 1
    representation = Pixels()

    def __init__(self, classes: int = 0, tissues: int = 0):
        super().__init__()
        self.classes, self.tissues = classes, tissues

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """rgb: the images (B, 3, H, W) in [0, 1], unchanged; the work is done by `Pixels.decode`."""
        return {"rgb": images}

    def loss(self, outputs: dict, batch: dict) -> dict[str, torch.Tensor]:
        """No terms."""
        return {}


def _foreground(stain: np.ndarray, p: dict, mpp: float) -> np.ndarray:
    """Pixels richer in haematoxylin than a threshold between Otsu's and the neighbourhood's mean."""
    if np.ptp(stain) < 1e-6:
        return np.zeros(stain.shape, bool)
    otsu = threshold_otsu(stain)
    above = stain > otsu
    if stain[above].mean() - stain[~above].mean() < p["contrast"]:
        return np.zeros(stain.shape, bool)
    local = ndimage.gaussian_filter(stain, p["window"] / mpp, mode="reflect")
    return stain > (1 - p["mix"]) * otsu + p["mix"] * np.maximum(local, otsu * 0.5)
