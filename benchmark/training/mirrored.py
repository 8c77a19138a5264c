"""What of the training crops are no pixels of the images: where an image is smaller than the crop it is mirrored."""

import numpy as np

from benchmark.data.joint_sides import JointSubset
from benchmark.data.store.prepare import Prepared
from benchmark.data.tiles import Tiles
from benchmark.evaluation.resampling import sides

SAID_FROM = 0.1  # mean share of a crop; images a little smaller than the crop are common and do little


def remarks(training, data: Prepared, crop: int) -> list[str]:
    """A sentence for each data set of a training side whose crops are mirrored by SAID_FROM and more.

    Args:
        training: `Subset`, `Patches`, `Tiles` or `JointSubset` of `data`.
        crop: side in px that is supervised.
    """
    if not isinstance(training, JointSubset):
        return _remark(data.name, _shapes(training), crop)
    lines = []
    for one, own in zip(training.sets, data.sets):
        seen = [sides(shape, own.mpp, data.mpp) for shape in one.images.shapes]
        lines += _remark(f"{data.name}: {one.label}", seen, crop)
    return lines


def _shapes(training) -> list[tuple[int, int]]:
    # tiles have the sides of the patches that they are cut from
    return [s for one in training.subsets for s in one.shapes] if isinstance(training, Tiles) else training.shapes


def _remark(name: str, shapes: list[tuple[int, int]], crop: int) -> list[str]:
    if not shapes:
        return []
    inside = np.minimum(np.array(shapes, np.int64), crop)
    share = 1 - inside.prod(1).mean() / crop**2
    if share < SAID_FROM:
        return []
    small, shorter = int((inside < crop).any(1).sum()), int(np.median(np.array(shapes).min(1)))
    return [
        f"{name}: {small} of {len(shapes)} training images or patches are smaller than recipe.crop={crop}: on average "
        f"{share:.0%} of a crop are mirrored pixels, whose nuclei count as background; set "
        f"recipe.crop={max(16, shorter)} or less."
    ]
