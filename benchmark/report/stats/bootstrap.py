"""Bootstrap over clusters of test images, and paired tests between two rows.

Efron & Tibshirani 1993 (percentile interval, clusters as the unit of resampling); Wilcoxon 1945 with the
matched-pairs rank-biserial correlation of Kerby 2014; Holm 1979. Folds and seeds are never treated as
independent replicates: their mean is taken within each resample.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

from benchmark.report.select.groups import Row
from benchmark.report.select.observations import Observed
from benchmark.results.run import Run

RESAMPLES = 2000
LEVEL = 0.95
TAIL = (1 - LEVEL) / 2  # share of the resamples beyond either end of an interval
FEWEST = 5  # clusters; an interval over fewer says nothing


@dataclass(frozen=True)
class Interval:
    """A value with its bootstrap interval. low, high: NaN with fewer than FEWEST clusters."""

    value: float
    low: float
    high: float
    clusters: int

    def text(self, digits: int = 3, sign: bool = False) -> str:
        """Such as "0.512 [0.498, 0.525]"; "–" without a value."""
        if np.isnan(self.value):
            return "–"
        form = f"{{:{'+' if sign else ''}z.{digits}f}}"
        if np.isnan(self.low):
            return form.format(self.value)
        return f"{form.format(self.value)} [{form.format(self.low)}, {form.format(self.high)}]"


@dataclass(frozen=True)
class Comparison:
    """Row `a` minus row `b` in one metric, over the (fold, seed) pairs that both have.

    Attributes:
        difference: with the paired bootstrap interval.
        p: two-sided Wilcoxon signed-rank test over clusters; NaN with fewer than FEWEST.
        rank_biserial: in [-1, 1]; 1: a is better in every cluster.
        dz: mean difference / standard deviation of differences (Cohen's d for pairs).
        better: share of clusters in which a is better, ties counted half.
        runs: number of (fold, seed) pairs.
    """

    a: str
    b: str
    metric: str
    difference: Interval
    p: float
    rank_biserial: float
    dz: float
    better: float
    runs: int


@cache
def weights(clusters: int, resamples: int = RESAMPLES) -> np.ndarray:
    """float64 (resamples, clusters): how often each cluster is drawn; the same for all rows, hence paired."""
    rng = np.random.Generator(np.random.PCG64(clusters))
    return rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples).astype(np.float64)


@dataclass(frozen=True, eq=False)
class Side:
    """What comparisons need of some runs' scores in one metric.

    Attributes:
        value: mean over the runs.
        drawn: the same in every resample, float64 (resamples,).
        of_clusters: score of each cluster, float64 (C,).
        scored: bool (R, C), clusters that hold a scored image of a run.
    """

    value: float
    drawn: np.ndarray
    of_clusters: np.ndarray
    scored: np.ndarray


def side(observed: Observed, runs: list[Run], metric: str) -> Side:
    """The scores of some runs; computed once, since a row stands in a comparison with every other."""

    def compute() -> Side:
        tops, bottoms = observed.stacked(runs, metric)
        value = _mean(tops.sum(1), bottoms.sum(1))
        return Side(value, _drawn(tops, bottoms), _per_cluster(tops, bottoms), bottoms > 0)

    return observed.once((metric, *(run.folder for run in runs)), compute)


def interval(observed: Observed, row: Row, metric: str) -> Interval:
    """Mean over the row's runs of the metric, with its interval."""
    own = side(observed, list(observed.runs(row).values()), metric)
    return percentiles(own.value, own.drawn, _used(own.scored))


def headline_interval(observed: Observed, row: Row, metric: str, tissues: list[str], value: float) -> Interval:
    """The interval of a protocol's headline value of a row, see `runs_interval`."""
    return runs_interval(observed, list(observed.runs(row).values()), metric, tissues, value)


def runs_interval(observed: Observed, runs: list[Run], metric: str, tissues: list[str], value: float) -> Interval:
    """The interval of a value over some runs: of the image mean or of the tissue mean, whichever it is.

    Returns:
        An Interval without bounds when the value is neither (another protocol's own average).
    """
    own = side(observed, runs, metric)
    of_mean = percentiles(own.value, own.drawn, _used(own.scored))
    if not abs(of_mean.value - value) < 1e-6 and tissues:
        tops, bottoms = zip(*(observed.stacked(runs, metric, tissue) for tissue in tissues))
        of_mean = _interval_of_mean(np.concatenate(tops), np.concatenate(bottoms))
    if abs(of_mean.value - value) < 1e-6:
        return of_mean
    return Interval(value, float("nan"), float("nan"), of_mean.clusters)


def difference(observed: Observed, a: Row, b: Row, metric: str) -> Interval | None:
    """Row `a` minus row `b`, with the paired interval; None as in `compare`. Computed once for each pair."""

    def compute() -> Interval | None:
        _, left, right = _paired(observed, a, b, metric)
        return minus(left, right)

    return observed.once(("difference", metric, a.label, b.label), compute)


def minus(left: Side, right: Side) -> Interval | None:
    """The difference with its paired interval; None where one side has no value."""
    if not left.scored.any() or not right.scored.any():
        return None
    return percentiles(left.value - right.value, left.drawn - right.drawn, _used(left.scored & right.scored))


def compare(observed: Observed, a: Row, b: Row, metric: str) -> Comparison | None:
    """Paired comparison; None when the rows share no (fold, seed) or have no value of the metric."""
    return compare_pairs(observed, [(a, b)], metric)[0]


def compare_pairs(observed: Observed, pairs: list[tuple[Row, Row]], metric: str) -> list[Comparison | None]:
    """`compare` of each pair, in one go: with thousands of pairs the calls of tests cost more than the tests."""
    estimates = [difference(observed, a, b, metric) for a, b in pairs]
    deltas = []
    for (a, b), estimate in zip(pairs, estimates, strict=True):
        _, left, right = _paired(observed, a, b, metric)
        of_clusters = left.of_clusters - right.of_clusters if estimate else np.zeros(0)
        deltas.append(of_clusters[~np.isnan(of_clusters)])
    out: list[Comparison | None] = []
    for (a, b), estimate, known, (p, rank) in zip(pairs, estimates, deltas, _wilcoxon(deltas), strict=True):
        if estimate is None:
            out.append(None)
            continue
        spread = known.std(ddof=1) if len(known) > 1 else np.nan
        dz = float(known.mean() / spread) if spread > 0 else float("nan")
        better = float(((known > 0) + 0.5 * (known == 0)).mean()) if len(known) else float("nan")
        both, _, _ = _paired(observed, a, b, metric)
        out.append(Comparison(a.label, b.label, metric, estimate, p, rank, dz, better, len(both)))
    return out


def _paired(observed: Observed, a: Row, b: Row, metric: str) -> tuple[list[tuple[int, int]], Side, Side]:
    """The (fold, seed) pairs that both rows have, and the scores of either's runs of these."""

    def compute() -> tuple[list[tuple[int, int]], Side, Side]:
        of_a, of_b = observed.runs(a), observed.runs(b)
        both = sorted(of_a.keys() & of_b.keys())
        left, right = (side(observed, [of_row[key] for key in both], metric) for of_row in (of_a, of_b))
        return both, left, right

    return observed.once(("paired", metric, a.label, b.label), compute)


def holm(p: list[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the order of `p`; NaN stays NaN and is not counted."""
    p = np.asarray(p, np.float64)
    out = np.full(len(p), np.nan)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    highest = 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p[i]))
        out[i] = highest
    return out.tolist()


def _mean(tops: np.ndarray, bottoms: np.ndarray) -> float:
    """Mean over runs of the ratios, those without a denominator left out."""
    known = bottoms > 0
    return float((tops[known] / bottoms[known]).mean()) if known.any() else float("nan")


def _drawn(tops: np.ndarray, bottoms: np.ndarray) -> np.ndarray:
    """The mean over runs in every resample, float64 (resamples,); NaN where a resample holds no image of a run."""
    used = bottoms.sum(1) > 0
    if not used.any():
        return np.zeros(0)
    drawn = weights(tops.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = (drawn @ tops[used].T) / (drawn @ bottoms[used].T)
    known = ~np.isnan(ratios)  # a resample may hold no image of a tissue
    count = known.sum(1)
    return np.where(count > 0, np.where(known, ratios, 0).sum(1) / np.maximum(count, 1), np.nan)


def _interval_of_mean(tops: np.ndarray, bottoms: np.ndarray) -> Interval:
    """Mean over runs of the ratios of `tops` and `bottoms`, (R, C) each, with its interval."""
    return percentiles(_mean(tops.sum(1), bottoms.sum(1)), _drawn(tops, bottoms), _used(bottoms))


def percentiles(value: float, draws: np.ndarray, clusters: int, tail: float = TAIL) -> Interval:
    """Percentile interval of `value`, without bounds where there are fewer than FEWEST clusters.

    Args:
        draws: its resampled values, float64 (at most RESAMPLES,); NaN are left out.
        tail: share of them beyond either end.
    """
    draws = draws[~np.isnan(draws)]
    if clusters < FEWEST or not len(draws):
        return Interval(value, float("nan"), float("nan"), clusters)
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Interval(value, float(low), float(high), clusters)


def _used(bottoms: np.ndarray) -> int:
    """Clusters that hold at least one scored image of some run."""
    return int((bottoms.sum(0) > 0).sum()) if len(bottoms) else 0


def _per_cluster(tops: np.ndarray, bottoms: np.ndarray) -> np.ndarray:
    """Score of each cluster: the ratio per run, then the mean over runs; NaN where no run scored it."""
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = tops / bottoms
    known = ~np.isnan(ratios)
    count = known.sum(0)
    total = np.where(known, ratios, 0).sum(0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _wilcoxon(samples: list[np.ndarray]) -> list[tuple[float, float]]:
    """(p, rank-biserial correlation) of each sample of differences; zeros count in the ranks (Pratt), not in the sums.

    Samples of one length are tested together where none has ties or zeros: SciPy chooses the test's form for an array
    as a whole, and by these two.
    """
    from scipy import stats

    out = [(float("nan"), float("nan"))] * len(samples)
    of_length: dict[int, list[int]] = {}
    for place, deltas in enumerate(samples):
        if len(deltas) >= FEWEST:
            of_length.setdefault(len(deltas), []).append(place)
    for places in of_length.values():
        deltas = np.stack([samples[place] for place in places])
        sizes = np.abs(deltas)
        ranks = stats.rankdata(sizes, axis=1)
        total = np.where(deltas != 0, ranks, 0).sum(1)
        correlation = (ranks * np.sign(deltas)).sum(1) / np.maximum(total, 1)
        p = np.ones(len(places))
        ordered = np.sort(np.concatenate([np.zeros((len(places), 1)), sizes], 1), 1)
        plain = (np.diff(ordered) > 0).all(1)
        if plain.any():
            p[plain] = stats.wilcoxon(deltas[plain], zero_method="pratt", axis=1).pvalue
        for row in np.flatnonzero(~plain & (total > 0)):
            p[row] = stats.wilcoxon(deltas[row], zero_method="pratt").pvalue
        for place, *both in zip(places, p.tolist(), correlation.tolist(), strict=True):
            out[place] = tuple(both)
    return out
