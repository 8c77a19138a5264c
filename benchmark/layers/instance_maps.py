"""The torch part of the instance representations but HV: what a branch's output is, and its loss.

Targets and decoding are numpy and stand in `representations`.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

PIXELS = 10.0  # of distance for an output of 1: the head's first outputs are near 0, distances are not
# logit of the object probability for an output of 0: a network without training proposes next to nothing. From ragged
# polygons at every pixel the suppression takes minutes an image, the package's too
RARE = -3.0
POINTS = 6  # that CPP-Net samples along a ray beside its beginning
AT_ONCE = 4  # rays that it refines at once outside training
# representation -> why its training on a GPU does not give the same bits in every run, whatever is asked of torch
OPEN_ORDER = {"cpp": "a GPU adds the gradients of `grid_sample` in an open order"}


def raw_maps(instances: str, branches: dict[str, Tensor], training: bool) -> dict[str, Tensor]:
    """The raw maps of a representation from the outputs of a decoder's branches; other branches stay as they are.

    Args:
        instances: name of the representation.
        branches: (B, C, H, W) each.
        training: also return what only the loss needs.
    """
    if instances in ("stardist", "cpp"):
        prob, dist = (branches[name].float() for name in ("prob", "dist"))  # half precision would round -3 + 0.01
        branches = branches | {"prob": prob + RARE, "dist": PIXELS * dist}
    return cpp_maps(branches, training) if instances == "cpp" else branches


def cpp_maps(branches: dict[str, Tensor], training: bool) -> dict[str, Tensor]:
    """CPP-Net's refinement (after Chen et al. 2023): dist from POINTS + 1 points along each ray.

    The points divide the ray from the pixel to its first distance evenly, both ends included. At each the network's
    distance along the same ray and a confidence are looked up (bilinear); its distance and the part of the ray that
    lies before it estimate the whole, and the estimates are averaged by the softmax of their confidences. Decided
    here, and not compared with the authors' code: the number of points, no gradient to where they lie, points beyond
    the image take the value at its edge, and the softmax is of the confidences themselves.

    Args:
        branches: prob, dist (B, rays, H, W) first distances in pixels, confidence (B, rays, H, W).
        training: keep the first distances, as `first`, for their loss. Else AT_ONCE rays are refined at a time, since
            all points of all rays take some 40 times the memory of `dist`; the gradient needs them anyway.
    """
    first, confidence = branches["dist"].float(), branches["confidence"].float()
    rays = first.shape[1]
    angles = torch.arange(rays, device=first.device) * (2 * math.pi / rays)
    others = {name: values for name, values in branches.items() if name != "confidence"}
    if training:
        return others | {"dist": refined(first, confidence, angles), "first": first}
    parts = [slice(start, start + AT_ONCE) for start in range(0, rays, AT_ONCE)]
    return others | {"dist": torch.cat([refined(first[:, p], confidence[:, p], angles[p]) for p in parts], 1)}


def refined(first: Tensor, confidence: Tensor, angles: Tensor) -> Tensor:
    """The distances (B, R, H, W) of `cpp_maps` along some rays.

    Args:
        first, confidence: float32 (B, R, H, W), distances in pixels and logits.
        angles: (R,) of the rays, in radians, see `postproc.star_polygons.unit_circle`.
    """
    batch, rays, height, width = first.shape
    rows, columns = (torch.arange(n, device=first.device, dtype=torch.float32) for n in (height, width))
    values = torch.stack([first, confidence], 2).flatten(0, 1)
    length = first.detach().clamp(min=0)
    estimates, weights = [first], [confidence]
    for point in range(1, POINTS + 1):
        before = length * (point / POINTS)
        y = rows[:, None] + before * torch.sin(angles)[:, None, None]
        x = columns + before * torch.cos(angles)[:, None, None]
        place = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], -1).flatten(0, 1)
        sampled = F.grid_sample(values, place, padding_mode="border", align_corners=False)
        sampled = sampled.unflatten(0, (batch, rays))
        estimates.append(sampled[:, :, 0] + before)
        weights.append(sampled[:, :, 1])
    share = torch.stack(weights).softmax(0)
    return (share * torch.stack(estimates)).sum(0)


def stardist_terms(outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of prob and dist, with the terms and weights of the authors' package (`stardist` 0.9, `stardist.models.base`)."""
    return {
        "prob_bce": F.binary_cross_entropy_with_logits(outputs["prob"][:, 0].float(), batch["prob"]),
        "dist_mae": 0.2 * distance_error(outputs["dist"], batch["dist"], batch["prob"]),
    }


def distance_error(dist: Tensor, true: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute error of distances in pixels, pixels weighted; where the weight is 0 distances are drawn to 0.

    Args:
        dist, true: (B, rays, H, W).
        weight: (B, H, W) object probability, 0 on background.
    """
    weight, dist = weight[:, None], dist.float()
    error = (weight * (dist - true).abs()).mean() / (weight.mean() + 1e-7)
    return error + 1e-4 * ((1 - weight) * dist.abs()).mean()


def flow_terms(outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of cellprob and flow, with the terms and weights of the authors' package (`cellpose` 4.2, `cellpose.train`)."""
    return {
        "cellprob_bce": F.binary_cross_entropy_with_logits(
            outputs["cellprob"][:, 0].float(), batch["cellprob"].float()
        ),
        "flow_mse": F.mse_loss(outputs["flow"].float(), 5 * batch["flow"]) / 2,
    }


def cpp_terms(outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """StarDist's, and the same of the first distances where they are there (in training)."""
    terms = stardist_terms(outputs, batch)
    if "first" in outputs:
        terms["first_mae"] = 0.2 * distance_error(outputs["first"], batch["dist"], batch["prob"])
    return terms


TERMS = {"stardist": stardist_terms, "flows": flow_terms, "cpp": cpp_terms}
