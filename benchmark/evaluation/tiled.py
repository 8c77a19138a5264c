"""Prediction of x20 images in x40 tiles, for recipes whose `tiling` is not "none" (CoNIC; see docs/conic.md)."""

import numpy as np
import torch
import torch.nn.functional as F

from benchmark.data.nuclei import Nuclei
from benchmark.data.tiles import Tiling
from benchmark.layers.image_ops import windows
from benchmark.postproc.stitch import STITCHED


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


def decode(cls, maps: dict[str, np.ndarray], mpp: float, tiling: str) -> Nuclei:
    """`cls.decode` of one image's maps; with a tiling of each tile's, stitched. mpp: of the image, not of its tiles."""
    if tiling == "none":
        return cls.decode(maps, mpp, None)
    grid = Tiling.of(*maps["np"].shape[-2:])
    tiles = [
        cls.decode({k: v[t] for k, v in maps.items()}, grid.enlarged_mpp(mpp), None) for t in range(len(grid.corners))
    ]
    return STITCHED[tiling](tiles, grid.corners, "tp" in maps, mpp)


def ideal(cls, truth: Nuclei, classes: int, tiling: str) -> dict[str, np.ndarray]:
    """The maps, shaped as by `predict`, that a perfect network would give for one image."""
    if tiling == "none":
        return cls.ideal(cls.targets(truth), classes)
    grid = Tiling.of(*truth.instances.shape)
    maps = [cls.ideal(cls.targets(grid.nuclei(truth, corner)), classes) for corner in grid.corners]
    return {k: np.stack([tile[k] for tile in maps]) for k in maps[0]}
