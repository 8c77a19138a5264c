"""Our own evaluation: the usual definitions without the published codes' accidents."""

import numpy as np

from ..detection import gated, in_images, scores, type_counts, type_scores
from ..overlap import dice, jaccard
from ..panoptic import tally
from ..records import Records, remembered
from .base import Protocol, both_typed, f1_by_tissue, pair_counts, register
from .objects import points_of

RADIUS = 3.0  # um, 12 px at x40


@register
class Clean(Protocol):
    """One nucleus is one object of one type on both sides, and what is undefined is left out, nothing else.

    Panoptic: IoU > 0.5, PQ = sum IoU / (tp + fp/2 + fn/2) without epsilons. bPQ: all nuclei; PQ of a type: the nuclei
    whose majority type it is. An image, or a type in it, counts when either side holds a nucleus: false positives
    on an image without true nuclei give 0, and only where both sides are empty there is no value (NaN). SQ is undefined
    where nothing is paired. mPQ of an image: mean over types; set: means over images, as `cellvit`, so that the two
    differ by their rules and not by their averaging.
    Detection: one-to-one pairs of centroids within 3 um, as many as possible, then the smallest total distance; no
    dummies. Per type the usual F1 = 2tp / (2tp + fp + fn), precision and recall: a confusion is one false positive
    of one type and one false negative of the other. accuracy: pairs of equal type / pairs. Pooled over images.
    Dice, Jaccard, AJI: NaN when both foregrounds are empty, 0 when one is; image means.
    """

    name, place, version = "clean", 60, 1
    made_for = "any data"
    by_image = True
    dq_eps = sq_eps = 0.0

    def image_scores(self, records: Records, n_classes: int) -> dict[str, np.ndarray]:
        """Adds n_true, n_pred, n_paired, the detection counts."""
        columns = records.columns
        n, image, pixels = columns.n, columns.image, columns.pixels
        type_of = [np.concatenate([[-1], columns.side[s]["type"].astype(np.int64)]) for s in ("true", "pred")]
        true_type, pred_type = type_of[0][columns.true], type_of[1][columns.pred]
        tallies, some = {}, {}
        for k in range(1, n_classes + 1):
            of_true, of_pred = true_type == k, pred_type == k
            rows = of_true | of_pred
            tallies[k] = tally(
                image[rows], (columns.true * of_true)[rows], (columns.pred * of_pred)[rows], pixels[rows], n
            )
            some[k] = np.ones(n, bool)
        binary = tally(image, columns.true, columns.pred, pixels, n)
        out = self.panoptic(records, n_classes, tallies, some, binary, binary.tp + binary.fp + binary.fn > 0)
        return out | {"Dice": dice(records), "Jaccard": jaccard(records)} | pair_counts(self.pairs(records), n)

    def pairs(self, records: Records):
        """(true points, predicted points, rows, cols): the detection pairs true[rows] - pred[cols] of all images."""
        return _pairs(records)

    def summary(self, records: Records, classes: list[str], tissues: list[str]) -> dict[str, float]:
        """Adds F1, precision, recall, accuracy, F1_<class>, precision_<class>, recall_<class>, tissue/<name>/F1."""
        images = self.columns(records, len(classes))
        out = self.means(images, classes, tissues)
        true, pred, rows, _ = pairs = self.pairs(records)
        paired = len(rows)
        values = scores(paired, len(pred.image) - paired, len(true.image) - paired)
        out |= dict(zip(("F1", "precision", "recall"), values, strict=True))
        true, pred, rows, cols = in_images(*pairs, both_typed(records, len(classes)))
        out["accuracy"] = float((true.type[rows] == pred.type[cols]).mean()) if len(rows) else float("nan")
        for score, of_class in type_scores(type_counts(true, pred, rows, cols, len(classes)), confused=1).items():
            out |= {f"{score}_{name}": float(v) for name, v in zip(classes, of_class, strict=True)}
        return out | f1_by_tissue(images, tissues)


@remembered
def _pairs(records: Records):
    true, pred = (points_of(records, s, np.ones(len(records.columns.side[s]["id"]), bool)) for s in ("true", "pred"))
    return true, pred, *gated(true, pred, RADIUS / records.columns.images["mpp"])
