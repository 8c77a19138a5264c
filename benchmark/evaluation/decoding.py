"""Raw maps of an image to nuclei, and the perfect ones from them, whole or in x40 tiles; without torch."""

import numpy as np

from benchmark.data.nuclei import Nuclei
from benchmark.data.tiles import Tiling
from benchmark.postproc.stitch import STITCHED
from benchmark.representations.base import Representation


def decode(
    representation: Representation, maps: dict[str, np.ndarray], mpp: float, tiling: str, settings=None
) -> Nuclei:
    """`representation.decode` of one image's maps; with a tiling of each tile's, stitched.

    Args:
        mpp: micrometres per pixel of the image, not of its tiles.
        settings: of the decoding; None: the published ones.
    """
    if tiling == "none":
        return representation.decode(maps, mpp, settings)
    first = next(iter(representation.channels()))
    grid = Tiling.of(*maps[first].shape[-2:])
    fine = grid.enlarged_mpp(mpp)
    tiles = [
        representation.decode({k: v[t] for k, v in maps.items()}, fine, settings) for t in range(len(grid.corners))
    ]
    return STITCHED[tiling](tiles, grid.corners, "tp" in maps, mpp)


def ideal(representation: Representation, truth: Nuclei, classes: int, tiling: str) -> dict[str, np.ndarray]:
    """The maps, shaped as by `tiled.predict`, that a perfect network would give for one image."""
    if tiling == "none":
        return representation.ideal(representation.targets(truth), classes)
    grid = Tiling.of(*truth.instances.shape)
    targets = [representation.targets(grid.nuclei(truth, corner)) for corner in grid.corners]
    maps = [representation.ideal(of_tile, classes) for of_tile in targets]
    return {k: np.stack([tile[k] for tile in maps]) for k in maps[0]}
