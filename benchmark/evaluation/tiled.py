"""Prediction of x20 images in x40 tiles, for recipes whose `tiling` is not "none" (CoNIC; see docs/conic.md)."""

import torch
import torch.nn.functional as F

from benchmark.data.tiles import Tiling
from benchmark.layers.image_ops import windows


def of(method, tiling: str) -> str:
    """The tiling in force: an untrained method sees images as they are, its settings follow the resolution."""
    return tiling if method.trainable else "none"


def inputs(method, tiling: str) -> int:
    """Inputs of the image's own size that the network sees per image."""
    return 1 if of(method, tiling) == "none" else 4


def predict(method, images: torch.Tensor, tiling: str) -> dict[str, torch.Tensor]:
    """`method.predict`; with a tiling the maps are those of the tiles: (B, 4, C, S, S), vectors (B, 4, K).

    Args:
        images: float (B, 3, S, S) in [0, 1].

    Raises:
        InputError: images that are not square or whose side the tiling does not divide.
    """
    if tiling == "none":
        return method.predict(images)
    grid = Tiling.of(*images.shape[-2:])
    enlarged = F.interpolate(images.float(), size=(grid.whole, grid.whole), mode="bilinear", align_corners=False)
    tiles = windows(enlarged, grid.corners, grid.side)
    maps = method.predict(tiles.flatten(0, 1))
    return {k: v.unflatten(0, tiles.shape[:2]) for k, v in maps.items()}
