"""How images are predicted when a method is evaluated, and what its outputs must be."""

from dataclasses import dataclass

import numpy as np

from benchmark.runtime.errors import InputError


@dataclass(frozen=True)
class Prediction:
    """Settings of the forward passes over a validation or test side.

    Attributes:
        precision: number format, as in `runtime.precision.precision_on`: "auto", "fp32", "bf16" or "fp16".
        tiling: "none", or how images are predicted in x40 tiles: a key of `postproc.stitch.STITCHED`.
        batch: images per forward pass.
        mpp: micrometres per pixel at which the network sees images, see `evaluation.resampling`; None: as they are.
    """

    precision: str
    tiling: str
    batch: int
    mpp: float | None = None


def check_finite(maps: dict[str, np.ndarray], image: str) -> None:
    """Refuse outputs that are not finite: decoded, they are an image without nuclei or of noise, and a score like any.

    Args:
        maps: raw maps of one image by name, or `Representation.condensed` ones.
        image: which one, the beginning of the sentence.

    Raises:
        InputError: a map holds NaN or infinity, or an integer below 0 in their place.
    """
    for name, values in maps.items():
        if not (np.isfinite(values) if values.dtype.kind == "f" else values >= 0).all():
            raise InputError(
                f"{image}: expected finite outputs of the method, found NaN or infinity in '{name}'; its weights or "
                "their number format do not fit: use other weights, or recipe.precision=fp32."
            )


def stitching_version(tiling: str) -> int | None:
    """The number of a way of joining tiles that once gave other nuclei; None for one that never changed."""
    from benchmark.postproc.stitch import VERSIONS

    return VERSIONS.get(tiling)
