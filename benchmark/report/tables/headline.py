"""The main table and the cost table: a row per method."""

import math

from benchmark.report.render.latex import INTERVAL
from benchmark.report.render.table import Block, Table, ranked
from benchmark.report.select.groups import Group, Row
from benchmark.report.select.observations import Observed
from benchmark.report.stats.bootstrap import headline_interval
from benchmark.report.stats.summary import Summary, summarise
from benchmark.report.tables.common import caption, fixed, named, notes, record, score_of
from benchmark.report.tables.comparisons import reading

SCORES = ("bPQ", "mPQ", "bDQ", "bSQ", "F1", "Dice", "AJI")
MEANS = tuple(f"{mean}/{score}" for mean in ("image_mean", "tissue_mean") for score in ("bPQ", "mPQ"))  # csv only
SHOWN = {"bPQ": "bPQ", "mPQ": "mPQ", "bDQ": "DQ", "bSQ": "SQ", "F1": "detection F1"}
# what protocols have in common; what one adds to it, as R2 or a score of one's own, gets a column
COMMON = {*SCORES, "mDQ", "mSQ", "Jaccard", "precision", "recall", "accuracy", "version"}
BACKBONE = "backbone (weights)"
WITH_INTERVAL = ("bPQ", "mPQ", "F1")  # as printed; the csv has those of all SHOWN
COSTS = (
    *("params", "trainable", "gflops", "images_per_second", "forward_ms", "decode_ms"),
    *("train_seconds", "pretrain_seconds"),
)
MEMORY = ("rss", "cuda")
MIB = 2.0**-20
# what a narrow terminal shows first: scores with intervals, and of the costs those that decide what one can run
FIRST = ("bPQ", "mPQ", "bPQ 95 %", "detection F1", "mPQ 95 %", "detection F1 95 %", "DQ", "SQ")
FIRST_COSTS = ("training (min)", "images/s", "trainable (M)", "params (M)", "peak memory (MiB)", "GFLOPs")


def main_table(group: Group, protocol: str, values: dict, observed: Observed) -> Table:
    """Methods × accuracy, the best of each column bold, the second underlined.

    Args:
        values: run folder -> flat scores under `protocol`.
        observed: per-image scores under `protocol`, for the intervals.
    """
    types = [name for name in group.names("classes") if any(f"F1_{name}" in v for v in values.values())]
    head = []
    for score, name in SHOWN.items():
        head += [name, INTERVAL] if score in WITH_INTERVAL else [name]
    added = added_scores(group, values)
    first = [*named(group), BACKBONE]
    scores = [*SHOWN.values(), *(f"F1 {t}" for t in types)]
    block = Block([[*first, *head, *scores[len(SHOWN) :], *added, "runs"]], left=len(first))
    names = block.names()
    block.importance = [names.index(name) for name in (*added, *FIRST, *scores[len(SHOWN) :], "runs")]
    table = Table(f"main-{protocol}", caption(group, protocol, values), notes(group), [block])
    tissues = group.names("tissues")
    for row in group.rows:
        keys = [*SCORES, *MEANS, *(f"F1_{t}" for t in types), *added]
        summaries = {key: score_of(group, row, key, values) for key in keys}
        line = [*named(group, row), row.backbone_text]
        facts = record(group, row, protocol, values) | _columns(summaries)
        for key in [*SHOWN, *(f"F1_{t}" for t in types)]:
            mean = summaries[key].mean
            line.append(summaries[key].text())
            if key in SHOWN:
                bounds = headline_interval(observed, row, key, tissues, mean)
                facts |= {f"{key}_low": bounds.low, f"{key}_high": bounds.high, f"{key}_clusters": bounds.clusters}
            if key in WITH_INTERVAL:
                line.append("–" if math.isnan(bounds.low) else f"[{bounds.low:.3f}, {bounds.high:.3f}]")
        line += [summaries[key].text() for key in added]
        block.rows.append([*line, f"{len(row.runs)}/{group.expected}"])
        table.records.append(facts)
    for name in scores:  # of an added one nothing says whether more is better
        ranked(block, names.index(name))
    if any(line[len(first) + 1] != "–" for line in block.rows[1:]):
        table.notes.insert(1, reading(observed, 0)[0])
    return table


def added_scores(group: Group, values: dict) -> list[str]:
    """Scores of the set that the protocol adds to those of all protocols, in its order; not those of a type, a tissue
    or an averaging."""
    types = tuple(f"_{name}" for name in group.names("classes"))
    keys = dict.fromkeys(key for scores in values.values() for key in scores)
    return [key for key in keys if key not in COMMON and "/" not in key and not key.endswith(types)]


def cost_table(group: Group) -> Table | None:
    """Methods × parameters, FLOPs, speed, memory, time; None without any run."""
    if not group.runs:
        return None
    head = ["params (M)", "trainable (M)", "GFLOPs", "images/s", "decoding (ms)", "peak memory (MiB)", "training (min)"]
    first = [*named(group), BACKBONE]
    head = [*first, *head, "runs"]
    block = Block([head], left=len(first), importance=[head.index(name) for name in FIRST_COSTS])
    table = Table("cost", f"Cost. {group.title}", notes(group), [block])
    for row in group.rows:
        cost = {c: summarise((r.cost.get(c) for r in row.runs), group.expected) for c in COSTS}
        memory = {m: _memory(group, row, m) for m in MEMORY}
        facts = record(group, row) | _columns(cost)
        facts |= _columns({f"peak_memory_{kind}_bytes": summary for kind, summary in memory.items()})
        used = [summary.text(0, MIB, unit=kind) for kind, summary in memory.items() if summary.n]
        block.rows.append(
            [
                *named(group, row),
                row.backbone_text,
                fixed(cost["params"], 2, 1e-6),
                fixed(cost["trainable"], 2, 1e-6),
                fixed(cost["gflops"], 1),
                cost["images_per_second"].text(1),
                cost["decode_ms"].text(1),
                "; ".join(used) or "–",
                cost["train_seconds"].text(1, 1 / 60),
                f"{len(row.runs)}/{group.expected}",
            ]
        )
        table.records.append(facts)
    table.notes[1:1] = [
        "GFLOPs: of the forward passes that one test image takes, a multiply-add counting as 2. images/s: forward pass "
        "and decoding of the test set.",
        "Peak memory: rss is main memory of the process, cuda is memory allocated on the GPU.",
    ]
    return table


def _columns(summaries: dict[str, Summary]) -> dict:
    """Mean, standard deviation and number of values of each key, as columns of a csv line."""
    columns = {}
    for key, summary in summaries.items():
        columns |= {f"{key}_mean": summary.mean, f"{key}_sd": summary.sd, f"{key}_n": summary.n}
    return columns


def _memory(group: Group, row: Row, kind: str) -> Summary:
    used = [r.cost.get("peak_memory_bytes") for r in row.runs if r.cost.get("peak_memory_kind") == kind]
    return summarise(used, group.expected)
