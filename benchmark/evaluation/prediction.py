"""How images are predicted when a method is evaluated."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Prediction:
    """Settings of the forward passes over a validation or test side.

    Attributes:
        precision: number format, as in `runtime.precision.precision_on`: "auto", "fp32", "bf16" or "fp16".
        tiling: "none", or how images are predicted in x40 tiles: a key of `postproc.stitch.STITCHED`.
        batch: images per forward pass.
    """

    precision: str
    tiling: str
    batch: int
