"""The adapter's gain with each instance representation, and by how much it differs from the gain with HV maps."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmark.report.render.table import Block, Table
from benchmark.report.select.groups import Group, Row, overrides
from benchmark.report.select.observations import Observed
from benchmark.report.stats.bootstrap import FEWEST, interval
from benchmark.report.stats.contrasts import Contrast, of_rows, sd_of_seeds
from benchmark.report.tables.comparisons import TESTED

ADAPTER, ALONE, PUBLISHED = "cellvta", "decoder_only", "hv"
WORD = "instances="
SPREAD = ["sources", "pairs", "lowest, highest", "sd over seeds"]
GAINS = ["representation", ADAPTER, ALONE, "gain [95 %]", *SPREAD]
INTERACTIONS = ["representation", "gain", f"gain with {PUBLISHED}", "interaction [95 %]", *SPREAD]
READING = [
    f"gain: {ADAPTER} − {ALONE} with the same representation, over the pairs of split and seed that both have, as are "
    f"the scores before it. interaction: that gain less the one with {PUBLISHED}, all three over the pairs that all "
    "four rows have.",
    "The intervals are of these very trainings and not corrected for their number. How others may differ is seen in "
    "the lowest and highest of the pairs and in the sd over the seeds of a split; of one seed nothing follows for "
    "other trainings. The learning rates of EXPERIMENT=representations were chosen with HV maps, on split 1, seed 0.",
]


@dataclass(frozen=True)
class Arms:
    """The two rows of a representation; `why` they are not compared, "" where they are."""

    adapter: Row | None = None
    alone: Row | None = None
    why: str = ""

    @property
    def signed(self) -> list[tuple[int, Row]]:
        """The rows as parts of a gain."""
        return [(sign, row) for sign, row in ((1, self.adapter), (-1, self.alone)) if row is not None]

    @property
    def rows(self) -> list[Row]:
        """Those that there are."""
        return [row for _, row in self.signed]


def representation_table(group: Group, observed: Observed, caption: str, notes: list[str]) -> Table | None:
    """Gains of the adapter by representation; None unless two representations have runs of both arms.

    A representation whose arms cannot be compared has a line without numbers and a note, and so has an interaction.
    """
    arms = {name: _arms(group, observed, name) for name in _names(group, observed)}
    if len(arms) < 2:
        return None
    lacking = {name: _why_no_interaction(observed, arms, name) for name in arms if name != PUBLISHED}
    table = Table("representations", f"Is the gain the adapter's or the decoder's? {caption}")
    for metric in TESTED:
        gains = {name: of_rows(observed, own.signed, metric) for name, own in arms.items() if not own.why}
        if gains and not any(gains.values()):  # such as mPQ of data without types
            continue
        others = {name: _interaction(observed, arms, name, metric) for name, why in lacking.items() if not why}
        lines = [[name, *_gain(group, observed, own, gains.get(name), metric)] for name, own in arms.items()]
        table.blocks.append(Block([GAINS, *lines], title=metric))
        if known := {name: other for name, other in others.items() if other is not None}:
            lines = [[name, *_held_against(group, gains, name, other)] for name, other in known.items()]
            table.blocks.append(Block([INTERACTIONS, *lines], title=f"{metric}, interaction"))
        for name, own in arms.items():
            facts = {"dataset": group.dataset, "kind": group.kind, "preset": group.scale, "metric": metric}
            a, b = [row.label for row in own.rows] or ("", "")
            facts |= {"representation": name, "a": a, "b": b, "not_measured": own.why}
            facts |= {"no_interaction": lacking.get(name, "")} | _record(gains.get(name), "")
            if other := known.get(name):
                facts |= dict(zip(("common_gain", f"{PUBLISHED}_gain"), _common(gains, name, other)))
            table.records.append(facts | _record(known.get(name), "interaction_"))
    table.notes = [_resampled(observed), *READING, *_lacking(arms, lacking), *notes]
    return table if table.blocks else None


def _gain(group: Group, observed: Observed, arms: Arms, gain: Contrast | None, metric: str) -> list[str]:
    """The cells of a gain, with the scores of its arms over the same pairs."""
    if gain is None:
        return ["–"] * (len(GAINS) - 1)
    scores = [interval(observed, _part(row, gain), metric).text() for row in arms.rows]
    return [*scores, gain.interval().text(sign=True), *_spread(group, gain)]


def _interaction(observed: Observed, arms: dict[str, Arms], name: str, metric: str) -> Contrast | None:
    """The gain with a representation less that with PUBLISHED; None without a pair that all four rows have."""
    less = [(-sign, row) for sign, row in arms[PUBLISHED].signed]
    return of_rows(observed, [*arms[name].signed, *less], metric)


def _held_against(group: Group, gains: dict[str, Contrast | None], name: str, other: Contrast) -> list[str]:
    """The cells of an interaction."""
    both = [f"{value:+z.3f}" for value in _common(gains, name, other)]
    return [*both, other.interval().text(sign=True), *_spread(group, other)]


def _common(gains: dict[str, Contrast | None], name: str, other: Contrast) -> list[float]:
    """The gains with a representation and with PUBLISHED over the pairs of their interaction."""
    of_both = [gain.pairs for gain in (gains[name], gains[PUBLISHED]) if gain is not None]
    return [statistics.fmean(pairs[key] for key in other.pairs) for pairs in of_both]


def _part(row: Row, contrast: Contrast) -> Row:
    """The row with its runs of a contrast's pairs alone."""
    return replace(row, runs=[run for run in row.runs if (run.id.split, run.id.seed) in contrast.pairs])


def _spread(group: Group, contrast: Contrast) -> list[str]:
    values, spread = contrast.pairs.values(), sd_of_seeds(contrast.pairs)
    extremes = ", ".join(f"{end(values):+z.3f}" for end in (min, max))
    sources = str(contrast.interval().clusters)
    return [sources, f"{len(values)}/{group.expected}", extremes, "–" if math.isnan(spread) else f"{spread:.3f}"]


def _record(contrast: Contrast | None, before: str) -> dict[str, object]:
    """Entries of the csv, those of an interaction with its name before theirs."""
    if contrast is None:
        return {}
    bounds, values = contrast.interval(), contrast.pairs.values()
    entries = {"low": bounds.low, "high": bounds.high, "clusters": bounds.clusters, "pairs": len(values)}
    entries |= {"lowest": min(values), "highest": max(values), "sd_over_seeds": sd_of_seeds(contrast.pairs)}
    named = {f"{before}{key}": value for key, value in entries.items()}
    return {before.rstrip("_") or "gain": contrast.value} | named


def _of(row: Row, method: str) -> str | None:
    """The representation of a row of this method that changes nothing else of it."""
    changed = overrides(row)
    if row.spec.partition("@")[0] != method or not all(word.startswith(WORD) for word in changed):
        return None
    return changed[0].removeprefix(WORD) if changed else PUBLISHED


def _names(group: Group, observed: Observed) -> list[str]:
    """Representations with which both arms have runs, PUBLISHED first."""
    known = [row for row in group.rows if observed.runs(row)]
    both = set.intersection(*({_of(row, method) for row in known} for method in (ADAPTER, ALONE)))
    return sorted((name for name in both if name), key=lambda name: (name != PUBLISHED, name))


def _arms(group: Group, observed: Observed, name: str) -> Arms:
    """The two rows of a representation, or why there are none that can be compared."""
    chosen = []
    for method in (ADAPTER, ALONE):
        row, why = _row(group, observed, method, name)
        if row is None:
            return Arms(why=why)
        chosen.append(row)
    if not _same_encoder(observed, chosen):
        return Arms(*chosen, f"{name}: its arms have different encoders, or files of weights that differ")
    if not observed.runs(chosen[0]).keys() & observed.runs(chosen[1]).keys():
        return Arms(*chosen, f"{name}: its arms have no split and seed in common")
    return Arms(*chosen)


def _row(group: Group, observed: Observed, method: str, name: str) -> tuple[Row | None, str]:
    """(the one row of a method with a representation, why there is none).

    The row that the experiment names, where it names one: a trial at another learning rate never stands in for it. Else
    the only one that was run.
    """
    rows = [row for row in group.rows if _of(row, method) == name]
    known = [row for row in rows if observed.runs(row)]
    named = [row for row in rows if row.method in group.asked]
    if len(named) > 1:
        return None, f"{name} stands in {len(named)} rows of {method} that the experiment names"
    if named and named[0] not in known:
        return None, f"{name}: {named[0].label}, which the experiment names, has no run with records"
    if not named and len(known) > 1:
        return (
            None,
            f"{name} stands in {len(known)} rows of {method} and none is named: name EXPERIMENT=representations",
        )
    return (named or known)[0], ""


def _same_encoder(observed: Observed, rows: Sequence[Row]) -> bool:
    """Whether rows have one encoder and, in each split and seed that all of them have, one file of its weights."""
    of_rows = [observed.runs(row) for row in rows]
    shared = set.intersection(*(set(runs) for runs in of_rows))
    files = [{str((runs[key].config.get("backbone") or {}).get("file")) for runs in of_rows} for key in shared]
    return len({row.backbone for row in rows}) == 1 and all(len(of_pair) == 1 for of_pair in files)


def _why_no_interaction(observed: Observed, arms: dict[str, Arms], name: str) -> str:
    """Why a representation's gain is not held against that of PUBLISHED; "" where it is."""
    published = arms.get(PUBLISHED)
    if published is None:
        return f"{PUBLISHED} has not been run with both arms"
    if published.why or arms[name].why:
        return published.why or arms[name].why
    rows = [*arms[name].rows, *published.rows]
    if not _same_encoder(observed, rows):
        return f"{name} has another encoder than {PUBLISHED}, or another file of its weights"
    shared = set.intersection(*(set(observed.runs(row)) for row in rows))
    return "" if shared else f"{name} and {PUBLISHED} have no split and seed in common"


def _resampled(observed: Observed) -> str:
    unit = "source images" if observed.sources else "test images (the data name no source image)"
    return (
        f"Intervals: percentile bootstrap over the {unit} that a line's pairs test (sources), 2000 resamples; folds "
        f"and seeds are averaged within a resample, never taken for independent replicates; no interval below {FEWEST}."
    )


def _lacking(arms: dict[str, Arms], interactions: dict[str, str]) -> list[str]:
    """Sentences on what was not measured, each reason once."""
    reasons = dict.fromkeys([*(own.why for own in arms.values()), *interactions.values()])
    return [f"Not measured: {'; '.join(why for why in reasons if why)}."] if any(reasons) else []
