"""The questions of docs/claim.md as paired differences: what is asked, how large it is, and what may be said of it.

The differences are those of `report.stats.contrasts`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from benchmark.metrics.sizes import column
from benchmark.report.select.groups import Row
from benchmark.report.select.observations import Observed
from benchmark.report.stats.contrasts import Pair, Ratio, contrast, of_splits, sd_of_seeds
from benchmark.results.run import Run

FAMILY, QUESTIONS = (
    0.05,
    6,
)  # error level of all primary questions together, and their number, whichever can be answered
SMALL_UM = 6.0
SPLITS = 3  # that must agree in sign before anything is said
LEAST = {"bPQ": 0.01, "mPQ": 0.01, "size": 0.02, "crowding": 0.02}  # smallest effects of interest
# interaction -> group of a nucleus: 1 where the paper expects the larger gain
INTERACTIONS: dict[str, Callable] = {
    "size": lambda nuclei: column(nuclei, "d_um") < SMALL_UM,
    "crowding": lambda nuclei: column(nuclei, "touching").astype(bool),
}


@dataclass(frozen=True)
class Question:
    """Whether row `a` beats row `b`: in a metric, or by more in one group of nuclei than in the other.

    Attributes:
        asked: "bPQ", "mPQ", or a key of INTERACTIONS.
    """

    a: str
    b: str
    asked: str


@dataclass(frozen=True)
class Answer:
    """A difference over the (split, seed) pairs that both rows have.

    Attributes:
        value: mean over the pairs; NaN where it could not be measured.
        low, high: percentile interval at the level FAMILY / QUESTIONS; NaN with fewer than FEWEST clusters.
        with_seeds: (low, high) where seeds are resampled as well: exploratory, no verdict rests on it.
        p: two-sided, of a difference of 0, from the same resamples; not corrected.
        clusters: independent test images or slides.
        pairs: (split, seed) -> difference.
        verdict: "better", "worse", "no difference", "undecided", or "" where nothing may be said yet.
        why: why it could not be measured, "" where it was.
    """

    question: Question
    value: float
    low: float
    high: float
    with_seeds: tuple[float, float]
    p: float
    clusters: int
    pairs: dict[Pair, float]
    verdict: str = ""
    why: str = ""

    @property
    def of_splits(self) -> dict[int, float]:
        """Split -> mean over its seeds."""
        return of_splits(self.pairs)

    @property
    def sd_of_seeds(self) -> float:
        """Standard deviation over the seeds of a split, pooled over the splits; NaN with one seed a split."""
        return sd_of_seeds(self.pairs)


def answers(observed: Observed, asked: list[tuple[Question, Row | None, Row | None]], expected: int) -> list[Answer]:
    """The answers to primary questions, in their order, with intervals that hold together at FAMILY.

    Args:
        asked: each with its two rows; None for one that is not there.
        expected: pairs that an answer needs before anything is said of it.
    """
    out = []
    for question, a, b in asked:
        answer = _measured(observed, question, a, b)
        out.append(replace(answer, verdict=verdict(answer, expected)))
    return out


def verdict(answer: Answer, expected: int) -> str:
    """What docs/claim.md lets one say of a difference with its interval; "" of fewer than `expected` pairs or SPLITS
    splits."""
    least, signs = LEAST[answer.question.asked], {np.sign(v) for v in answer.of_splits.values()}
    if np.isnan(answer.low) or len(answer.pairs) < expected or len(answer.of_splits) < SPLITS:
        return ""
    if answer.low > least and signs == {1.0}:
        return "better"
    if answer.high < -least and signs == {-1.0}:
        return "worse"
    return "no difference" if -least < answer.low and answer.high < least else "undecided"


def _measured(observed: Observed, question: Question, a: Row | None, b: Row | None) -> Answer:
    """The answer without a verdict."""
    nan = float("nan")
    unknown = Answer(question, nan, nan, nan, (nan, nan), nan, 0, {})
    if a is None or b is None:
        return replace(unknown, why=f"no single row of {question.b if b is None else question.a} has records")
    of_a, of_b = observed.runs(a), observed.runs(b)
    both = sorted(of_a.keys() & of_b.keys())
    if not both:
        return replace(unknown, why="the arms have no split and seed in common")
    left, right = [of_a[key] for key in both], [of_b[key] for key in both]
    if question.asked in INTERACTIONS:
        try:
            inside, outside = (
                [_of_group(observed, runs, question.asked, which) for runs in (left, right)] for which in (True, False)
            )
        except ValueError as error:  # records of an older version hold no such column
            return replace(unknown, why=str(error))
        parts = [(1, inside[0]), (-1, inside[1]), (-1, outside[0]), (1, outside[1])]
    else:
        parts = [(s, observed.stacked(runs, question.asked)) for s, runs in ((1, left), (-1, right))]
    for _, (_, bottoms) in parts:
        for split, seed in [key for key, bottom in zip(both, bottoms.sum(1)) if bottom == 0]:
            return replace(unknown, why=f"split {split}, seed {seed} has nothing that this is measured on")
    measured = contrast(both, parts)
    drawn = measured.drawn
    beyond = min((drawn <= 0).sum(), (drawn >= 0).sum())
    p = min(1.0, 2 * (beyond + 1) / (len(drawn) + 1))
    tail = FAMILY / QUESTIONS / 2
    interval, wide = measured.interval(tail), measured.interval_with_seeds(tail)
    ends = interval.low, interval.high, (wide.low, wide.high)
    return Answer(question, measured.value, *ends, p, measured.clusters, measured.pairs)


def _of_group(observed: Observed, runs: list[Run], interaction: str, inside: bool) -> Ratio:
    """PQ of the nuclei inside or outside an interaction's group: sums of IoU over tp + (fp + fn) / 2.

    Hits and misses count in the group of the true nucleus, false positives in that of the predicted one.
    """
    of_runs = [observed.once(("groups", run.folder), partial(_of_groups, observed, run)) for run in runs]
    for groups in of_runs:
        if isinstance(groups[interaction], ValueError):
            raise groups[interaction]
    tops, bottoms = zip(*(groups[interaction][inside] for groups in of_runs))
    return np.stack(tops), np.stack(bottoms)


def _of_groups(observed: Observed, run: Run) -> dict:
    """Interaction -> {inside: (numerators, denominators), float64 (C,) each}, or the ValueError of records that lack
    its column; all of a run, as its records are read."""
    frame, records = observed.images[run.folder], run.records()
    nuclei = records.nuclei
    of_image = frame["cluster"].to_numpy()[np.searchsorted(records.images["image"], nuclei["image"])]
    true, paired = (nuclei["side"] == "true").to_numpy(), (nuclei["match"] > 0).to_numpy()
    hit = true & paired
    weight = np.where(hit, 1.0, np.where(true | ~paired, 0.5, 0.0))
    iou, clusters = nuclei["iou"].to_numpy(), len(observed.clusters)
    out: dict = {}
    for interaction, group in INTERACTIONS.items():
        try:
            of_group = group(nuclei)
        except ValueError as error:
            out[interaction] = error
            continue
        out[interaction] = {}
        for inside in (True, False):
            kept = of_group == inside
            tops = np.bincount(of_image[kept & hit], iou[kept & hit], clusters)
            out[interaction][inside] = tops, np.bincount(of_image[kept], weight[kept], clusters)
    return out
