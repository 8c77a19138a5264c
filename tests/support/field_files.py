"""Data sets of whole fields, written in the layouts of their owners: CoNSeP, MoNuSeg, MoNuSAC."""

from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from benchmark.data.sources.synthetic import draw


def field(seed: int, height: int = 96, width: int = 80):
    """image uint8 (H, W, 3), instances (H, W) of drawn nuclei and types 1..5 of each in ascending order of id."""
    sample = draw("Colon", seed, 0, size=max(height, width, 64))
    nuclei = sample.nuclei.crop(0, 0, height, width)
    return sample.image[:height, :width], nuclei.instances, nuclei.types


def consep(root: Path, train: int = 5, test: int = 3, shape=(96, 80)) -> Path:
    """CoNSeP with a few small images; ids have gaps, and types run to 7."""
    for side, n in (("Train", train), ("Test", test)):
        for name in ("Images", "Labels"):
            (root / side / name).mkdir(parents=True)
        for i in range(1, n + 1):
            image, instances, types = field(100 * (side == "Test") + i, *shape)
            types = (types + i) % 7 + 1
            consep_image(root / side, f"{side.lower()}_{i}", image, instances * 3, types)
    return root


def consep_image(folder: Path, stem: str, image, instances, types) -> None:
    """One image of CoNSeP: instances with any ids, types in ascending order of id."""
    Image.fromarray(image).save(folder / "Images" / f"{stem}.png")
    ids = np.unique(instances[instances > 0])
    table = np.zeros(int(instances.max(initial=0)) + 1, np.int32)
    table[ids] = types
    centroid = np.array([[x.mean(), y.mean()] for y, x in (np.nonzero(instances == k) for k in ids)]).reshape(-1, 2)
    content = {"inst_map": instances.astype(np.float64), "type_map": table[instances].astype(np.float64)}
    content |= {"inst_type": np.asarray(types, np.float64).reshape(-1, 1), "inst_centroid": centroid}
    scipy.io.savemat(folder / "Labels" / f"{stem}.mat", content)
