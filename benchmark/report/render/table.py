"""Tables, and how they are written: Markdown, LaTeX (booktabs) and csv."""

import csv
import io
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from tabulate import tabulate

from benchmark.report.render.latex import INTERVAL, latex
from benchmark.runtime.control_signs import visible
from benchmark.runtime.csv_cells import csv_cell
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import atomic

NUMBER = re.compile(r"-?\d+(\.\d+)?")
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
        importance: columns in the order in which a terminal too narrow for all takes them, behind those that tell the
            rows apart; the others follow from the left.
    """

    rows: list[list[str]]
    left: int = 1
    title: str = ""
    ranks: dict[tuple[int, int], int] = field(default_factory=dict)
    importance: list[int] = field(default_factory=list)

    def names(self) -> list[str]:
        """The header, an interval named with the score that it belongs to: "bPQ 95 %"."""
        head = self.rows[0]
        return [f"{before} {name}" if name == INTERVAL else name for before, name in zip(["", *head], head)]


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
        out += [_rows(block), ""]
    out += [_sentence(table.conclusion), ""] if table.conclusion else []
    out += [f"- {_sentence(note)}" for note in table.notes]
    return "\n".join(out) + "\n"


def _rows(block: Block) -> str:
    """A block by tabulate: cells are text, none is taken for a number, and no space within a cell is removed."""
    rows = []
    for i, row in enumerate(block.rows):
        texts = [_cell(entry) for entry in row]
        rows.append([_marked(text, block.ranks.get((i, j))) for j, text in enumerate(texts)])
    align = ["left" if j < block.left else "right" for j in range(len(rows[0]))]
    return tabulate(rows[1:], rows[0], tablefmt="pipe", colalign=align, disable_numparse=True, preserve_whitespace=True)


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


def ranked(block: Block, column: int) -> None:
    """Set the ranks of the highest and the second highest value of a column, as printed.

    Equal digits share a rank, whatever follows in digits that are not printed, and the next lower digits have the next
    rank. A column whose values are all the same has no best, and 0 is never ranked.
    """
    values = [printed_value(row[column]) for row in block.rows[1:]]
    known = sorted({v for v in values if not math.isnan(v)}, reverse=True)
    if len(known) < 2:
        return
    for i, value in enumerate(values, start=1):
        if value in known[:2] and value > 0:
            block.ranks[i, column] = known.index(value) + 1


def printed_value(text: str) -> float:
    """The number that a cell begins with, such as 0.598 of "0.598 ± 0.032 (2/3)"; NaN without one."""
    number = NUMBER.match(text)
    return float(number[0]) if number else math.nan


def _number(value):
    """A value as csv has it: floats with ten digits, "" for what is missing or not finite."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.10g}" if isinstance(value, float) else csv_cell(value)
