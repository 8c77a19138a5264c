"""From images to one number: means over images, tissues or types, pooled counts, and several folds.

What a paper calls mPQ depends on this choice as much as on the protocol, so it has a name of its own.
"""

from collections.abc import Mapping

import numpy as np

from .panoptic import Tally

AGGREGATIONS = {
    "image_mean": "mean over images (mPQ of an image: mean over its types)",
    "tissue_mean": "mean over the images of each tissue, then over the listed tissues that have a value",
    "type_mean": "mean over the images that hold a type, then over types (mPQ only)",
    "pooled": "one PQ from the counts of all images; for mPQ of all types together",
    "class_pooled": "one PQ per type from the counts of all images, then the mean over types (mPQ only)",
}
QUALITIES = ("DQ", "SQ", "PQ")


class Scores:
    """A protocol's columns of images (see `Protocol.images`), ready for any aggregation.

    Args:
        images: the columns by name, or a DataFrame of them.
        dq_eps, sq_eps: the protocol's epsilons.
        tissues: tissues of the tissue mean.
    """

    def __init__(self, images: Mapping, dq_eps: float, sq_eps: float, tissues: list[str]):
        self._images = {name: np.asarray(images[name]) for name in images}
        self._eps, self._listed = (dq_eps, sq_eps), list(tissues)
        self._types = sorted(int(c[3:]) for c in self._images if c.startswith("PQ_") and c != "PQ_0")
        # an unnamed tissue has no row of its own, and the unlisted ones come last
        named = self._images["tissue"].tolist()
        self.tissues = [*self._listed, *sorted(set(named) - set(self._listed) - {""})]
        at = {t: i for i, t in enumerate(self.tissues)}
        self._tissue = np.array([at.get(t, -1) for t in named], np.int64)
        self._whole = np.zeros(len(named), np.int64)
        self._sums_known = {}

    def over_images(self, column: str, how: str) -> float:
        """bPQ, mPQ, bDQ … of the whole set under one of AGGREGATIONS; NaN where it has no such value."""
        if how == "tissue_mean":
            return nanmean(list(self.by_tissue(column).values())[: len(self._listed)])
        if how == "image_mean":
            return float(self._mean(column)[0])
        per_type, quality = column[0] == "m", column[1:]
        if not per_type:
            return self._pooled("", quality) if how == "pooled" else float("nan")
        if not self._types:
            return float("nan")
        if how == "type_mean":
            return float(nanmean([self._mean(f"{quality}_{k}") for k in self._types])[0])
        if how == "class_pooled":
            return nanmean([self._pooled(f"_{k}", quality) for k in self._types])
        return _quality(np.sum([self._sums(f"_{k}") for k in self._types], axis=0), *self._eps)[quality]

    def by_tissue(self, column: str) -> dict[str, float]:
        """Mean over the images of each tissue: the listed ones, then the others by name."""
        values = _group_means(self._images[column], self._tissue, len(self.tissues))
        return dict(zip(self.tissues, values.tolist(), strict=True))

    def sum_by_tissue(self, column: str) -> np.ndarray:
        """Sum of a count over the images of each of `tissues`."""
        inside = self._tissue >= 0
        return np.bincount(self._tissue[inside], weights=self._images[column][inside], minlength=len(self.tissues))

    def of_class(self, k: int, how: str) -> float:
        """PQ of type k as "image_mean" or "class_pooled"."""
        return nanmean(self._images[f"PQ_{k}"]) if how == "image_mean" else self._pooled(f"_{k}", "PQ")

    def _mean(self, column: str) -> np.ndarray:
        return _group_means(self._images[column], self._whole, 1)

    def _pooled(self, suffix: str, quality: str) -> float:
        return _quality(self._sums(suffix), *self._eps)[quality]

    def _sums(self, suffix: str) -> np.ndarray:
        """float64 (5,): tp, fp, fn, iou of all images that count, and their number."""
        if suffix not in self._sums_known:
            counts = [self._images[f"{count}{suffix}"] for count in ("tp", "fp", "fn", "iou")]
            counted = ~np.isnan(counts[0])
            # bincount adds one image after the other, as over tissues; np.sum would differ in the last bits
            sums = [np.bincount(self._whole[counted], weights=c[counted], minlength=1)[0] for c in counts]
            self._sums_known[suffix] = np.array([*sums, np.count_nonzero(counted)])
        return self._sums_known[suffix]


def _quality(sums: np.ndarray, dq_eps: float, sq_eps: float) -> dict[str, float]:
    """DQ, SQ and PQ of pooled counts; NaN where no image counts."""
    if not sums[4]:
        return dict.fromkeys(QUALITIES, float("nan"))
    return dict(zip(QUALITIES, map(float, Tally(*sums[:4]).quality(dq_eps, sq_eps)), strict=True))


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
    """Mean over folds of every score.

    The tissue mean is computed as papers print it: per tissue over the folds that have a value, then over the listed
    tissues. Folds are pooled, instead of averaged, by the summary of `Records.join` of their records.
    """
    keys = list(dict.fromkeys(key for summary in summaries for key in summary))
    out = {key: nanmean([summary.get(key, np.nan) for summary in summaries]) for key in keys}
    for score in ("bPQ", "mPQ"):
        values = [out.get(f"tissue/{t}/{score}", np.nan) for t in tissues]
        if f"tissue_mean/{score}" in out and not np.all(np.isnan(values)):
            out[f"tissue_mean/{score}"] = nanmean(values)
    return out
