"""Tables on a terminal: of a block that is wider, the columns that matter most, and the names of the others."""

from pathlib import Path

from benchmark.report.render.latex import identifying
from benchmark.report.render.table import Block, Table, markdown
from benchmark.runtime.control_signs import visible
from benchmark.runtime.terminal import GAP, LEAST, aligned, fitted, natural, sentence, wrapped

MARKS = {1: "*{}*", 2: "_{}_", None: " {} "}  # of equal width, so that digits stay below digits
MEANING = "*best* of its column, _second_."


def shown(table: Table, room: int | None, where: Path | None = None) -> str:
    """A table as a command prints it.

    Args:
        room: characters of a line of the terminal; None, which is for pipes and files: the whole table in Markdown.
        where: path without suffix of the files that hold the whole table; None where there are none.

    Returns:
        On a terminal: caption, columns and notes within `room`. Columns for which there is no room are named below
        those that are shown, with where to find them; a long cell goes on in the lines below.
    """
    if room is None:
        return markdown(table)
    parts = [_sentence(table.caption, room)]
    for block in table.blocks:
        parts += [_sentence(block.title, room), _block(block, room, where)]
    parts.append(_sentence(table.conclusion, room))
    parts.append("\n".join(_sentence(f"- {note}", room, "  ") for note in table.notes))
    return "\n\n".join(part for part in parts if part) + "\n"


def _block(block: Block, room: int, where: Path | None) -> str:
    """The chosen columns under their header and a rule, then what the marks mean and which columns are left out."""
    with_marks = {column for _, column in block.ranks}
    head, *rows = [[visible(" ".join(text.split())) for text in row] for row in block.rows]
    for i, row in enumerate(rows, start=1):
        for j in with_marks:
            row[j] = MARKS[block.ranks.get((i, j))].format(row[j])
    # a header may be broken between its words
    widths = natural([*rows, [max(name.split(), key=len, default="") for name in head]])
    chosen = _chosen(block, [min(width, LEAST) for width in widths], room)
    fit = dict(zip(chosen, fitted([widths[j] for j in chosen], room)))
    lines = [[wrapped(row[j], fit[j]) for j in chosen] for row in (head, *rows)]
    lines.insert(1, ["-" * fit[j] for j in chosen])
    parts = [aligned(lines, right=[k for k, j in enumerate(chosen) if j >= block.left])]
    if with_marks & fit.keys():
        parts.append(MEANING)
    if names := [name for j, name in enumerate(block.names()) if j not in fit]:
        place = f"all in {where}.md" if where else "all with `| cat`"
        parts.append(_sentence(f"Left out for want of width: {', '.join(names)}; {place}.", room, "  "))
    return "\n".join(parts)


def _chosen(block: Block, least: list[int], room: int) -> list[int]:
    """Columns that fit: those that tell the rows apart and one more in any case, then by importance.

    Args:
        least: characters that each column takes at least.
    """
    first = list(range(identifying(block)))
    others = [j for j in dict.fromkeys([*block.importance, *range(len(least))]) if j not in first]
    chosen = [*first, *others[:1]]
    used = sum(least[j] + GAP for j in chosen)  # the last gap is not there
    for j in others[1:]:
        if used + least[j] <= room:
            chosen.append(j)
            used += least[j] + GAP
    return sorted(chosen)


def _sentence(text: str, room: int, indent: str = "") -> str:
    return sentence(visible(" ".join(text.split())), room, indent)
