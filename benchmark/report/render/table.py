"""Tables, and how they are written: Markdown, LaTeX (booktabs) and csv."""

import csv
import io
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.report.render.latex import latex
from benchmark.runtime.control_signs import visible
from benchmark.runtime.csv_cells import csv_cell
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import atomic

MARKS = {1: "**{}**", 2: "<u>{}</u>"}
CODE = re.compile(r"(?<!`)(`+)(?!`)(.*?[^`])\1(?!`)")  # a span of code in Markdown: runs of backticks of one length
# what begins markup from HTML or a link; single signs that a renderer does not take for markup stay readable
MARKUP = (
    (re.compile(r"\\"), r"\\\\"),
    (re.compile(r"&(?=#?\w+;)"), "&amp;"),
    (re.compile(r"<(?=[A-Za-z/!?])"), "&lt;"),
    (re.compile(r"`"), r"\`"),
    (re.compile(r"\]\("), r"]\("),
)


@dataclass
class Block:
    """Rows of text entries.

    Attributes:
        rows: the first one is the header; all have equal lengths.
        left: how many columns, counted from the first, are aligned left.
        title: stands above the rows; empty for none.
        ranks: (row, column) -> 1 for the best of its column (printed bold), 2 for the second (underlined).
    """

    rows: list[list[str]]
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
        conclusion: what may be concluded, above the notes; empty for most tables.
    """

    name: str
    caption: str
    notes: list[str] = field(default_factory=list)
    blocks: list[Block] = field(default_factory=list)
    records: list[dict] = field(default_factory=list)
    conclusion: str = ""


def markdown(table: Table) -> str:
    """GitHub-flavoured Markdown, readable as plain text too: columns are padded to equal width.

    Names of methods, classes and data sets stand in cells and sentences: neither holds live HTML, links or borders of
    cells. In sentences `code` stays code; in cells a backtick is a backtick.
    """
    out = [f"**{_sentence(table.caption)}**", ""]
    for block in table.blocks:
        out += [_sentence(block.title), ""] if block.title else []
        out += [*_markdown_rows(block), ""]
    out += [_sentence(table.conclusion), ""] if table.conclusion else []
    out += [f"- {_sentence(note)}" for note in table.notes]
    return "\n".join(out) + "\n"


def _markdown_rows(block: Block) -> list[str]:
    """Lines of a block: the header, the rule below it, then the other rows."""
    rows = []
    for i, row in enumerate(block.rows):
        texts = [_cell(entry) for entry in row]
        rows.append([_marked(text, block.ranks.get((i, j))) for j, text in enumerate(texts)])
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        padded = []
        for j, (text, width) in enumerate(zip(row, widths)):
            padded.append(text.ljust(width) if j < block.left else text.rjust(width))
        lines.append(f"| {' | '.join(padded)} |")
    rules = ["-" * (width + 2) if j < block.left else "-" * (width + 1) + ":" for j, width in enumerate(widths)]
    return [lines[0], f"|{'|'.join(rules)}|", *lines[1:]]


def _cell(text: str) -> str:
    """Text of a cell, without markup."""
    text = _plain(" ".join(text.split())).replace("|", "\\|")
    return text.replace("*", "\\*") if text.count("*") > 1 else text  # one alone emphasises nothing


def _sentence(text: str) -> str:
    """A sentence of ours with names in it, on one line: no markup but spans of code, in which nothing is live."""
    text, at, out = " ".join(text.split()), 0, []
    for span in CODE.finditer(text):
        out += [_plain(text[at : span.start()]), visible(span[0])]
        at = span.end()
    return "".join([*out, _plain(text[at:])])


def _plain(text: str) -> str:
    text = visible(text)
    for sign, escaped in MARKUP:
        text = sign.sub(escaped, text)
    return text


def to_csv(records: list[dict]) -> str:
    """Comma-separated values; columns are the union of the keys, missing and non-finite values are empty.

    Names that a spreadsheet would take for a formula are marked as text, see `runtime.csv_cells`.
    """
    columns = list(dict.fromkeys(key for record in records for key in record))
    handle = io.StringIO()
    writer = csv.writer(handle, lineterminator="\n")
    writer.writerow([csv_cell(column) for column in columns])
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


def _marked(text: str, rank: int | None) -> str:
    return MARKS[rank].format(text) if rank in MARKS else text


def ranked(block: Block, column: int, values: list[float]) -> None:
    """Set the ranks of the highest and the second highest value of a column.

    Equal values share a rank; a column whose values are all the same has no best, and 0 is never ranked.

    Args:
        values: one per row below the header, NaN where there is none.
    """
    known = sorted({v for v in values if not math.isnan(v)}, reverse=True)
    if len(known) < 2:
        return
    for i, value in enumerate(values, start=1):
        if value in known[:2] and value > 0:
            block.ranks[i, column] = known.index(value) + 1


def _number(value):
    """A value as csv has it: floats with ten digits, "" for what is missing or not finite."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.10g}" if isinstance(value, float) else csv_cell(value)
