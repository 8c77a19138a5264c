"""Panoptic quality from overlaps (Kirillov et al. 2019): PQ = DQ * SQ with pairs of IoU > 0.5.

mPQ is made of these: of an image in `protocols.base`, of a set in `aggregate`.
"""

from dataclasses import dataclass

import numpy as np

from .pairs import sum_by_pair


@dataclass(frozen=True)
class Tally:
    """Counts per group (image, or class): float64 or int64 arrays of one shape.

    tp pairs with IoU > 0.5, fp and fn unpaired predictions and truths, iou sum of the pairs' IoU.
    """

    tp: np.ndarray
    fp: np.ndarray
    fn: np.ndarray
    iou: np.ndarray

    def quality(self, dq_eps: float = 0.0, sq_eps: float = 1e-6):
        """(DQ, SQ, PQ): DQ = tp / (tp + fp/2 + fn/2 + dq_eps), SQ = iou / (tp + sq_eps), PQ = DQ * SQ; NaN where
        0/0. Without sq_eps SQ is undefined when nothing is paired, and PQ = iou / (tp + fp/2 + fn/2 + dq_eps)."""
        with np.errstate(invalid="ignore", divide="ignore"):
            nuclei = self.tp + 0.5 * self.fp + 0.5 * self.fn + dq_eps
            dq, sq = self.tp / nuclei, self.iou / (self.tp + sq_eps)
            return dq, sq, dq * sq if sq_eps else self.iou / nuclei


def tally(group: np.ndarray, true: np.ndarray, pred: np.ndarray, pixels: np.ndarray, n: int) -> Tally:
    """Count over all groups at once.

    Args:
        group: int (K,) in 0..n-1, the group of each overlap row.
        true, pred: int (K,) object of the row, numbered so that no object belongs to two groups; 0 = none.
        pixels: int (K,) common pixels; rows of the same (true, pred) are added.
        n: number of groups.
    """
    area_true, owner, n_true = _objects(group, true, pixels, n)
    area_pred, _, n_pred = _objects(group, pred, pixels, n)
    both = (true > 0) & (pred > 0)
    true, pred, shared = sum_by_pair(true[both], pred[both], pixels[both], len(area_pred))
    iou = shared / (area_true[true] + area_pred[pred] - shared)
    # Two objects of one side cannot both have IoU > 0.5 with the same object, so these pairs are one-to-one.
    hit = iou > 0.5
    group = owner[true[hit]]
    tp = np.bincount(group, minlength=n)
    return Tally(tp, n_pred - tp, n_true - tp, np.bincount(group, weights=iou[hit], minlength=n))


def _objects(group, label, pixels, n):
    """Area and group of each object (index = label), and the number of objects per group."""
    area = np.bincount(label, weights=pixels, minlength=1)
    owner = np.full(len(area), -1)
    owner[label] = group
    owner[0] = -1
    return area, owner, np.bincount(owner[owner >= 0], minlength=n)
