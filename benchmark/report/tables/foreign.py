"""Tables of predictions from files, scored against truth from files, under several protocols."""

import numpy as np

from benchmark.metrics.records import Records
from benchmark.metrics.sizes import by_size
from benchmark.report.render.table import Block, Table

MAIN = ("bPQ", "bDQ", "bSQ", "mPQ", "F1", "precision", "recall", "Dice", "AJI")


def tables(values: dict[str, dict], records: Records, classes: list[str], tissues: list[str]) -> list[Table]:
    """Main, per-class, per-tissue and per-size tables.

    Args:
        values: protocol -> {metric: value}.
    """
    n = len(records.images)
    true, pred = (int(records.images[f"n_{side}"].sum()) for side in ("true", "pred"))
    main = Table("scores", f"{n} images, {true} true and {pred} predicted nuclei; a row per protocol")
    main.blocks.append(_block("protocol", {p: [v.get(m) for m in MAIN] for p, v in values.items()}, MAIN))
    main.notes = [
        "–: the protocol has no such score, or nothing to compute it from. Scores of different protocols are "
        "not comparable; docs/metrics.md says how they differ."
    ]
    out = [main, *_classes(values, classes)]
    if len(tissues) > 1:
        out.append(_tissues(values, tissues))
    out.append(_sizes(records))
    return out


def _classes(values: dict, classes: list[str]) -> list[Table]:
    out = []
    for metric in ("PQ", "F1"):
        rows = {}
        for protocol, scores in values.items():
            of_class = [scores.get(f"{metric}_{name}") for name in classes]
            if any(value is not None and np.isfinite(value) for value in of_class):
                rows[protocol] = of_class
        if rows:
            table = Table(f"{metric}-classes", f"{metric} per class")
            table.blocks.append(_block("protocol", rows, classes))
            out.append(table)
    return out


def _tissues(values: dict, tissues: list[str]) -> Table:
    table = Table("tissues", "bPQ and mPQ per tissue")
    for metric in ("bPQ", "mPQ"):
        columns = [p for p, v in values.items() if any(f"tissue/{t}/{metric}" in v for t in tissues)]
        rows = {t: [values[p].get(f"tissue/{t}/{metric}") for p in columns] for t in tissues}
        if columns:
            table.blocks.append(_block("tissue", rows, columns, metric))
    return table


def _sizes(records: Records) -> Table:
    table = Table("sizes", "By nucleus size (equivalent diameter, µm; binary PQ, IoU > 0.5, pooled over images)")
    columns = ("true nuclei", "tp", "fp", "fn", "DQ", "SQ", "PQ", "recall")
    for border, title in ((True, "all nuclei"), (False, "without nuclei that touch the image's edge")):
        frame = by_size(records, border=border).rename(columns={"n_true": "true nuclei"})
        rows = {str(row["bin"]): [row[c] for c in columns] for row in frame.to_dict("records")}
        table.blocks.append(_block("size", rows, columns, title))
    return table


def _block(first: str, rows: dict[str, list], columns, title: str = "") -> Block:
    """A block with a header of `first` and the columns; rows: text of the first column -> values of the others."""
    lines = [[first, *columns]]
    for name, row in rows.items():
        lines.append([name, *map(_text, row)])
    return Block(lines, title=title)


def _text(value) -> str:
    if value is None or not np.isfinite(value):
        return "–"
    return str(int(value)) if isinstance(value, int | np.integer) else f"{value:.4f}"
