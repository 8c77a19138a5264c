"""Detection and classification of nuclei by their centroids."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial import cKDTree
from scipy.spatial.distance import cdist

from .assignment import assign_sparse


@dataclass(frozen=True)
class Points:
    """Nuclei as typed points, sorted by image: image int (N,), xy float64 (N, 2) px, type int (N,)."""

    image: np.ndarray
    xy: np.ndarray
    type: np.ndarray

    def with_dummies(self, n: int) -> "Points":
        """Give every image 0..n-1 without a nucleus one of type 0 at (0, 0), as the published evaluation
        does."""
        empty = np.flatnonzero(np.bincount(self.image, minlength=n) == 0)
        if not len(empty):
            return self
        image = np.concatenate([self.image, empty])
        order = np.argsort(image, kind="stable")
        return Points(
            image[order],
            np.concatenate([self.xy, np.zeros((len(empty), 2))])[order],
            np.concatenate([self.type, np.zeros(len(empty), self.type.dtype)])[order],
        )

    def only(self, kept: np.ndarray) -> "Points":
        """The points of a mask (bool (N,))."""
        return Points(self.image[kept], self.xy[kept], self.type[kept])


def assign(true: Points, pred: Points, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(positions in true, in pred, distance px) of one-to-one pairs within each of n images.

    The Hungarian method minimises the total distance over ALL nuclei of the image: no gate, as in the published
    evaluations, which drop distant pairs afterwards.
    """
    true_at = np.searchsorted(true.image, np.arange(n + 1))
    pred_at = np.searchsorted(pred.image, np.arange(n + 1))
    rows, cols, far = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)], [np.zeros(0)]
    for (a, a_end), (b, b_end) in zip(pairwise(true_at), pairwise(pred_at), strict=True):
        if a == a_end or b == b_end:
            continue
        distance = cdist(true.xy[a:a_end], pred.xy[b:b_end])
        row, col = linear_sum_assignment(distance)
        rows.append(row + a)
        cols.append(col + b)
        far.append(distance[row, col])
    return np.concatenate(rows), np.concatenate(cols), np.concatenate(far)


def gated(true: Points, pred: Points, radius: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Positions (in true, in pred) of one-to-one pairs within radius (n,) px of their image: as many as possible, and
    among those the smallest total distance."""
    rows, cols, distance = _candidates(true, pred, radius)
    chosen = assign_sparse(rows, cols, distance, most=True)
    return rows[chosen], cols[chosen]


def _candidates(true: Points, pred: Points, radius: np.ndarray):
    """(rows, cols, distance) of all pairs of one image within its radius."""
    none = np.zeros(0, np.int64)
    if not len(true.image) or not len(pred.image):
        return none, none, np.zeros(0)
    reach = float(radius.max())
    # images as floors of one building, farther apart than any pair may be
    floors = [np.column_stack([p.xy, p.image * (2 * reach + 1)]) for p in (true, pred)]
    trees = [cKDTree(f, compact_nodes=False, balanced_tree=False) for f in floors]
    near = trees[0].sparse_distance_matrix(trees[1], reach, output_type="ndarray")
    rows, cols, distance = near["i"].astype(np.int64), near["j"].astype(np.int64), near["v"]
    kept = distance <= radius[true.image[rows]]
    order = np.lexsort((cols[kept], rows[kept]))
    return rows[kept][order], cols[kept][order], distance[kept][order]


def scores(tp, fp, fn) -> tuple[float, float, float]:
    """(F1, precision, recall); NaN where 0/0."""
    return _ratio(2 * tp, 2 * tp + fp + fn), _ratio(tp, tp + fp), _ratio(tp, tp + fn)


def type_scores(counts: dict[str, np.ndarray], confused: int = 2) -> dict[str, np.ndarray]:
    """F1, precision and recall of each type with the weights of HoVer-Net (Graham et al. 2019, eq. F_c).

    counts (C,) arrays: tp paired, of this type on both sides; fp_t paired, only the prediction has the type;
    fn_t paired, only the truth has it; fp_d, fn_d unpaired. With c = `confused` (2 in the publications, so that a
    confusion counts twice; 1 gives the usual scores):
    precision = tp / (tp + c fp_t + fp_d), recall = tp / (tp + c fn_t + fn_d),
    F1 = 2tp / (2tp + c fp_t + c fn_t + fp_d + fn_d); NaN where 0/0.
    """
    tp, fp_t, fn_t, fp_d, fn_d = (counts[k] for k in ("tp", "fp_t", "fn_t", "fp_d", "fn_d"))
    return {
        "F1": _ratio(2 * tp, 2 * tp + confused * (fp_t + fn_t) + fp_d + fn_d),
        "precision": _ratio(tp, tp + confused * fp_t + fp_d),
        "recall": _ratio(tp, tp + confused * fn_t + fn_d),
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


def in_images(true: Points, pred: Points, rows, cols, chosen: np.ndarray):
    """The same points and pairs, restricted to the chosen images (bool (n,))."""
    in_true, in_pred, in_pair = chosen[true.image], chosen[pred.image], chosen[true.image[rows]]
    to_true, to_pred = np.cumsum(in_true) - 1, np.cumsum(in_pred) - 1
    return true.only(in_true), pred.only(in_pred), to_true[rows[in_pair]], to_pred[cols[in_pair]]


def _ratio(a, b):
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.asarray(a, np.float64) / np.asarray(b, np.float64)
    return float(value) if value.ndim == 0 else value
