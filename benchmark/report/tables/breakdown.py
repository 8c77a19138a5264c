"""Tables per tissue and per type: a group of runs and their scores in, cells out."""

from benchmark.report.render.table import Block, Table
from benchmark.report.select.groups import Group
from benchmark.report.tables.common import caption, columns, notes, record, score_of


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
    empty = []  # tissues without a test image
    for metric in next(iter(keys.values())):
        cells, records = [[what, *(row.label for row in group.rows)]], []
        parts = [(part, k[metric]) for part, k in keys.items()]
        if metric in overall:
            parts.append((f"overall {overall[metric]}", overall[metric]))
        for part, key in parts:
            scores = [score_of(group, row, key, values) for row in group.rows]
            if any(s.n for s in scores) or what != "tissue":
                cells.append([part, *(s.text() for s in scores)])
            else:
                empty.append(part)
            records += [
                record(group, row, protocol, values) | {what: part, "metric": metric} | columns(s)
                for row, s in zip(group.rows, scores)
            ]
        if not table.blocks or any(r["n"] for r in records):  # a metric that the protocol does not have
            table.blocks.append(Block(cells, title=metric))
            table.records += records
    if empty := [name for name in dict.fromkeys(empty) if not name.startswith("overall")]:
        table.notes.insert(1, f"No value, hence no line: {', '.join(empty)}.")
    return table
