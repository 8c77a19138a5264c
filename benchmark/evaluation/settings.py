"""How images and slides of one's own are predicted."""

from dataclasses import dataclass

from benchmark.data.files.resolution import LEAST, MOST
from benchmark.runtime.errors import InputError

LEAST_TILE, MOST_TILE = 128, 8192  # px a side; the largest take 3 GB of memory each
ASSUMED = 0.25  # micrometres per pixel of images that state none


@dataclass(frozen=True)
class Settings:
    """Settings of `predict`.

    Attributes:
        mpp: micrometres per pixel of the images, and of slides at their finest level; None: what each states.
        window: side in px of what the network sees at once. margin: px of it that only give context.
        batch: windows per forward pass.
        precision: "fp32", "auto", "bf16" or "fp16", as in `runtime.precision.precision_on`.
        tile: of slides, side in px, about, of what is decoded at once.
        everywhere: of slides, whether glass is predicted too.
        workers: of slides, processes that decode at most; they decide no result.
    """

    mpp: float | None = None
    window: int = 256
    margin: int = 32
    batch: int = 8
    precision: str = "fp32"
    tile: int = 1152
    everywhere: bool = False
    workers: int = 4

    def check(self, dashes: str = "") -> None:
        """Raises InputError for a resolution that no microscope has, or windows or tiles that make no sense.

        Args:
            dashes: before their names, where these are options of the command line.
        """
        if self.mpp is not None and not LEAST <= self.mpp <= MOST:
            raise InputError(
                f"{dashes}mpp is {self.mpp}; expected micrometres per pixel between {LEAST:g} and {MOST:g}."
            )
        if self.window < 32 or self.window % 16 or not 0 <= self.margin < self.window // 2:
            raise InputError(
                f"{dashes}window is {self.window} and {dashes}margin {self.margin}; expected a multiple of 16 of at "
                "least 32 and a margin below half of it."
            )
        if self.batch < 1:
            raise InputError(f"{dashes}batch is {self.batch}; expected a whole number of at least 1.")
        if self.workers < 1:
            raise InputError(f"{dashes}workers is {self.workers}; expected a whole number of at least 1.")
        if not LEAST_TILE <= self.tile <= MOST_TILE:
            raise InputError(f"{dashes}tile is {self.tile}; expected {LEAST_TILE} to {MOST_TILE} pixels.")
