"""Signed sums of scores over (split, seed) pairs: a gain (one arm less another), or by how much two gains differ.

Every score is a ratio of two sums over clusters of test images (`report.select.observations`), so a resample of the
clusters serves all runs at once: splits and seeds are averaged inside it, and a test fold that two splits share counts
once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmark.report.select.groups import Row
from benchmark.report.select.observations import Observed
from benchmark.report.stats.bootstrap import TAIL, Interval, percentiles, weights

Pair = tuple[int, int]  # split, seed
Ratio = tuple[np.ndarray, np.ndarray]  # numerators and denominators, float64 (R, C) each: runs × clusters
Part = tuple[int, Ratio]  # +1 or -1, and the scores of a run for each pair


@dataclass(frozen=True, eq=False)
class Contrast:
    """A signed sum of scores.

    Attributes:
        pairs: (split, seed) -> its value there.
        each: of every pair (columns, as in `pairs`) in every resample that holds clusters of each, float64 (at most
            `RESAMPLES`, R).
        clusters: independent test images or slides that all parts have.
    """

    pairs: dict[Pair, float]
    each: np.ndarray
    clusters: int

    @property
    def drawn(self) -> np.ndarray:
        """Mean over the pairs in every resample, float64 (resamples,)."""
        return self.each.mean(1)

    @property
    def value(self) -> float:
        """Mean over the pairs."""
        return float(np.mean(list(self.pairs.values())))

    def interval(self, tail: float = TAIL) -> Interval:
        """The mean with its percentile interval, of which `tail` of the resamples lie beyond either end."""
        return percentiles(self.value, self.drawn, self.clusters, tail)

    def interval_with_seeds(self, tail: float = TAIL) -> Interval:
        """The same where the seeds of each split are resampled as well; no interval where a split has one seed.

        A split's n seeds show (n - 1) / n of the variance of trainings: the interval is rather too narrow.
        """
        splits = np.array([split for split, _ in self.pairs])
        rng, chosen = np.random.Generator(np.random.PCG64(len(splits))), np.empty(self.each.shape, np.intp)
        for split in np.unique(splits):
            own = np.flatnonzero(splits == split)
            if len(own) < 2:
                return Interval(self.value, float("nan"), float("nan"), self.clusters)
            chosen[:, own] = rng.choice(own, (len(chosen), len(own)))
        drawn = np.take_along_axis(self.each, chosen, 1).mean(1)
        return percentiles(self.value, drawn, self.clusters, tail)


def contrast(keys: Sequence[Pair], parts: Sequence[Part]) -> Contrast:
    """The signed sum of parts whose r-th run is that of keys[r]; no run without a denominator."""
    each = sum(sign * tops.sum(1) / bottoms.sum(1) for sign, (tops, bottoms) in parts)
    drawn = sum(sign * _resampled(ratio) for sign, ratio in parts)
    clusters = int(np.min([bottoms.sum(0) > 0 for _, (_, bottoms) in parts], 0).sum())
    return Contrast(dict(zip(keys, each.tolist(), strict=True)), drawn[~np.isnan(drawn).any(1)], clusters)


def of_rows(observed: Observed, signed: Sequence[tuple[int, Row]], metric: str) -> Contrast | None:
    """The signed sum of rows' scores over the pairs in which each of them has one; None where there is no such pair.

    Args:
        signed: (+1 or -1, row).
    """
    runs = [observed.runs(row) for _, row in signed]
    shared = sorted(set.intersection(*(set(of_row) for of_row in runs)))
    ratios = [observed.stacked([of_row[key] for key in shared], metric) for of_row in runs]
    known = np.all([bottoms.sum(1) > 0 for _, bottoms in ratios], 0)
    if not known.any():
        return None
    parts = [(sign, (tops[known], bottoms[known])) for (sign, _), (tops, bottoms) in zip(signed, ratios, strict=True)]
    return contrast([key for key, one in zip(shared, known) if one], parts)


def of_splits(pairs: dict[Pair, float]) -> dict[int, float]:
    """Split -> mean over its seeds."""
    splits = sorted({split for split, _ in pairs})
    return {k: float(np.mean([v for (split, _), v in pairs.items() if split == k])) for k in splits}


def sd_of_seeds(pairs: dict[Pair, float]) -> float:
    """Standard deviation over the seeds of a split, pooled over the splits; NaN with one seed a split."""
    means = of_splits(pairs)
    deviations = [value - means[split] for (split, _), value in pairs.items()]
    freedom = len(pairs) - len(means)
    return float(np.sqrt(np.sum(np.square(deviations)) / freedom)) if freedom else float("nan")


def _resampled(ratio: Ratio) -> np.ndarray:
    """The ratio of each run in each resample, float64 (resamples, R)."""
    tops, bottoms = ratio
    drawn = weights(tops.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        return (drawn @ tops.T) / (drawn @ bottoms.T)
