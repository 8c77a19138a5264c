"""The official PanNuke metrics (Gamper et al. 2020)."""

import numpy as np

from ..overlap import dice, jaccard
from ..panoptic import tally
from ..records import Records
from .base import Protocol, register, typed
from .objects import pieces


@register
class PanNuke(Protocol):
    """Objects are (id, type) pieces: a nucleus of mixed type counts once per type, pixels without a type are
    no object.

    Per image and type: PQ with IoU > 0.5, DQ = tp / (tp + fp/2 + fn/2), SQ = sum IoU / (tp + 1e-6); a type
    absent from the truth is NaN, so its false positives are free. bPQ: the same over all pieces. mPQ of an
    image: mean over types.
    Set: mean over images per tissue, then mean over the listed tissues that have a value; PQ_<type>: mean
    over images.

    Where the official code fails (a type or an image without background), the same definition is applied. An
    untyped truth or a predictor without types enters bPQ with whole nuclei. Dice, Jaccard (NaN when both
    foregrounds are empty) and AJI (HoVer-Net's) are not part of the official protocol and are image means.
    The protocol defines no detection score. The official file of class values repeats the connective value in
    the inflammatory row; the values here are those that the official code prints.
    """

    name, place, version = "pannuke", 10, 1
    made_for, n_classes = "PanNuke", 5
    by_image = True
    dq_eps = 0.0
    binary = multi = "tissue_mean"

    def image_scores(self, records: Records, n_classes: int) -> dict[str, np.ndarray]:
        columns = records.columns
        n, image, pixels = columns.n, columns.image, columns.pixels
        true = pieces(columns.true, columns.true_type, typed(records, "true", n_classes)[image], n_classes)
        pred = pieces(columns.pred, columns.pred_type, typed(records, "pred", n_classes)[image], n_classes)
        tallies, scored = tally_types(records, n_classes)
        binary = tally(image, true, pred, pixels, n)
        out = self.panoptic(records, n_classes, tallies, scored, binary, binary.tp + binary.fn > 0)
        return out | {"Dice": dice(records), "Jaccard": jaccard(records)}

    def summary(self, records: Records, classes: list[str], tissues: list[str]) -> dict[str, float]:
        return self.means(self.columns(records, len(classes)), classes, tissues)


def tally_types(records: Records, n_classes: int) -> tuple[dict, dict]:
    """Per type 1..C: the tally of (id, type) pieces, and the images (bool) whose truth holds the type."""
    columns = records.columns
    tallies, scored = {}, {}
    for k in range(1, n_classes + 1):
        of_true, of_pred = columns.true_type == k, columns.pred_type == k
        at = of_true | of_pred
        true, pred = (columns.true * of_true)[at], (columns.pred * of_pred)[at]
        tallies[k] = tally(columns.image[at], true, pred, columns.pixels[at], columns.n)
        scored[k] = tallies[k].tp + tallies[k].fn > 0
    return tallies, scored
