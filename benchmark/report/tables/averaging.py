"""One set of runs under every protocol and every averaging: how far the numbers that are called mPQ lie apart."""

import math
import statistics

from benchmark.report.render.table import Block, Table
from benchmark.report.select.groups import Group, Row
from benchmark.report.tables.common import extent, named, notes, record
from benchmark.results.run import UNREADABLE, skipped


def averaging_table(group: Group, protocols: list[str]) -> Table | None:
    """bPQ and mPQ, (method, protocol) × averaging, folds averaged and, where there are several, pooled.

    Returns:
        None when no run has records.
    """
    from benchmark.metrics.aggregate import AGGREGATIONS
    from benchmark.metrics.protocols import PROTOCOLS

    of_row = {id(row): _joined(row, protocols) for row in group.rows}
    if not any(of_row.values()):
        return None
    title = f"bPQ and mPQ under every protocol and averaging. {group.title}: {extent(group)}"
    table = Table("averagings", title, notes(group))
    published = ", ".join(f"{p} {PROTOCOLS[p].binary} / {PROTOCOLS[p].multi}" for p in protocols)
    datasets = ", ".join(f"{p} {PROTOCOLS[p].made_for}" for p in protocols)
    table.notes[1:1] = [
        "Numbers of different columns, and of different protocols, are not comparable (docs/metrics.md).",
        f"The averaging that each protocol was published with, bPQ / mPQ: {published}.",
        f"Published for: {datasets}; elsewhere the same rules apply, but there is no published value to compare with.",
        *(f"{name}: {text}." for name, text in AGGREGATIONS.items()),
    ]
    joins = ["averaged", "pooled"] if len(group.splits) > 1 else ["averaged"]
    if len(joins) > 1:
        table.notes.insert(1, "Folds pooled: their images as one set; a test fold that two splits share counts twice.")
    for score in ("bPQ", "mPQ"):
        hows = [h for h in AGGREGATIONS if score == "mPQ" or h not in ("type_mean", "class_pooled")]
        for join in joins:
            lines = [[*named(group), "protocol", *(how.replace("_", " ") for how in hows), "runs"]]
            for row in group.rows:
                for protocol in protocols:
                    seeds = of_row[id(row)].get((protocol, join), [])
                    facts = record(group, row) | {"protocol": protocol, "metric": score, "folds": join}
                    texts = []
                    for how in hows:
                        value = _mean(scores.get(f"{how}/{score}", math.nan) for scores in seeds)
                        texts.append("–" if math.isnan(value) else f"{value:.3f}")
                        table.records.append(facts | {"averaging": how, "value": value})
                    lines.append([*named(group, row), protocol, *texts, f"{len(row.runs)}/{group.expected}"])
            where = "" if len(joins) == 1 else f", folds {join}"
            table.blocks.append(Block(lines, left=len(named(group)) + 1, title=f"{score}{where}"))
    return table


def _joined(row: Row, protocols: list[str]) -> dict[tuple[str, str], list[dict]]:
    """(protocol, "averaged" | "pooled") -> scores of each seed, its folds joined; {} without readable records."""
    from benchmark.metrics.aggregate import over_folds
    from benchmark.metrics.protocols import PROTOCOLS
    from benchmark.metrics.records import Records

    out: dict[tuple[str, str], list[dict]] = {}
    for seed in sorted({run.id.seed for run in row.runs}):
        runs = [run for run in row.runs if run.id.seed == seed]
        try:
            records = [run.records() for run in runs]
            classes, tissues = [run.config["classes"] for run in runs], runs[0].config["tissues"]
            alike = all(names == classes[0] for names in classes)
            if not alike:
                skipped(
                    runs[-1].folder, f"its folds are not pooled, it numbers its classes otherwise than {runs[0].id}"
                )
            for name in protocols:
                summaries = [PROTOCOLS[name].summary(r, c, tissues) for r, c in zip(records, classes, strict=True)]
                out.setdefault((name, "averaged"), []).append(over_folds(summaries, tissues))
                if len(records) > 1 and alike:
                    pooled = PROTOCOLS[name].summary(Records.join(records), classes[0], tissues)
                    out.setdefault((name, "pooled"), []).append(pooled)
        except UNREADABLE as error:
            skipped(runs[0].folder, f"no averagings, its records fail: {error}")
    return out


def _mean(values) -> float:
    known = [v for v in values if math.isfinite(v)]
    return statistics.fmean(known) if known else math.nan
