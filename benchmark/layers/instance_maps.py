"""The torch part of the instance representations but HV: what a branch's output is, and its loss.

Targets and decoding are numpy and stand in `representations`.
"""

import torch.nn.functional as F
from torch import Tensor

PIXELS = 10.0  # of distance for an output of 1: the head's first outputs are near 0, distances are not


def stardist_maps(branches: dict[str, Tensor]) -> dict[str, Tensor]:
    """prob as it is, dist (B, rays, H, W) in pixels."""
    return branches | {"dist": PIXELS * branches["dist"]}


def stardist_terms(outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of prob and dist, with the terms and weights of the authors' package (`stardist` 0.9, models/base.py)."""
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
    """Of cellprob and flow, with the terms and weights of the authors' package (`cellpose` 4.2, train.py)."""
    return {
        "cellprob_bce": F.binary_cross_entropy_with_logits(
            outputs["cellprob"][:, 0].float(), batch["cellprob"].float()
        ),
        "flow_mse": F.mse_loss(outputs["flow"].float(), 5 * batch["flow"]) / 2,
    }


MAPS = {"hv": dict, "stardist": stardist_maps, "flows": dict}  # of the branches' outputs
TERMS = {"stardist": stardist_terms, "flows": flow_terms}
