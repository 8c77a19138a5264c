"""Measured figures of finished runs beside the published ones of a paper, and whether they are equal."""

import math
from dataclasses import dataclass

from benchmark.metrics.aggregate import over_folds
from benchmark.report.papers.paper import Paper
from benchmark.report.render.table import Block, Table
from benchmark.report.select.groups import Group, Row
from benchmark.report.select.observations import Observed, observe
from benchmark.report.stats.bootstrap import Interval, headline_interval
from benchmark.report.tables.published import ALL
from benchmark.report.write import protocol_values
from benchmark.results.run import Run

UNKNOWN = "which images the file was trained on is not known: it may have seen these"


@dataclass(frozen=True)
class Figure:
    """One figure of a paper, measured.

    Attributes:
        spec: `method@row`.
        weights: the file with 12 digits of its hash, or "trained here, seed 0"; of all splits, those of each.
        split: "1", …, or "all": the mean over the splits.
        average, metric: as the published table calls them.
        published: NaN where there is none.
        measured: with its bootstrap interval over `unit`.
        unit: "source images", or "test images" where the data name no source.
        tolerance: largest |measured - published| that counts as none; NaN where no verdict can be given.
        why: in words, why no verdict can be given; "" where one is.
        runs: those that were measured.
    """

    spec: str
    weights: str
    split: str
    average: str
    metric: str
    published: float
    measured: Interval
    unit: str
    tolerance: float
    why: str
    runs: tuple[Run, ...]

    @property
    def difference(self) -> float:
        """measured - published."""
        return self.measured.value - self.published

    @property
    def within(self) -> bool | None:
        """Whether the difference is within the tolerance; None without a verdict."""
        return None if self.why else abs(self.difference) <= self.tolerance


def figures(paper: Paper, runs: list[Run]) -> list[Figure]:
    """The paper's figures that finished runs have, those without a verdict included.

    Runs of official files on the split that they were trained for (or on any, where nobody knows it), and of trainings
    with the published recipe, count; of other data sets, rows or settings none does. The mean over the splits is a
    figure where each split has one run alone.
    """
    out = []
    for kind in ("official", "published"):
        for row in paper.rows:
            own = [run for run in runs if run.id.kind == kind and _belongs(paper, row, run)]
            own.sort(key=lambda run: (run.id.seed, run.id.split, run.id.file))
            out += [figure for run in own for figure in _of_runs(paper, row, [run], str(run.id.split))]
            for seed in sorted({run.id.seed for run in own}):
                known = [run for run in own if run.id.seed == seed and not _unknown_split(paper, run)]
                if len(paper.splits) > 1 and [run.id.split for run in known] == sorted(paper.splits):
                    out += _of_runs(paper, row, known, ALL)
    return out


def without_mean(paper: Paper, runs: list[Run]) -> list[str]:
    """In words, the rows whose mean over the splits is not among the `figures` because a split has several files."""
    out = []
    for row in paper.rows if len(paper.splits) > 1 else ():
        of_split: dict[int, list[str]] = {}
        for run in runs:
            if run.id.kind == "official" and _belongs(paper, row, run) and not _unknown_split(paper, run):
                of_split.setdefault(run.id.split, []).append(run.config["file"]["name"])
        several = {split: sorted(names) for split, names in of_split.items() if len(names) > 1}
        if several and set(of_split) == set(paper.splits):
            texts = "; ".join(f"split {split} has {' and '.join(names)}" for split, names in sorted(several.items()))
            out.append(
                f"{paper.method}@{row}: which files its mean over the splits is of is not known ({texts}); leave one "
                "file of each split in the folder"
            )
    return out


def _belongs(paper: Paper, row: str, run: Run) -> bool:
    """Whether a run is of a row of the paper as it was published, on a split of its own."""
    trained_for = (run.config.get("file") or {}).get("split")
    same = (run.id.dataset, run.spec, run.settings) == (paper.dataset, f"{paper.method}@{row}", "")
    return same and run.id.split in paper.splits and trained_for in (None, run.id.split)


def _unknown_split(paper: Paper, run: Run) -> bool:
    """Whether nobody knows which of several splits the file of a run was trained for."""
    return run.id.kind == "official" and len(paper.splits) > 1 and not run.config["file"].get("split")


def _of_runs(paper: Paper, row: str, runs: list[Run], split: str) -> list[Figure]:
    """The figures of one split, or of all: each run is one split's."""
    first = runs[0]
    splits, seeds = sorted({run.id.split for run in runs}), sorted({run.id.seed for run in runs})
    of_runs = Row(first.id.method, first.backbone, runs)
    group = Group(paper.dataset, first.id.kind, first.scale, splits, seeds, [of_runs])
    observed, tissues = observe(group, paper.protocol), group.names("tissues")
    flat = [{k: math.nan if v is None else v for k, v in protocol_values(run, paper.protocol).items()} for run in runs]
    values = flat[0] if len(flat) == 1 else over_folds(flat, tissues)
    out = []
    for average, metrics in paper.metrics.items():
        for metric in metrics:
            published = paper.value(row, split, average, metric)
            measured = _interval(observed, of_runs, metric, tissues, values.get(metric, math.nan))
            why = _without_verdict(paper, row, runs, published, measured)
            tolerance = math.nan if why else paper.tolerance[first.id.kind][0]
            unit = "source images" if observed.sources else "test images"
            weights = "; ".join(map(_weights, runs))
            place = (f"{paper.method}@{row}", weights, split, average, metric)
            out.append(Figure(*place, published, measured, unit, tolerance, why, tuple(runs)))
    return out


def _interval(observed: Observed, row: Row, metric: str, tissues: list[str], value: float) -> Interval:
    """The value with its interval; without bounds where the records of a run are damaged."""
    if len(observed.runs(row)) < len(row.runs):
        return Interval(value, math.nan, math.nan, 0)
    return headline_interval(observed, row, metric.rpartition("/")[2], tissues, value)


def _weights(run: Run) -> str:
    file = run.config.get("file")
    return f"{file['name']}, sha256 {file['sha256'][:12]}" if file else f"trained here, seed {run.id.seed}"


def _without_verdict(paper: Paper, row: str, runs: list[Run], published: float, measured: Interval) -> str:
    """In words, why measured and published cannot be called equal or not; "" where they can."""
    if paper.reservation:
        return paper.reservation
    if any(_unknown_split(paper, run) for run in runs):
        return UNKNOWN
    for run in runs:
        expected, count = paper.value(row, str(run.id.split), "count", "n_images"), run.metrics.get("n_images")
        if not math.isnan(expected) and count != expected:
            return f"not the published test images: {count} instead of {expected:.0f} on split {run.id.split}"
        weights = (run.config.get("backbone") or {}).get("weights")
        if run.id.kind == "published" and paper.pretrained and weights in (None, "random"):
            return "the training began with random weights, the published one with those of its encoder"
    if math.isnan(published):
        return "no such figure is published"
    return "it has no value: the weights name no types" if math.isnan(measured.value) else ""


def comparison_table(paper: Paper, measured: list[Figure]) -> Table:
    """A line per figure; below it how to read them and how far they reach."""
    head = ["weights", "split", "average", "metric", "published", "measured", "95 %"]
    lines = [[*head, "difference", "tolerance", "verdict"]]
    for figure in measured:
        value = figure.measured
        low_high = "–" if math.isnan(value.low) else f"[{value.low:.4f}, {value.high:.4f}]"
        verdict = {True: "within", False: "OUTSIDE", None: "no verdict"}[figure.within]
        numbers = [_text(figure.published), _text(value.value), low_high, _text(figure.difference, "+.4f")]
        weights = f"{figure.spec}: {figure.weights}"
        place = [weights, figure.split, figure.average, figure.metric]
        lines.append([*place, *numbers, _text(figure.tolerance, "g"), verdict])
    title = f"{paper.title}: protocol `{paper.protocol}` on `{paper.dataset}`"
    return Table("reproduced", title, _notes(paper, measured), [Block(lines, left=4)] if measured else [])


def _notes(paper: Paper, measured: list[Figure]) -> list[str]:
    out = [reach(paper, measured)]
    for why in dict.fromkeys(figure.why for figure in measured if figure.why):
        out.append(f"No verdict: {' '.join(why.split())}.")
    kinds = {figure.runs[0].id.kind for figure in measured if not figure.why}
    for kind, (tolerance, reason) in paper.tolerance.items():
        if kind in kinds:
            of = {"official": "official weights", "published": "weights trained here"}[kind]
            out.append(f"Tolerance of {of}, {tolerance:g}: {' '.join(reason.split())}.")
    if measured:
        units = sorted({f"{figure.measured.clusters} {figure.unit}" for figure in measured})
        out.append(f"95 %: bootstrap interval of the measured value, over {' or '.join(units)}.")
    return out + list(paper.remarks)


def reach(paper: Paper, measured: list[Figure]) -> str:
    """How much of the paper the figures with a verdict cover, in a sentence."""
    judged = [figure for figure in measured if not figure.why]
    splits = [*map(str, paper.splits), *([ALL] if len(paper.splits) > 1 else [])]
    places = [(row, k, a, m) for row in paper.rows for k in splits for a, names in paper.metrics.items() for m in names]
    known = {place for place in places if not math.isnan(paper.value(*place))}
    covered = {(f.spec.partition("@")[2], f.split, f.average, f.metric) for f in judged} & known
    text = f"{len(covered)} of the paper's {len(known)} figures (bPQ and mPQ per split, and their means) are compared"
    if covered and not any(place[1] == ALL for place in covered) and ALL in splits:
        text += "; the mean over the splits, which the paper prints, is not: it needs one result of every split"
    return text + "."


def _text(value: float, form: str = ".4f") -> str:
    return "–" if math.isnan(value) else f"{value:{form}}"
