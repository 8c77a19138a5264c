"""The torch part of the instance representations: CPP-Net's refinement and the losses, by hand."""

import math

import pytest
import torch

from benchmark.layers import instance_maps
from benchmark.layers.instance_maps import PIXELS, POINTS, TERMS, distance_error, raw_maps

RAYS = 8


def branches(first: torch.Tensor, confidence: torch.Tensor) -> dict[str, torch.Tensor]:
    return {"prob": torch.zeros(1, 1, *first.shape[-2:]), "dist": first / PIXELS, "confidence": confidence}


def test_refinement_averages_what_points_along_the_ray_say():
    """Pixels on a line know the distance to its end at 12; one is wrong, and the others outvote it."""
    width = 20
    to_end = (12.5 - torch.arange(width, dtype=torch.float32)).clamp(min=0)
    first = torch.zeros(1, RAYS, 3, width)
    first[0, 0] = to_end  # ray 0 goes to the right
    wrong = first.clone()
    wrong[0, 0, :, 2] = 6.0
    out = raw_maps("cpp", branches(wrong, torch.zeros_like(first)), training=True)
    points = [2 + 6.0 * k / POINTS for k in range(1, POINTS + 1)]
    expected = (6.0 + sum(12.5 - x + (x - 2) for x in points)) / (POINTS + 1)
    assert out["dist"][0, 0, 1, 2].item() == pytest.approx(expected, abs=1e-4)
    assert (
        torch.equal(out["first"], wrong)
        and "confidence" not in out
        and "first" not in raw_maps("cpp", branches(wrong, torch.zeros_like(first)), training=False)
    )
    assert torch.allclose(out["dist"][0, 1:], torch.zeros(1)), "rays of no length stay at their pixel"


def test_confidence_decides():
    first = torch.full((1, RAYS, 9, 9), 3.0)
    first[0, 0, 4, 4] = 2.0
    confidence = torch.full_like(first, -50)
    confidence[0, 0, 4, 4] = 50
    out = raw_maps("cpp", branches(first, confidence), training=False)
    assert out["dist"][0, 0, 4, 4].item() == pytest.approx(2, abs=1e-4), "of the pixel itself alone"


@pytest.mark.parametrize("at_once", [1, 3, RAYS])
def test_some_rays_at_a_time_are_refined_as_all_at_once(monkeypatch, at_once):
    generator = torch.Generator().manual_seed(0)
    first, confidence = (4 * torch.rand(2, RAYS, 11, 13, generator=generator) for _ in range(2))
    maps = {"prob": torch.zeros(2, 1, 11, 13), "dist": first / PIXELS, "confidence": confidence}
    sizes, refined = [], instance_maps.refined
    monkeypatch.setattr(instance_maps, "AT_ONCE", at_once)
    monkeypatch.setattr(instance_maps, "refined", lambda *rays: sizes.append(rays[0].shape[1]) or refined(*rays))
    whole = raw_maps("cpp", maps, training=True)["dist"]
    in_parts = raw_maps("cpp", maps, training=False)["dist"]
    assert torch.allclose(in_parts, whole, rtol=1e-6, atol=1e-6)  # sums of vectors of other lengths
    assert sizes[0] == RAYS and max(sizes[1:]) == at_once and sum(sizes[1:]) == RAYS


@pytest.mark.parametrize("ray", range(RAYS))
def test_points_lie_along_the_ray_of_the_targets(ray):
    """Ray k goes to (row, column) = (sin, cos) of 2 pi k / rays, as `postproc.star_distances` has it."""
    rows, columns = torch.meshgrid(torch.arange(21) - 10, torch.arange(21) - 10, indexing="ij")
    angle = 2 * math.pi * ray / RAYS
    along = rows * math.sin(angle) + columns * math.cos(angle)
    beside = (rows * math.cos(angle) - columns * math.sin(angle)).abs()
    first = torch.full((1, RAYS, 21, 21), 2.0)
    first[..., 10, 10] = 5.0
    confidence = torch.where((along > 4) & (beside < 2), 50.0, -50.0).expand_as(first)  # where the ray ends
    dist = raw_maps("cpp", branches(first, confidence), training=False)["dist"][0, :, 10, 10]
    assert dist.argmax() == ray and dist[ray].item() == pytest.approx(7, abs=0.5), "5 pixels to there, and 2 more"


def test_weighted_distance_error_by_hand():
    true, weight = torch.zeros(1, 2, 1, 2), torch.tensor([[[0.5, 0.0]]])
    dist = torch.tensor([[[[2.0, 10.0]], [[-4.0, 10.0]]]])
    expected = 3.0 + 1e-4 * (0.5 * 2 + 0.5 * 4 + 10 + 10) / 4
    assert distance_error(dist, true, weight).item() == pytest.approx(expected, rel=1e-5)


def test_perfect_maps_have_hardly_a_loss():
    flow = torch.nn.functional.normalize(torch.ones(1, 2, 4, 4), dim=1)
    inside = torch.ones(1, 4, 4)
    outputs = {"cellprob": torch.full((1, 1, 4, 4), 20.0), "flow": 5 * flow}
    terms = TERMS["flows"](outputs, {"cellprob": inside, "flow": flow})
    assert all(value.item() < 1e-6 for value in terms.values())
    outputs["flow"] = flow
    assert TERMS["flows"](outputs, {"cellprob": inside, "flow": flow})["flow_mse"].item() == pytest.approx(4.0)
