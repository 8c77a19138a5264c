"""Tables per tissue and per nucleus type."""

from benchmark.report.render.table import Block, Table
from benchmark.report.select.groups import Group
from benchmark.report.tables.common import caption, columns, notes, record, score_of


def tissue_table(group: Group, protocol: str, values: dict) -> Table | None:
    """bPQ and mPQ, tissues × methods; None for data without tissues.

    A tissue that the data set does not list stands last, marked: it is not in the overall mean.

    Args:
        values: run folder -> flat scores under `protocol`.
    """
    known, scored = group.names("tissues"), set()
    for scores in values.values():
        for key in scores:
            if key.startswith("tissue/"):
                scored.add(key.removeprefix("tissue/").rpartition("/")[0])
    titles = {name: name for name in known if name in scored}
    titles |= {name: f"{name} (not in the mean)" for name in sorted(scored - set(known))}
    keys = {title: {m: f"tissue/{name}/{m}" for m in ("bPQ", "mPQ")} for name, title in titles.items()}
    if not keys:
        return None
    return _breakdown(group, protocol, values, "tissues", "tissue", keys, {"bPQ": "bPQ", "mPQ": "mPQ"})


def type_table(group: Group, protocol: str, values: dict) -> Table | None:
    """PQ and F1, nucleus types × methods; None for data without types.

    Args:
        values: run folder -> flat scores under `protocol`.
    """
    keys = {name: {"PQ": f"PQ_{name}", "F1": f"F1_{name}"} for name in group.names("classes")}
    return _breakdown(group, protocol, values, "types", "type", keys, {"PQ": "mPQ"}) if keys else None


def _breakdown(group, protocol, values, name, what, keys, overall) -> Table:
    """One block per metric: parts × methods.

    Args:
        name: stem of the table's name.
        what: a part: "tissue" or "type".
        keys: title of a part -> {metric: key in the scores}.
        overall: metric -> key of the value of the main table, which stands below the parts.
    """
    table = Table(f"{name}-{protocol}", f"Per {what}. {caption(group, protocol, values)}", notes(group))
    empty: dict[str, list[str]] = {}  # metric -> tissues without a value, such as those without a test image
    for metric in next(iter(keys.values())):
        lines, records = [[what, *(row.label for row in group.rows)]], []
        parts = [(part, of_metric[metric]) for part, of_metric in keys.items()]
        if metric in overall:
            parts.append((f"overall {overall[metric]}", overall[metric]))
        for part, key in parts:
            scores = [score_of(group, row, key, values) for row in group.rows]
            if any(s.n for s in scores) or what != "tissue":
                lines.append([part, *(s.text() for s in scores)])
            else:
                empty.setdefault(metric, []).append(part)
            for row, score in zip(group.rows, scores):
                facts = record(group, row, protocol, values) | {what: part, "metric": metric}
                records.append(facts | columns(score))
        if not table.blocks or any(r["n"] for r in records):  # a metric that the protocol does not have
            table.blocks.append(Block(lines, title=metric))
            table.records += records
    table.notes[1:1] = _left_out({block.title: empty.get(block.title, []) for block in table.blocks})
    return table


def _left_out(empty: dict[str, list[str]]) -> list[str]:
    """Sentences on the lines that blocks do not have.

    Args:
        empty: metric of a block -> what has no value there.
    """
    metrics_of: dict[tuple[str, ...], list[str]] = {}
    for metric, names in empty.items():
        if names := [name for name in names if not name.startswith("overall")]:
            metrics_of.setdefault(tuple(names), []).append(metric)
    return [f"No {' or '.join(metrics)}, hence no line: {', '.join(names)}." for names, metrics in metrics_of.items()]
