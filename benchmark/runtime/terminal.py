"""Columns of text, aligned by tabulate and fitted to the terminal that shows them.

Widths are counted in characters, as tabulate counts them.
"""

import re
import shutil
import sys
import textwrap
from collections.abc import Collection, Sequence

from tabulate import tabulate

GAP = 2  # characters between two columns
LEAST = 20  # characters below which no column is wrapped


class _Wrapper(textwrap.TextWrapper):
    """Breaks lines at spaces and behind the commas and slashes of a name, and nowhere else but in long words."""

    wordsep_simple_re = re.compile(r"([\t\n ]+|(?<=[,/]))")


def room() -> int | None:
    """Characters of a line of the terminal that stdout goes to, as COLUMNS says or else the terminal itself; None where
    stdout is no terminal: whatever reads it then gets everything."""
    return shutil.get_terminal_size().columns if sys.stdout and sys.stdout.isatty() else None


def sentence(text: str, room: int | None, indent: str = "") -> str:
    """A sentence on lines of `room` characters, those below the first behind `indent`; paths and other long words stay
    whole. None: on one line."""
    if room is None:
        return text
    return textwrap.fill(text, room, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def columns(rows: Sequence[Sequence[str]], room: int | None) -> str:
    """Rows of text as columns aligned left; cells are wrapped where a row is wider than `room`, none is cut.

    Args:
        rows: all of equal length.
        room: characters of a line; None: as many as it takes.
    """
    if room is not None:
        widths = fitted(natural(rows), room)
        rows = [[wrapped(text, width) for text, width in zip(row, widths, strict=True)] for row in rows]
    return aligned(rows)


def natural(rows: Sequence[Sequence[str]]) -> list[int]:
    """Characters of each column's widest cell."""
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def fitted(widths: Sequence[int], room: int) -> list[int]:
    """Widths of columns whose rows fit `room`: the widest are narrowed first, none below LEAST.

    Where LEAST of each is too much still, the rows stay wider than `room`.
    """
    out = list(widths)
    while out and sum(out) + GAP * (len(out) - 1) > room and max(out) > LEAST:
        out[out.index(max(out))] -= 1
    return out


def aligned(rows: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Rows of text as columns, by tabulate's format `plain`.

    Args:
        rows: all of equal length; every cell is shown letter by letter, what looks like a number too, and may have
            several lines.
        right: columns that are aligned right.
    """
    align = ["right" if j in right else "left" for j in range(len(rows[0]))] if rows else []
    return tabulate(rows, tablefmt="plain", colalign=align, disable_numparse=True, preserve_whitespace=True)


def wrapped(text: str, width: int) -> str:
    """A text on lines of at most `width` characters; one that fits is left as it is."""
    if len(text) <= width:
        return text
    return _Wrapper(width, break_on_hyphens=False, expand_tabs=False, replace_whitespace=False).fill(text)
