"""The classical baseline: dark discs are found, touching ones split, blank images empty, no types claimed."""

import numpy as np
import pytest
import torch

from benchmark.data.sources.synthetic import draw
from benchmark.methods.classical import Classical

GLASS, STROMA, NUCLEUS = (245, 236, 244), (222, 170, 205), (105, 70, 150)


def discs(centres, radius: float, side: int = 128) -> tuple[np.ndarray, np.ndarray]:
    """float32 (3, side, side) image of nuclei on stroma, int32 (side, side) truth."""
    y, x = np.mgrid[:side, :side]
    truth = np.zeros((side, side), np.int32)
    for k, (cy, cx) in enumerate(centres, 1):
        truth[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = k
    image = np.where(truth[..., None] > 0, NUCLEUS, STROMA) + np.random.default_rng(0).normal(0, 3, (side, side, 3))
    return np.moveaxis(image.clip(0, 255).astype(np.float32) / 255, -1, 0), truth


def matched(truth: np.ndarray, found: np.ndarray) -> int:
    """Number of true nuclei that a found one covers with IoU > 0.7."""
    hits = 0
    for k in range(1, truth.max() + 1):
        own = truth == k
        ids, counts = np.unique(found[own & (found > 0)], return_counts=True)
        hits += any(c / (own.sum() + (found == i).sum() - c) > 0.7 for i, c in zip(ids, counts))
    return hits


@pytest.mark.parametrize("mpp, radius", [(0.25, 10), (0.5, 6)])
def test_separated_discs(mpp, radius):
    centres = [(25, 25), (25, 70), (70, 30), (64, 64), (100, 100), (100, 20)]
    image, truth = discs(centres, radius)
    nuclei = Classical.representation.decode({"rgb": image}, mpp)
    assert len(nuclei) == matched(truth, nuclei.instances) == 6
    assert nuclei.mpp == mpp and nuclei.instances.dtype == np.int32 and nuclei.types.dtype == np.uint8
    assert not nuclei.types.any() and not nuclei.typed


def test_touching_discs_are_split():
    image, truth = discs([(40, 40), (40, 57), (90, 60), (90, 79)], 10)
    nuclei = Classical.representation.decode({"rgb": image}, 0.25)
    assert len(nuclei) == matched(truth, nuclei.instances) == 4


@pytest.mark.parametrize("colour", [GLASS, STROMA, (0, 0, 0), (255, 255, 255)])
@pytest.mark.parametrize("noise", [0, 4])
def test_blank_image_holds_no_nuclei(colour, noise):
    image = np.float32(colour)[:, None, None] / 255 + np.zeros((3, 64, 80), np.float32)
    image += np.random.default_rng(1).normal(0, noise / 255, image.shape).astype(np.float32)
    nuclei = Classical.representation.decode({"rgb": image}, 0.25)
    assert len(nuclei) == 0 and nuclei.instances.shape == (64, 80) and not nuclei.instances.any()


def test_beats_chance_on_tissue():
    hits = total = 0
    for k in range(6):
        sample = draw("Lung", 10_000 + k, 0)
        nuclei = Classical.representation.decode({"rgb": np.moveaxis(sample.image / 255, -1, 0)}, 0.25)
        hits, total = hits + matched(sample.nuclei.instances, nuclei.instances), total + len(sample.nuclei)
    assert hits > 0.2 * total


def test_is_a_method_without_training():
    method = Classical(classes=5, tissues=6)
    images = torch.rand(2, 3, 48, 52)
    assert not Classical.trainable and not list(method.parameters())
    assert set(Classical.presets) == {"debug", "small", "paper"} and Classical.arguments() == {}
    assert torch.equal(method.predict(images)["rgb"], images)
    assert (
        method.loss(method(images), {}) == {}
        and method.representation.targets(draw("Lung", 0, 0, size=64).nuclei) == {}
    )


def test_params_replace_defaults():
    image, _ = discs([(40, 40), (90, 90)], 10)
    assert len(Classical.representation.decode({"rgb": image}, 0.25, {"area": 100.0})) == 0
