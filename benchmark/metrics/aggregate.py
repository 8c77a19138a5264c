"""From images to one number: means over images, tissues or types, pooled counts, and several folds.

What a paper calls mPQ depends on this choice as much as on the protocol, so it has a name of its own.
"""

import numpy as np
import pandas as pd

from .panoptic import Tally

AGGREGATIONS = {
    "image_mean": "mean over images (mPQ of an image: mean over its types)",
    "tissue_mean": "mean over the images of each tissue, then over the listed tissues that have a value",
    "type_mean": "mean over the images that hold a type, then over types (mPQ only)",
    "pooled": "one PQ from the counts of all images; for mPQ of all types together",
    "class_pooled": "one PQ per type from the counts of all images, then the mean over types (mPQ only)",
}


class Scores:
    """A protocol's frame of images (see `Protocol.images`), ready for any aggregation.

    Args:
        images: the frame.
        dq_eps, sq_eps: the protocol's epsilons.
        tissues: tissues of the tissue mean.
    """

    def __init__(self, images: pd.DataFrame, dq_eps: float, sq_eps: float, tissues: list[str]):
        self._images, self._eps, self._listed = images, (dq_eps, sq_eps), list(tissues)
        self._types = sorted(int(c[3:]) for c in images.columns if c.startswith("PQ_"))
        # an unnamed tissue has no row of its own, and the unlisted ones come last
        named = images["tissue"].to_numpy()
        self.tissues = [*self._listed, *sorted(set(named) - set(self._listed) - {""})]
        at = {t: i for i, t in enumerate(self.tissues)}
        self._tissue = np.array([at.get(t, -1) for t in named], np.int64)

    def over_images(self, column: str, how: str) -> float:
        """bPQ, mPQ, bDQ … of the whole set under one of AGGREGATIONS; NaN where it has no such value."""
        if how == "tissue_mean":
            return nanmean(list(self.by_tissue(column).values())[: len(self._listed)])
        return float(self._grouped(column, how, np.zeros(len(self._images), np.int64), 1)[0])

    def by_tissue(self, column: str) -> dict[str, float]:
        """Mean over the images of each tissue: the listed ones, then the others by name."""
        values = self._grouped(column, "image_mean", self._tissue, len(self.tissues))
        return dict(zip(self.tissues, values.tolist(), strict=True))

    def of_class(self, k: int, how: str) -> float:
        """PQ of type k as "image_mean" or "class_pooled"."""
        if how == "image_mean":
            return nanmean(self._images[f"PQ_{k}"].to_numpy())
        return float(self._pooled(f"_{k}", np.zeros(len(self._images), np.int64), 1)[2][0])

    def _grouped(self, column: str, how: str, group: np.ndarray, n: int) -> np.ndarray:
        which, types = column[1:], [k for k in self._types if k > 0]
        multi = column[0] == "m"
        if how == "image_mean":
            return _group_means(self._images[column].to_numpy(), group, n)
        none = np.full(n, np.nan)
        if how == "type_mean":
            if not multi or not types:
                return none
            return nanmean([_group_means(self._images[f"{which}_{k}"].to_numpy(), group, n) for k in types])
        which = ("DQ", "SQ", "PQ").index(which)
        if how == "class_pooled":
            return nanmean([self._pooled(f"_{k}", group, n)[which] for k in types]) if multi and types else none
        if not multi:
            return self._pooled("", group, n)[which]
        total = np.sum([self._sums(f"_{k}", group, n) for k in types], axis=0) if types else np.full((5, n), np.nan)
        return _quality(total, *self._eps)[which]

    def _pooled(self, suffix: str, group: np.ndarray, n: int):
        return _quality(self._sums(suffix, group, n), *self._eps)

    def _sums(self, suffix: str, group: np.ndarray, n: int) -> np.ndarray:
        """float64 (5, n): tp, fp, fn, iou and the number of images that count, per group."""
        inside = group >= 0
        columns = [self._images[f"{c}{suffix}"].to_numpy()[inside] for c in ("tp", "fp", "fn", "iou")]
        columns.append(~np.isnan(columns[0]))
        return np.array([np.bincount(group[inside], weights=np.nan_to_num(c), minlength=n) for c in columns])


def _quality(sums: np.ndarray, dq_eps: float, sq_eps: float):
    """(DQ, SQ, PQ) of pooled counts; NaN where no image counts."""
    counted = sums[4] > 0
    return [np.where(counted, v, np.nan) for v in Tally(*sums[:4]).quality(dq_eps, sq_eps)]


def _group_means(values: np.ndarray, group: np.ndarray, n: int) -> np.ndarray:
    known = ~np.isnan(values) & (group >= 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.bincount(group[known], weights=values[known], minlength=n)
        return total / np.bincount(group[known], minlength=n)


def nanmean(values) -> np.ndarray | float:
    """Mean over the first axis without NaN; NaN where nothing is left."""
    values = np.asarray(values, np.float64)
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, values, 0).sum(0) / known.sum(0)
    return mean if np.ndim(mean) else float(mean)


def over_folds(summaries: list[dict[str, float]], tissues: list[str]) -> dict[str, float]:
    """The mean over folds of every score; the tissue means anew, as papers print them: per tissue over the folds that
    have a value, then over the listed tissues.

    The other way of joining folds, pooled, is the summary of `Records.join` of their records.
    """
    keys = list(dict.fromkeys(key for summary in summaries for key in summary))
    out = {key: nanmean([summary.get(key, np.nan) for summary in summaries]) for key in keys}
    for score in ("bPQ", "mPQ"):
        values = [out.get(f"tissue/{t}/{score}", np.nan) for t in tissues]
        if f"tissue_mean/{score}" in out and not np.all(np.isnan(values)):
            out[f"tissue_mean/{score}"] = nanmean(values)
    return out
