"""Tables per tissue, per type and per nucleus size: a group of runs and their scores in, cells out."""

from benchmark.report.cells import caption, columns, extent, notes, record, score_of
from benchmark.report.formats import Block, Table
from benchmark.report.groups import Group
from benchmark.report.sizes import TABLE_EDGES, bin_names, bounds, scores_of
from benchmark.report.stats import summarise


def tissue_table(group: Group, protocol: str, values: dict) -> Table | None:
    """bPQ and mPQ, tissues × methods; None for data without tissues.

    A tissue that the data set does not list stands last, under its own name: it is not in the overall mean.
    """
    known = group.names("tissues")
    scored = [k.split("/", 1)[1].rsplit("/", 1)[0] for v in values.values() for k in v if k.startswith("tissue/")]
    others = {name: f"{name} (not in the mean)" for name in sorted(set(scored) - set(known))}
    named = {name: name for name in known if name in scored} | others
    keys = {shown: {m: f"tissue/{name}/{m}" for m in ("bPQ", "mPQ")} for name, shown in named.items()}
    return (
        _breakdown(group, protocol, values, "tissues", "tissue", keys, {"bPQ": "bPQ", "mPQ": "mPQ"}) if keys else None
    )


def type_table(group: Group, protocol: str, values: dict) -> Table | None:
    """PQ and F1, nucleus types × methods; None for data without types."""
    keys = {name: {"PQ": f"PQ_{name}", "F1": f"F1_{name}"} for name in group.names("classes")}
    return _breakdown(group, protocol, values, "types", "type", keys, {"PQ": "mPQ"}) if keys else None


def _breakdown(group, protocol, values, name, what, keys, overall) -> Table:
    """One block per metric: rows are parts, columns methods; `overall` adds the main table's value."""
    table = Table(f"{name}-{protocol}", f"Per {what}. {caption(group, protocol, values)}", notes(group))
    for metric in next(iter(keys.values())):
        cells, records = [[what, *(row.label for row in group.rows)]], []
        parts = [(part, k[metric]) for part, k in keys.items()]
        if metric in overall:
            parts.append((f"overall {overall[metric]}", overall[metric]))
        for part, key in parts:
            scores = [score_of(group, row, key, values) for row in group.rows]
            cells.append([part, *(s.text() for s in scores)])
            records += [
                record(group, row, protocol, values) | {what: part, "metric": metric} | columns(s)
                for row, s in zip(group.rows, scores)
            ]
        if not table.blocks or any(r["n"] for r in records):  # a metric that the protocol does not have
            table.blocks.append(Block(cells, title=metric))
            table.records += records
    return table


def size_table(group: Group, scores: dict) -> Table | None:
    """PQ and recall, size bins × methods, pooled over each run's images; None when no run has records."""
    per_row = {id(row): [s.table for s in scores_of(row, scores)] for row in group.rows}
    if not any(per_row.values()):
        return None
    title = f"Per nucleus size (equivalent diameter; binary PQ, IoU > 0.5). {group.title}: {extent(group)}"
    table = Table("sizes", title, notes(group))
    table.notes.insert(
        1,
        "Nuclei are matched once on the whole image and pooled over the images of a run; hits "
        "and misses stand in the bin of the true nucleus, false positives in that of the predicted one.",
    )
    by_fold = {run.id.fold: scores[run.folder].table["n_true"] for run in group.runs if scores.get(run.folder)}
    for metric in ("PQ", "recall"):
        cells = [["size", "true nuclei", *(row.label for row in group.rows)]]
        for b, (name, (low, high)) in enumerate(zip(bin_names(TABLE_EDGES), bounds(TABLE_EDGES))):
            n_true = int(sum(counts.iloc[b] for counts in by_fold.values()))
            line = [name, str(n_true)]
            for row in group.rows:
                summary = summarise((t[metric].iloc[b] for t in per_row[id(row)]), group.expected)
                line.append(summary.text())
                told = record(group, row) | {"d_from_um": low, "d_to_um": high, "n_true": n_true}
                table.records.append(told | {"metric": metric} | columns(summary))
            cells.append(line)
        table.blocks.append(Block(cells, title=metric))
    _ceilings(table, group, by_fold)
    return table


def _ceilings(table: Table, group: Group, by_fold: dict) -> None:
    """Adds the block of what each method's decoding reaches on perfect maps; nothing when no run stored it."""
    bins = bin_names(TABLE_EDGES)
    stored = {id(row): [c for run in row.runs if len(c := _ceiling(run)) == len(bins)] for row in group.rows}
    if not any(stored.values()):
        return
    cells = [["size", "true nuclei", *(row.label for row in group.rows)]]
    for b, (name, (low, high)) in enumerate(zip(bins, bounds(TABLE_EDGES))):
        n_true = int(sum(counts.iloc[b] for counts in by_fold.values()))
        line = [name, str(n_true)]
        for row in group.rows:
            summary = summarise((ceiling[b] for ceiling in stored[id(row)]), group.expected)
            line.append(summary.text())
            told = record(group, row) | {"d_from_um": low, "d_to_um": high, "n_true": n_true}
            table.records.append(told | {"metric": "PQ ceiling"} | columns(summary))
        cells.append(line)
    table.blocks.append(Block(cells, title="PQ ceiling"))
    table.notes.insert(
        2, "PQ ceiling: the method's decoding of perfect maps, made from the truth; no network is involved."
    )


def _ceiling(run) -> list:
    """PQ of each size bin as stored by the run, [] when it stored none."""
    stored = run.metrics.get("ceiling")
    lines = stored.get("sizes") if isinstance(stored, dict) else None
    lines = [line for line in lines if isinstance(line, dict)] if isinstance(lines, list) else []
    same = lines and lines[0].get("bin") == f"<{TABLE_EDGES[0]:g}"  # older runs had other bins
    return [line.get("PQ") for line in lines] if same else []
