"""Detection and classification of nuclei by their centroids."""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist


@dataclass(frozen=True)
class Points:
    """Nuclei as typed points, sorted by image: image int (N,), xy float64 (N, 2) px, type int (N,)."""

    image: np.ndarray
    xy: np.ndarray
    type: np.ndarray

    def with_dummies(self, n: int) -> "Points":
        """Give every image 0..n-1 without a nucleus one of type 0 at (0, 0), as the published evaluation
        does."""
        empty = np.setdiff1d(np.arange(n), self.image)
        image = np.concatenate([self.image, empty])
        order = np.argsort(image, kind="stable")
        return Points(
            image[order],
            np.concatenate([self.xy, np.zeros((len(empty), 2))])[order],
            np.concatenate([self.type, np.zeros(len(empty), self.type.dtype)])[order],
        )


def pair(true: Points, pred: Points, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (in true, in pred) of one-to-one pairs within each image.

    The Hungarian method minimises the total distance over ALL nuclei of the image, and pairs farther apart
    than radius (n,) px of the image are dropped afterwards: no gate, as in the published evaluation.
    """
    n = len(radius)
    true_at = np.searchsorted(true.image, np.arange(n + 1))
    pred_at = np.searchsorted(pred.image, np.arange(n + 1))
    rows, cols = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for k in range(n):
        a, b = slice(true_at[k], true_at[k + 1]), slice(pred_at[k], pred_at[k + 1])
        if a.start == a.stop or b.start == b.stop:
            continue
        distance = cdist(true.xy[a], pred.xy[b])
        row, col = linear_sum_assignment(distance)
        near = distance[row, col] <= radius[k]
        rows.append(row[near] + a.start)
        cols.append(col[near] + b.start)
    return np.concatenate(rows), np.concatenate(cols)


def scores(tp, fp, fn) -> tuple[float, float, float]:
    """(F1, precision, recall); NaN where 0/0."""
    return _ratio(2 * tp, 2 * tp + fp + fn), _ratio(tp, tp + fp), _ratio(tp, tp + fn)


def type_scores(counts: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """F1, precision and recall of each type with the weights of HoVer-Net (Graham et al. 2019, eq. F_c).

    counts (C,) arrays: tp paired, of this type on both sides; fp_t paired, only the prediction has the type;
    fn_t paired, only the truth has it; fp_d, fn_d unpaired. Confusions count twice: F1 = 2tp / (2tp + 2fp_t
    + 2fn_t + fp_d + fn_d), precision = tp / (tp + 2fp_t + fp_d), recall = tp / (tp + 2fn_t + fn_d); NaN
    where 0/0.
    """
    tp, fp_t, fn_t, fp_d, fn_d = (counts[k] for k in ("tp", "fp_t", "fn_t", "fp_d", "fn_d"))
    return {
        "F1": _ratio(2 * tp, 2 * (tp + fp_t + fn_t) + fp_d + fn_d),
        "precision": _ratio(tp, tp + 2 * fp_t + fp_d),
        "recall": _ratio(tp, tp + 2 * fn_t + fn_d),
    }


def type_counts(true: Points, pred: Points, rows, cols, n_types: int) -> dict[str, np.ndarray]:
    """The counts of `type_scores` for types 1..n_types."""

    def count(types):
        return np.bincount(types, minlength=n_types + 1)[1 : n_types + 1]

    t, p = true.type[rows], pred.type[cols]
    return {
        "tp": count(t[t == p]),
        "fp_t": count(p[t != p]),
        "fn_t": count(t[t != p]),
        "fp_d": count(np.delete(pred.type, cols)),
        "fn_d": count(np.delete(true.type, rows)),
    }


def _ratio(a, b):
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.asarray(a, np.float64) / np.asarray(b, np.float64)
    return float(value) if value.ndim == 0 else value
