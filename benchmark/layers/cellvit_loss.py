"""The training loss that CellViT and CellVTA share: instances as they are represented, types and tissue alike."""

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from benchmark.layers.instance_maps import TERMS
from benchmark.layers.losses import dice, focal_tversky, mc_focal_tversky, mse, msge, onehot, xentropy


@dataclass(frozen=True)
class LossConfig:
    """Quirks of the published code's loss functions, each a switch; see `layers.losses`.

    Attributes:
        double_softmax: True as published: the focal Tversky losses take the softmax of probabilities.
        cross_msge: True as published: `losses.msge` compares each map's slope across its own direction.
    """

    double_softmax: bool = True
    cross_msge: bool = True


def cellvit_loss(
    outputs: dict[str, Tensor],
    batch: dict[str, Tensor],
    config: LossConfig = LossConfig(),
    instances: str = "hv",
) -> dict[str, Tensor]:
    """Named, weighted terms (Hörst et al. 2024, section 3.3; weights of the published configurations).

    Args:
        outputs: maps of the instances, such as np (B, 2, H, W), hv (B, 2, H, W), and tp (B, C + 1, H, W),
            tissue (B, T) where they exist.
        batch: targets of the instances, such as np (B, H, W), hv (B, 2, H, W); tp (B, H, W), typed (B,) bool,
            tissue (B,) int64, -1 = unknown.
        config: quirks of the published code.
        instances: how nuclei are represented: "hv" or a key of `instance_maps.TERMS`.
    """
    terms = hv_terms(outputs, batch, config) if instances == "hv" else TERMS[instances](outputs, batch)
    if "tp" in outputs:
        types, typed = onehot(batch["tp"], outputs["tp"].shape[1]), batch["typed"]
        terms["tp_ce"] = 0.5 * xentropy(outputs["tp"], types, weight=typed)
        terms["tp_dice"] = 0.2 * dice(outputs["tp"], types, weight=typed)
        terms["tp_focal_tversky"] = 0.5 * mc_focal_tversky(
            outputs["tp"], types, double_softmax=config.double_softmax, weight=typed
        )
    if "tissue" in outputs:
        known = (batch["tissue"] >= 0).sum().clamp(min=1)
        total = F.cross_entropy(outputs["tissue"].float(), batch["tissue"], ignore_index=-1, reduction="sum")
        terms["tissue_ce"] = 0.1 * total / known
    return terms


def hv_terms(outputs: dict[str, Tensor], batch: dict[str, Tensor], config: LossConfig) -> dict[str, Tensor]:
    """Of np and hv, as published."""
    nuclei, hv = onehot(batch["np"], 2), batch["hv"]
    return {
        "np_focal_tversky": focal_tversky(outputs["np"], nuclei, double_softmax=config.double_softmax),
        "np_dice": dice(outputs["np"], nuclei),
        "hv_mse": 2.5 * mse(outputs["hv"], hv),
        "hv_msge": 8.0 * msge(outputs["hv"], hv, batch["np"], cross=config.cross_msge),
    }
