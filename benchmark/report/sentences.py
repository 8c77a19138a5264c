"""The summary of a report in sentences, every one generated from the numbers."""

import math
from dataclasses import dataclass

from benchmark.report.figures.gallery import Panel
from benchmark.report.select.groups import Group, Row, claimed
from benchmark.report.select.observations import Observed
from benchmark.report.stats.bootstrap import compare, interval
from benchmark.report.stats.sizes import TABLE_EDGES, bin_names, scores_of
from benchmark.report.stats.summary import summarise
from benchmark.report.tables.common import extent
from benchmark.report.tables.comparisons import p_text
from benchmark.results.run_id import is_drawn
from benchmark.runtime.paths import as_called


@dataclass
class Summary:
    """What a reader should know of a group before its figures.

    Attributes:
        compared: what was compared, one sentence.
        finding: at most three sentences, the effect and its interval first.
        limits: what is missing and what may not be concluded.
    """

    compared: str
    finding: list[str]
    limits: list[str]


def summary(
    group: Group, protocol: str, observed: Observed, scores: dict, panels: list[Panel], firm: str = ""
) -> Summary:
    """Sentences on what was compared, the paper's claim, the sizes, the best rows, and what is missing.

    Args:
        protocol: its name; `observed` are the scores under it.
        scores: run folder -> SizeScores or None.
        panels: images for the browser; none where the prepared images were not found.
        firm: conclusion of the table of paired comparisons, said where the claim cannot be tested.
    """
    rows = [row for row in group.rows if observed.runs(row)]
    scored = [(row.label, interval(observed, row, "bPQ")) for row in rows]
    scored = [(label, score) for label, score in scored if not math.isnan(score.value)]
    finding = []
    if (pair := claimed(group)) and all(row in rows for row in pair):
        finding += _claim(*pair, observed, scores)
    elif firm:
        finding.append(firm)
    if scored:
        best = sorted(scored, key=lambda pair: -pair[1].value)[:3]
        text = "; ".join(f"{label} {score.text()}" for label, score in best)
        which = "Highest mean" if len(scored) > 1 else "Mean"
        finding.append(f"{which} bPQ over test images (protocol {protocol}): {text}.")
    methods = f"{len(group.rows)} methods" if len(group.rows) > 1 else "One method"
    units = f"{len(observed.clusters)} {'source' if observed.sources else 'test'} image"
    units += "s" * (len(observed.clusters) != 1)
    compared = f"{methods} on {group.title}: {extent(group)}, {units}, protocol `{protocol}`."
    return Summary(compared, finding, _limits(group, panels))


def _limits(group: Group, panels: list[Panel]) -> list[str]:
    """Sentences on what is missing in a group and what its numbers do not say."""
    out = []
    missing = [f"{row.label} {len(row.runs)}/{group.expected}" for row in group.rows if len(row.runs) < group.expected]
    if missing:
        out.append(f"Incomplete: {', '.join(missing)} runs.")
    if is_drawn(group.dataset):
        out.append("The images are drawn, not scanned: this shows that the chain works, not how the methods rank.")
    if group.scale != "paper":
        out.append(f"Scale `{group.scale}`: small networks, short training; the published scale is `paper`.")
    if len(group.splits) * len(group.seeds) == 1:
        out.append("One fold and one seed: no statement on how results vary between trainings.")
    if len(group.drawn) < len(group.rows):
        what = "variants with overridden arguments or settings"
        what = "rows that the experiment does not name" if group.draws_asked else what
        out.append(
            f"Figures of all methods leave out {len(group.rows) - len(group.drawn)} {what}; the leaderboard has all, "
            "`components` those with arguments."
        )
    outlined = {label for panel in panels for label in panel.outlines}
    if not panels:
        out.append(
            f"No pictures: the prepared images of this data set are not in the cache (`{as_called('prepare')}` makes "
            "them)."
        )
    elif without := [row.label for row in group.drawn if row.label not in outlined]:
        out.append(
            f"No outlines of {', '.join(without)} in the images: no predictions of fold {group.splits[0]}, seed "
            f"{group.seeds[0]} can be read here (runs that `adopt` brought have none)."
        )
    return out


def _claim(adapter: Row, decoder: Row, observed: Observed, scores: dict) -> list[str]:
    """Sentences on the paper's claim: the adapter against the decoder alone, over all nuclei and by size."""
    out = []
    c = compare(observed, adapter, decoder, "bPQ")
    if c is not None and not math.isnan(c.better):
        verdict = "not told apart from"
        if c.difference.low > 0:
            verdict = "above"
        elif c.difference.high < 0:
            verdict = "below"
        out.append(
            f"{adapter.label} is {verdict} {decoder.label} in bPQ: {c.difference.text(sign=True)}, "
            f"Wilcoxon p {p_text(c.p)} (one planned comparison, uncorrected) over {c.difference.clusters} "
            f"{'source images' if observed.sources else 'images'}, better in {c.better:.0%} of them (ties count half)."
        )
    gains = []
    for i, name in enumerate(bin_names(TABLE_EDGES)):
        gain = _mean_pq(adapter, scores, i) - _mean_pq(decoder, scores, i)
        if not math.isnan(gain):
            gains.append((gain, name))
    if len(gains) > 1:
        most = f"; largest for {max(gains)[1]}" if max(gains)[0] > 0 else ""
        texts = "; ".join(f"{gain:+z.3f} for {name}" for gain, name in gains)
        out.append(f"PQ of {adapter.label} minus {decoder.label} by diameter: {texts}{most}.")
    return out


def _mean_pq(row: Row, scores: dict, i: int) -> float:
    """Mean over the row's runs of PQ in the i-th bin of TABLE_EDGES."""
    return summarise((run_scores.table["PQ"].iloc[i] for run_scores in scores_of(row, scores)), 1).mean
