"""An image seen at another resolution, by one rule for `predict`, `evaluate` and `transfer`: RULE.

The image is resized to the network's micrometres per pixel: bilinear, with antialiasing where it shrinks. Its nuclei
are decoded there and brought back to the image's own pixels: a pixel takes the label that lies under its centre. Truth
is never resampled, but in the training on several sets (`seen_whole`). Resolutions that differ by at most 5 % are taken
for one, and nothing is resampled.
"""

from dataclasses import replace

import numpy as np

from benchmark.data.files.resolution import differs
from benchmark.data.nuclei import Nuclei, Sample

RULE = "bilinear-nearest"  # its name in a run's identity
LEAST = 2  # pixels a side that a network can see: edges are mirrored
BLURRED = 1.5  # times as many micrometres per pixel as a method sees, from which on that is said


def sides(shape: tuple[int, ...], mpp: float, seen: float) -> tuple[int, int]:
    """Height and width at which a network that sees `seen` µm/px sees an image of this shape (H, W, …)."""
    scale = mpp / seen if differs(mpp, seen) else 1.0
    return round(shape[0] * scale), round(shape[1] * scale)


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """uint8 (H, W, 3) to (height, width, 3)."""
    import torch  # not with this module: the processes that decode do without it, see `decode_score`
    import torch.nn.functional as F

    values = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
    values = F.interpolate(values, size=(height, width), mode="bilinear", align_corners=False, antialias=True)
    return values[0].round().clamp(0, 255).byte().permute(1, 2, 0).numpy()


def brought_back(nuclei: Nuclei, shape: tuple[int, int], mpp: float, seen: float) -> Nuclei:
    """Nuclei decoded at `seen` µm/px, in the pixels of their image of this shape (H, W) and `mpp`.

    A nucleus under the centre of no pixel is dropped.
    """
    scale = mpp / seen
    rows, columns = (
        np.minimum(((np.arange(length) + 0.5) * scale).astype(int), end - 1)
        for length, end in zip(shape, nuclei.instances.shape)
    )
    place = np.ix_(rows, columns)
    type_map = None if nuclei.type_map is None else nuclei.type_map[place]
    return replace(nuclei.with_map(nuclei.instances[place], type_map), mpp=mpp)


def seen_whole(sample: Sample, mpp: float) -> Sample:
    """A sample as it would be at `mpp` µm/px, for training: the image resized, a pixel of its labels the label under
    its centre. A nucleus under the centre of no pixel is dropped; a sample of this resolution is returned as it is."""
    nuclei = sample.nuclei
    if not differs(nuclei.mpp, mpp):
        return sample
    height, width = (max(side, LEAST) for side in sides(sample.image.shape, nuclei.mpp, mpp))
    return Sample(resized(sample.image, height, width), brought_back(nuclei, (height, width), mpp, nuclei.mpp))


def blurred(mpp: float, seen: float) -> str:
    """What to know of pixels that are enlarged by a half and more for a method that sees `seen` µm/px; "" else."""
    if mpp < BLURRED * seen:
        return ""
    return (
        f"{mpp:.4g} µm/px are enlarged to the method's {seen:.4g}: they show no more for it, and small nuclei may be "
        "missed"
    )
