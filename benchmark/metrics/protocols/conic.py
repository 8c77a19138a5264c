"""The metrics of the CoNIC challenge (Graham et al. 2021): PQ, mPQ+, R2 of counts."""

import numpy as np

from ..aggregate import nanmean
from ..overlap import dice, jaccard
from ..panoptic import tally
from ..records import Records
from .base import Protocol, both_typed, register
from .pannuke import tally_types


@register
class CoNIC(Protocol):
    """False positives count everywhere, and an image without nuclei scores 0.

    Binary PQ: whole instances, IoU > 0.5, DQ = tp / (tp + fp/2 + fn/2 + 1e-6), SQ = sum IoU / (tp + 1e-6); mean over
    all images, those where truth and prediction are both empty with 0.
    mPQ+: objects are (id, type) pieces; tp, fp, fn and sum of IoU of each type are added up over the set, one PQ per
    type follows, and mPQ is their mean. A type that occurs nowhere has PQ 0, not NaN, and lowers the mean.
    R2: per type 1 - sum (t - p)^2 / sum (t - mean t)^2 over images, t and p the numbers of nuclei by majority type
    in the FULL image (the challenge's own counts.csv holds the central 224 x 224 px); mean over types. Where the true
    count of a type never changes, R2 is 1 if all counts are right and 0 otherwise.

    PQ of one image's types (PQ_<k> and mPQ of `images`) is NaN where neither side holds the type; the challenge defines
    them for sets only. The official code fails on maps without background; the definitions hold there. Dice, Jaccard
    and AJI are not part of the protocol: image means. It needs a typed truth: otherwise only the binary PQ has a value.
    """

    name, place, version = "conic", 40, 1
    made_for, n_classes = "CoNIC", 6
    by_image = True
    multi = of_class = "class_pooled"

    def image_scores(self, records: Records, n_classes: int) -> dict[str, np.ndarray]:
        """Adds true_<k> and pred_<k>, the number of nuclei of each type."""
        columns, everywhere = records.columns, np.ones(records.columns.n, bool)
        tallies, _ = tally_types(records, n_classes)
        binary = tally(columns.image, columns.true, columns.pred, columns.pixels, columns.n)
        out = self.panoptic(records, n_classes, tallies, dict.fromkeys(tallies, everywhere), binary, everywhere)
        out |= {"Dice": dice(records), "Jaccard": jaccard(records)}
        for side in ("true", "pred"):
            nuclei = columns.side[side]
            for k in tallies:
                out[f"{side}_{k}"] = np.bincount(nuclei["image"][nuclei["type"] == k], minlength=columns.n)
        return out

    def summary(self, records: Records, classes: list[str], tissues: list[str]) -> dict[str, float]:
        """Adds R2 and R2_<class>. mPQ is the challenge's mPQ+."""
        images = self.columns(records, len(classes))
        out = self.means(images, classes, tissues)
        usable = both_typed(records, len(classes))
        r2 = {
            name: _r2(images[f"true_{k}"][usable], images[f"pred_{k}"][usable])
            for k, name in enumerate(classes, start=1)
        }
        return out | {"R2": nanmean(list(r2.values()))} | {f"R2_{name}": v for name, v in r2.items()}


def _r2(true: np.ndarray, pred: np.ndarray) -> float:
    """Coefficient of determination of counts; NaN without images."""
    if not len(true):
        return float("nan")
    wrong, spread = float(((true - pred) ** 2).sum()), float(((true - true.mean()) ** 2).sum())
    return 1 - wrong / spread if spread > 0 else float(wrong == 0)
