"""The metrics of HoVer-Net (Graham et al. 2019)."""

import numpy as np

from ..aggregate import nanmean
from ..overlap import aji_plus, dice, dice2, jaccard
from ..panoptic import tally
from ..records import Records
from .base import Protocol, both_typed, pair_counts, register
from .cellvit import published_detection
from .objects import pairs_within


@register
class HoVerNet(Protocol):
    """Instance scores per image and their mean; classification as F1 over centroids.

    Instance scores, whole instances whatever their type: PQ with IoU > 0.5, DQ = tp / (tp + fp/2 + fn/2),
    SQ = sum IoU / (tp + 1e-6); Dice of the foregrounds; dice2 = 2 sum I / sum (|t| + |p|) over all overlapping pairs;
    AJI, in which a prediction may be taken twice; AJI+, one-to-one. An image without true nuclei scores 0 where
    something was predicted.
    Detection: Hungarian pairing of all centroids within an image, pairs beyond 12 px dropped, an empty side becomes a
    nucleus of type 0 at (0, 0); nuclei of both sides obey the outline rule (objects.has_outline). F1 over all nuclei,
    accuracy = pairs of equal type / pairs, F1_<class> with confusions counted twice; all pooled over images.

    There is no PQ per type: mPQ and PQ_<class> are NaN. Jaccard is not part of the protocol.
    Where the official code fails: both sides empty, 0 / 0 = NaN, left out of the mean; AJI of an empty prediction 0;
    dice2 without any overlapping pair NaN; no pair in the whole set, F1 0; maps without background as defined.
    """

    name, place, version = "hovernet", 50, 1
    made_for, n_classes = "CoNSeP", None
    by_image = True
    dq_eps = 0.0

    def image_scores(self, records: Records, n_classes: int) -> dict[str, np.ndarray]:
        """Adds AJI+, dice2 and n_true, n_pred, n_paired, the detection counts with dummies."""
        columns = records.columns
        binary = tally(columns.image, columns.true, columns.pred, columns.pixels, columns.n)
        some = binary.tp + binary.fp + binary.fn > 0
        out = self.panoptic(records, n_classes, {}, {}, binary, some)
        out |= {"Dice": dice(records), "Jaccard": jaccard(records), "AJI+": aji_plus(records), "dice2": dice2(records)}
        out |= {f"PQ_{k}": np.full(columns.n, np.nan) for k in range(1, n_classes + 1)}
        return out | pair_counts(self.pairs(records), columns.n)

    def pairs(self, records: Records):
        """(true points, predicted points, rows, cols): the detection pairs true[rows] - pred[cols] of all images."""
        return pairs_within(records, np.full(records.columns.n, 12.0))

    def summary(self, records: Records, classes: list[str], tissues: list[str]) -> dict[str, float]:
        """Adds AJI+, dice2, F1, precision, recall, accuracy and F1_<class>, precision_<class>, recall_<class>."""
        images = self.columns(records, len(classes))
        out = self.means({name: v for name, v in images.items() if not name.startswith("PQ_")}, [], tissues)
        out |= {f"PQ_{name}": float("nan") for name in classes}
        out |= {score: nanmean(images[score]) for score in ("AJI+", "dice2")}
        usable = both_typed(records, len(classes))
        pairs = self.pairs(records)
        true, pred, rows, cols = pairs
        inside = usable[true.image[rows]]
        same = true.type[rows[inside]] == pred.type[cols[inside]]
        out["accuracy"] = float(same.mean()) if len(same) else float("nan")
        return out | published_detection(pairs, classes, usable)
