"""Images whose colours say which nucleus each pixel has: methods that read them decode a perfect prediction.

numpy only, so that worker processes decode without torch; `coded_methods` makes methods of them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmark.data.nuclei import Nuclei
from benchmark.postproc.targets import hv_targets
from benchmark.representations.base import Representation
from benchmark.representations.hv import HV

GREEN = 200  # of all coded pixels: they count as tissue, and what lies around, white or grey, is no nucleus


def by_id(instances: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3): red and blue are the id, high and low byte."""
    high, low = np.divmod(instances, 256)
    return np.stack([high, np.full_like(high, GREEN), low], -1).astype(np.uint8)


def decode_ids(outputs: dict[str, np.ndarray], mpp: float, params=None) -> Nuclei:
    """Nuclei of maps "rgb" (3, H, W) in [0, 1]; the type is 1 + id % 3, the score (id % 100) / 100."""
    red, green, blue = np.rint(outputs["rgb"] * 255).astype(np.int64)
    instances = np.where(green == GREEN, red * 256 + blue, 0)
    ids = np.unique(instances[instances > 0])
    nuclei = Nuclei.from_labels(instances, 1 + ids % 3, mpp)
    return Nuclei(nuclei.instances, nuclei.types, mpp, (ids % 100 / 100).astype(np.float32))


def by_distance(instances: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3): red is 255 in a nucleus, green and blue are its horizontal and vertical distances."""
    hv = np.rint((hv_targets(instances) + 1) * 127)
    return np.stack([np.where(instances > 0, 255, 0), *hv], -1).astype(np.uint8)


def decode_distances(outputs: dict[str, np.ndarray], mpp: float, params=None) -> Nuclei:
    """Nuclei by CellViT's decoding of the maps that the colours stand for."""
    red, *hv = outputs["rgb"] * 255
    maps = {"np": np.stack([127 - red, red - 127]), "hv": np.stack(hv) / 127 - 1}
    return HV().decode({name: values.astype(np.float32) for name, values in maps.items()}, mpp)


@dataclass(frozen=True)
class Decoder(Representation):
    """The part of a representation that predicting needs: a function that decodes raw maps."""

    function: Callable[..., Nuclei]

    def decode(self, maps: dict[str, np.ndarray], mpp: float, settings=None) -> Nuclei:
        return self.function(maps, mpp, settings)


def ellipse(instances: np.ndarray, y: float, x: float, high: float, wide: float) -> None:
    """Add a nucleus with these half axes over what is there."""
    rows, columns = np.ogrid[: instances.shape[0], : instances.shape[1]]
    inside = ((rows - y) / high) ** 2 + ((columns - x) / wide) ** 2 <= 1
    instances[inside] = instances.max() + 1


def scattered(height: int, width: int, seed: int = 0, spacing: int = 34, least: float = 4) -> np.ndarray:
    """int64 (H, W): nuclei of half axes from `least` px to what a jittered grid has room for, a pixel or more apart."""
    rng = np.random.default_rng(seed)
    instances = np.zeros((height, width), np.int64)
    for y in range(spacing // 2, height + spacing // 2, spacing):
        for x in range(spacing // 2, width + spacing // 2, spacing):
            shift = rng.uniform(-3, 3, 2)
            ellipse(instances, y + shift[0], x + shift[1], *rng.uniform(least, spacing / 2 - 4, 2))
    return instances


def same(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two maps show the same nuclei, whatever their ids."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    one_to_one = all(len(set(side)) == pairs.shape[1] for side in pairs.tolist())
    return one_to_one and bool(((pairs[0] == 0) == (pairs[1] == 0)).all())
