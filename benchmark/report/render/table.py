"""One table, three ways out: Markdown, LaTeX (booktabs) and csv."""

import csv
import io
import math
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.report.render.latex import latex
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import atomic

MARKS = {1: "**{}**", 2: "<u>{}</u>"}


@dataclass
class Block:
    """Cells as text. The first row is the header; the first `left` columns are aligned left.

    Attributes:
        ranks: (row, column) -> 1 for the best of its column (printed bold), 2 for the second (underlined).
    """

    cells: list[list[str]]
    left: int = 1
    title: str = ""
    ranks: dict[tuple[int, int], int] = field(default_factory=dict)


@dataclass
class Table:
    """What is printed (blocks of text) and what is computed with (records: one flat dict per csv line).

    Attributes:
        name: stem of the files.
        caption: what is shown, in one sentence.
        notes: sentences below the table.
        says: what may be concluded, above the notes; empty for most tables.
    """

    name: str
    caption: str
    notes: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    records: list[dict] = field(default_factory=list)
    says: str = ""


def markdown(table: Table) -> str:
    """GitHub-flavoured Markdown, readable as plain text too: columns are padded to equal width."""
    out = [f"**{table.caption}**", ""]
    for block in table.blocks:
        cells = [
            [
                _ranked(" ".join(c.replace("|", "\\|").split()), block.ranks.get((i, j)), MARKS)
                for j, c in enumerate(row)
            ]
            for i, row in enumerate(block.cells)
        ]
        widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(cells[0]))]
        lines = [
            "| " + " | ".join(_pad(c, w, i < block.left) for i, (c, w) in enumerate(zip(row, widths))) + " |"
            for row in cells
        ]
        rule = (
            "|"
            + "|".join(f"{'-' * (w + 2)}" if i < block.left else f"{'-' * (w + 1)}:" for i, w in enumerate(widths))
            + "|"
        )
        out += [block.title, ""] if block.title else []
        out += [lines[0], rule, *lines[1:], ""]
    out += [table.says, ""] if table.says else []
    out += [f"- {note}" for note in table.notes]
    return "\n".join(out) + "\n"


def to_csv(records: list[dict]) -> str:
    """Comma-separated values; columns are the union of the keys, missing and non-finite values are empty."""
    columns = list(dict.fromkeys(key for record in records for key in record))
    handle = io.StringIO()
    writer = csv.writer(handle, lineterminator="\n")
    writer.writerow(columns)
    for record in records:
        writer.writerow([_number(record.get(column)) for column in columns])
    return handle.getvalue()


def save(table: Table, folder: Path) -> None:
    """Write <folder>/<name>.md, .tex and .csv. Raises InputError when the folder cannot be written."""
    tex = latex(table, "-".join(Path(folder).parts[-2:]))
    for suffix, text in ((".md", markdown(table)), (".tex", tex), (".csv", to_csv(table.records))):
        write_file(Path(folder) / f"{table.name}{suffix}", text.encode())


def write_file(path: Path, content: bytes) -> None:
    """Write a whole file or none. Raises InputError when its folder cannot be written."""
    try:
        with atomic(path) as handle:
            handle.write(content)
    except OSError as error:
        raise InputError(
            f"Cannot write {path} ({error.strerror or error}); expected a writable folder there."
        ) from error


def _ranked(text: str, rank: int | None, marks: dict[int, str]) -> str:
    return marks[rank].format(text) if rank in marks else text


def ranked(block: Block, column: int, values: list[float]) -> None:
    """Marks the highest and the second highest of a column's values (one per row below the header, NaN: none).

    Equal values share a rank; a column whose values are all the same has no best, and 0 is never marked.
    """
    known = sorted({v for v in values if not math.isnan(v)}, reverse=True)
    if len(known) < 2:
        return
    for i, value in enumerate(values, start=1):
        if value in known[:2] and value > 0:
            block.ranks[i, column] = known.index(value) + 1


def _pad(text: str, width: int, left: bool) -> str:
    return text.ljust(width) if left else text.rjust(width)


def _number(value):
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.10g}" if isinstance(value, float) else value
