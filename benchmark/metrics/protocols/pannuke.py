"""The official PanNuke metrics (Gamper et al. 2020)."""

import numpy as np
import pandas as pd

from ..overlap import dice, jaccard
from ..panoptic import tally
from ..records import Records
from ..runs import dense
from .base import Protocol, frame, summarise, typed


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
    The protocol defines no detection score.
    """

    name, version = "pannuke", 1

    def images(self, records: Records, n_classes: int) -> pd.DataFrame:
        columns = records.columns
        n, image, pixels = columns.n, columns.image, columns.pixels
        true = _pieces(columns.true, columns.true_type, typed(records, "true", n_classes)[image], n_classes)
        pred = _pieces(columns.pred, columns.pred_type, typed(records, "pred", n_classes)[image], n_classes)
        tallies, scored = {}, {}
        for k in range(1, n_classes + 1):
            of_true, of_pred = columns.true_type == k, columns.pred_type == k
            rows = of_true | of_pred
            tallies[k] = tally(image[rows], (true * of_true)[rows], (pred * of_pred)[rows], pixels[rows], n)
            scored[k] = tallies[k].tp + tallies[k].fn > 0
        binary = tally(image, true, pred, pixels, n)
        out = frame(records, n_classes, tallies, scored, binary, binary.tp + binary.fn > 0, eps=0.0)
        out["Dice"], out["Jaccard"] = dice(records), jaccard(records)
        return out

    def summary(self, records: Records, classes: list[str], tissues: list[str]) -> dict[str, float]:
        """bPQ, bDQ, bSQ, mPQ, mDQ, mSQ as means over tissues; image_mean/bPQ, image_mean/mPQ; PQ_<class>;
        Dice, Jaccard, AJI as image means; tissue/<name>/bPQ and /mPQ."""
        images = self.images(records, len(classes))
        panoptic = ("bPQ", "bDQ", "bSQ", "mPQ", "mDQ", "mSQ")
        means, entries, over_tissues = summarise(images, classes, tissues, panoptic)
        headline = {f"image_mean/{c}": means[c] for c in ("bPQ", "mPQ")}
        return {**means, **over_tissues, **headline, **entries}


def _pieces(nucleus: np.ndarray, type_: np.ndarray, typed: np.ndarray, n_classes: int) -> np.ndarray:
    """Object number of each overlap row: (nucleus, type) where typed, the whole nucleus elsewhere; 0 =
    none."""
    known = (type_ > 0) & (type_ <= n_classes)
    key = np.where(typed, np.where(known, nucleus * 256 + type_, 0), nucleus * 256)
    return dense(np.where(nucleus > 0, key, 0))[1]
