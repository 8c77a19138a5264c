"""Tables per nucleus size and per crowding: bins × methods, pooled over each run's images."""

from benchmark.report.render.table import Block, Table
from benchmark.report.select.groups import Group
from benchmark.report.stats.sizes import CROWDING_EDGES, TABLE_EDGES, bin_names, bounds
from benchmark.report.stats.summary import summarise
from benchmark.report.tables.common import columns, extent, notes, record

MATCHED = (
    "Nuclei are matched once on the whole image and pooled over the images of a run; hits "
    "and misses stand in the bin of the true nucleus, false positives in that of the predicted one."
)
CEILING = "PQ ceiling: the method's decoding of perfect maps, made from the truth; no network is involved."
CROWDING = "Distance between centroids to the nearest other nucleus of its side; a lone nucleus is in the last bin."


def size_table(group: Group, scores: dict) -> Table | None:
    """PQ and recall per bin of equivalent diameter, PQ without nuclei at the image's edge, and the ceiling.

    Args:
        scores: run folder -> SizeScores or None.

    Returns:
        None when no run has records.
    """
    title = f"Per nucleus size (equivalent diameter; binary PQ, IoU > 0.5). {group.title}: {extent(group)}"
    table = Table("sizes", title, notes(group))
    table.notes.insert(1, MATCHED)
    scored = {run.folder: scores[run.folder] for run in group.runs if scores.get(run.folder)}
    if not scored:
        return None
    tables = {folder: run_scores.table for folder, run_scores in scored.items()}
    inner = {folder: run_scores.inner for folder, run_scores in scored.items()}
    for metric in ("PQ", "recall"):
        _block(table, group, tables, metric, metric, "size", TABLE_EDGES)
    _block(table, group, inner, "PQ", "PQ without edge nuclei", "size", TABLE_EDGES)
    ceilings = {run.folder: _ceiling(run) for run in group.runs if run.folder in scored}
    ceilings = {folder: ceiling for folder, ceiling in ceilings.items() if ceiling is not None}
    if ceilings:
        _block(table, group, ceilings, "PQ", "PQ ceiling", "size", TABLE_EDGES, counts=tables)
        table.notes.insert(2, CEILING)
    return table


def crowding_table(group: Group, scores: dict) -> Table | None:
    """PQ and recall per bin of distance to the nearest nucleus; None when no run has recorded distances."""
    tables = {}
    for run in group.runs:
        run_scores = scores.get(run.folder)
        if run_scores and run_scores.crowding is not None:
            tables[run.folder] = run_scores.crowding
    if not tables:
        return None
    title = f"Per crowding (distance to the nearest nucleus; binary PQ, IoU > 0.5). {group.title}: {extent(group)}"
    table = Table("crowding", title, notes(group))
    table.notes[1:1] = [MATCHED, CROWDING]
    for metric in ("PQ", "recall"):
        _block(table, group, tables, metric, metric, "distance", CROWDING_EDGES)
    return table


def _block(table, group, tables, metric, title, what, edges, counts=None) -> None:
    """Add a block: one line per bin, one column per row of the group.

    Args:
        tables: run folder -> frame, or dict of lists, with a value of `metric` per bin.
        title: what the block and its records call the metric.
        what: heading of the column of bins.
        counts: frames whose n_true are shown where `tables` hold none.
    """
    counts = counts or tables
    by_fold = {run.id.split: counts[run.folder]["n_true"] for run in group.runs if run.folder in counts}
    scores = {folder: list(frame[metric]) for folder, frame in tables.items()}
    lines = [[what, "true nuclei", *(row.label for row in group.rows)]]
    for b, (name, (low, high)) in enumerate(zip(bin_names(edges), bounds(edges))):
        n_true = int(sum(fold.iloc[b] for fold in by_fold.values()))
        line = [name, str(n_true)]
        for row in group.rows:
            values = [scores[run.folder] for run in row.runs if run.folder in scores]
            summary = summarise((float(v[b]) if v[b] is not None else None for v in values), group.expected)
            line.append(summary.text())
            facts = record(group, row) | {"d_from_um": low, "d_to_um": high, "n_true": n_true, "metric": title}
            table.records.append(facts | columns(summary))
        lines.append(line)
    table.blocks.append(Block(lines, title=title))


def _ceiling(run) -> dict[str, list] | None:
    """PQ of each size bin as stored by the run, None when it stored none or in other bins."""
    stored = run.metrics.get("ceiling")
    sizes = stored.get("sizes") if isinstance(stored, dict) else None
    if not isinstance(sizes, list):
        return None
    sizes = [bin_scores for bin_scores in sizes if isinstance(bin_scores, dict)]
    if len(sizes) != len(TABLE_EDGES) + 1 or sizes[0].get("bin") != f"<{TABLE_EDGES[0]:g}":
        return None
    return {"PQ": [bin_scores.get("PQ") for bin_scores in sizes]}
