"""The adapter's gain with each instance representation, and by how much it differs from the gain with HV maps."""

from benchmark.report.render.table import Block, Table
from benchmark.report.select.groups import Group, Row, overrides
from benchmark.report.select.observations import Observed
from benchmark.report.stats.bootstrap import difference, difference_of_differences, interval
from benchmark.report.tables.comparisons import TESTED, reading

ADAPTER, ALONE, PUBLISHED = "cellvta", "decoder_only", "hv"
WORD = "instances="
READING = (
    f"gain: {ADAPTER} − {ALONE} with the same representation, over the splits and seeds that both have; interaction: "
    f"that gain less the one with {PUBLISHED}, over those that all four rows have. The intervals are not corrected for "
    "their number."
)


def representation_table(group: Group, observed: Observed, caption: str, notes: list[str]) -> Table | None:
    """Gains of the adapter by representation; None unless two representations have both arms."""
    arms = {name: _arms(group, observed, name) for name in (ADAPTER, ALONE)}
    both = [name for name in arms[ADAPTER] if name in arms[ALONE]]
    if len(both) < 2:
        return None
    head = ["representation", ADAPTER, ALONE, "gain [95 %]", "interaction [95 %]"]
    table = Table("representations", f"Is the gain the adapter's or the decoder's? {caption}")
    for metric in TESTED:
        lines = [head]
        for name in both:
            a, b = arms[ADAPTER][name], arms[ALONE][name]
            gain = difference(observed, a, b, metric)
            if gain is None:
                continue
            line = [name, *(interval(observed, row, metric).text() for row in (a, b)), gain.text(sign=True)]
            record = {"dataset": group.dataset, "kind": group.kind, "preset": group.scale, "metric": metric}
            record |= {"representation": name, "a": a.label, "b": b.label, "gain": gain.value, "low": gain.low}
            record |= {"high": gain.high, "clusters": gain.clusters}
            other = None
            if name != PUBLISHED and PUBLISHED in both:
                pair = arms[ADAPTER][PUBLISHED], arms[ALONE][PUBLISHED]
                other = difference_of_differences(observed, (a, b), pair, metric)
            if other is not None:
                record |= {"interaction": other.value, "interaction_low": other.low, "interaction_high": other.high}
            table.records.append(record)
            lines.append([*line, other.text(sign=True) if other is not None else "–"])
        if len(lines) > 1:
            table.blocks.append(Block(lines, title=metric))
    table.notes = [reading(observed, 0)[0], READING, *notes]
    return table if table.blocks else None


def _arms(group: Group, observed: Observed, method: str) -> dict[str, Row]:
    """Representation -> the one row of a method that changes nothing else and has records, `hv` first.

    Of several, such as those of a search for the learning rate, the one that the experiment names; none where it names
    none or several.
    """
    of_name: dict[str, list[Row]] = {}
    for row in group.rows:
        changed = overrides(row)
        if row.spec.partition("@")[0] != method or not observed.runs(row):
            continue
        if all(word.startswith(WORD) for word in changed):
            name = changed[0].removeprefix(WORD) if changed else PUBLISHED
            of_name.setdefault(name, []).append(row)
    chosen = {}
    for name in sorted(of_name, key=lambda name: (name != PUBLISHED, name)):
        rows = of_name[name]
        rows = [row for row in rows if row.method in group.asked] if len(rows) > 1 else rows
        if len(rows) == 1:
            chosen[name] = rows[0]
    return chosen
