"""Small drawn scenes for tests of methods: disks apart, disks that touch, and batches made of them."""

import numpy as np
import torch

from benchmark.data.nuclei import Nuclei


def disks(side: int, diameter: float, gap: float, *, mpp: float = 0.25, shift: int = 0, empty: bool = False) -> Nuclei:
    """Ellipses of about `diameter` px on a square lattice, at least `gap` px apart, 3 px off the border."""
    step = diameter + gap
    first = 3 + shift % 8 + diameter / 2
    centres = np.arange(first, side - diameter / 2 - 3, step)
    places = [(y, x) for y in centres for x in centres]
    return _paint(side, [] if empty else places, diameter / 2, mpp, squeeze=True)


def crowd(side: int, diameter: float, mpp: float = 0.25) -> Nuclei:
    """Disks of `diameter` px on a hexagonal lattice, each touching its neighbours."""
    radius = diameter / 2
    places = []
    for row, y in enumerate(np.arange(radius + 3, side - radius - 3, radius * 3**0.5)):
        places += [(y, x) for x in np.arange(radius * (1 + row % 2) + 3, side - radius - 3, diameter)]
    return _paint(side, places, radius, mpp, squeeze=False)


def _paint(side: int, places: list, radius: float, mpp: float, squeeze: bool) -> Nuclei:
    rows, cols = np.mgrid[:side, :side]
    instances = np.zeros((side, side), np.int32)
    for k, (y, x) in enumerate(places):
        # between round and 1 : 0.95, so that not all are alike
        ry = radius * (1 - 0.05 * (k % 2)) if squeeze else radius
        inside = ((rows - y) / ry) ** 2 + ((cols - x) / radius) ** 2 < 1
        instances[inside & (instances == 0)] = k + 1
    types = np.arange(len(places), dtype=np.uint8) % 5 + 1
    return Nuclei(instances, types, mpp)


def patch(seed: int, side: int = 64, n: int = 60) -> Nuclei:
    """Crowded nuclei of 3 to 9 px at x20, touching and overlapping each other."""
    rng = np.random.default_rng(seed)
    labels, (rows, cols) = np.zeros((side, side), np.int32), np.indices((side, side))
    for k, (y, x) in enumerate(rng.integers(0, side, (n, 2))):
        a, b = rng.uniform(1.5, 4.5, 2)
        labels[((rows - y) / a) ** 2 + ((cols - x) / b) ** 2 <= 1] = k + 1
    return Nuclei.from_labels(labels, rng.integers(1, 7, int(labels.max()))[np.unique(labels)[1:] - 1], 0.5)


def batch_of(representation, scenes: list[Nuclei], input_side: int, tissues: int) -> tuple[torch.Tensor, dict]:
    """Float images (B, 3, input_side, input_side), scenes in their centres, and the batch for the loss."""
    rng = np.random.default_rng(0)
    side = scenes[0].instances.shape[0]
    start = (input_side - side) // 2
    pictures = 0.8 + 0.05 * rng.standard_normal((len(scenes), 3, input_side, input_side))
    for picture, nuclei in zip(pictures, scenes):
        stain = np.where(nuclei.instances > 0, 0.4 + 0.05 * nuclei.pixel_types(), 0)
        picture[:, start : start + side, start : start + side] -= stain
    targets = [representation.targets(nuclei) for nuclei in scenes]
    batch = {k: torch.from_numpy(np.stack([t[k] for t in targets])) for k in targets[0]}
    batch |= {
        "typed": torch.ones(len(scenes), dtype=torch.bool),
        "tissue": torch.arange(len(scenes)) % tissues,
    }
    return torch.from_numpy(pictures.clip(0, 1).astype(np.float32)), batch


def panoptic_quality(truth: Nuclei, found: Nuclei) -> float:
    """PQ at IoU > 0.5, from the definition: sum of IoU over (TP + FP / 2 + FN / 2)."""
    joint = np.zeros((len(truth) + 1, len(found) + 1))
    np.add.at(joint, (truth.instances.ravel(), found.instances.ravel()), 1)
    union = joint.sum(1, keepdims=True) + joint.sum(0, keepdims=True) - joint
    iou = (joint / union)[1:, 1:]
    matched = iou[iou > 0.5]
    total = (len(truth) + len(found)) / 2
    return float(matched.sum() / total) if total else 1.0
