"""A table as LaTeX that compiles anywhere: ASCII only, booktabs and graphicx, split where it would not fit a page.

Written here because no library does it: tabulate's and pandas' LaTeX is one tabular however wide and high it is, with
the letters of names as they are; tables here are split by columns and by pages and are ASCII throughout.

Lengths are estimates from the number of characters, on the careful side for one and for two columns of text.
"""

import math
import re
import unicodedata
from dataclasses import replace

INTERVAL = "95 %"  # header of a column that belongs to the one before it
PREAMBLE = r"% needs \usepackage{booktabs,graphicx}"
SIGNS = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    '"': r"\char34{}",
    "–": "--",
    "—": "---",
    "‐": "-",
    "‑": "-",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\ldots{}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "−": r"$-$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "≈": r"$\approx$",
    "≠": r"$\neq$",
    "→": r"$\rightarrow$",
    "←": r"$\leftarrow$",
    "∞": r"$\infty$",
    "√": r"$\surd$",
    "∅": r"$\emptyset$",
    "·": r"$\cdot$",
    "÷": r"$\div$",
    "°": r"$^{\circ}$",
    "²": r"$^2$",
    "³": r"$^3$",
    "®": r"\textregistered{}",
    "™": r"\texttrademark{}",
    "©": r"\copyright{}",
    "§": r"\S{}",
    "µ": r"$\mu$",  # the micro sign; the Greek letter is below
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "œ": r"\oe{}",
    "Œ": r"\OE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
    "ı": r"\i{}",
}
SIGNS |= {
    letter: rf"$\{name}$"
    for letter, name in zip(
        "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi psi "
        "omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega".split(),
        strict=True,
    )
}
ACCENTS = dict(
    zip("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327", "`'^~=u.\"rHvc", strict=True)
)
MARKS = {1: r"\textbf{{{}}}", 2: r"\underline{{{}}}"}

LINE = 72  # characters of text size in a line of one column of text
NARROW = 50  # what one of two columns of text holds; wider tables take both (table*)
WIDEST = 125  # characters that may be scaled down to the line and still be read
LAST = 12  # more of them rather than one column alone
HEIGHT = 480.0  # pt of a page below its first caption
ROW = 12.0  # pt of a line, of footnotes less
FOOTNOTE = (86, 9.5)  # characters in a line, pt of a line
UNBROKEN = 30  # characters of a word that may stand without a place to break


def latex(table, place: str = "") -> str:
    """A `table.Table` as table environments; notes stand below in footnotesize.

    A block that is wider than the line is scaled down to it; one that could then not be read is split by columns, and
    one that is higher than a page by rows. What does not fit one page follows as "continued", under the same number.

    Args:
        place: what precedes the name in the label, so that equal tables of several groups can stand in one document.
    """
    star = "*" if max((_width(block) for block in table.blocks), default=0) > NARROW else ""
    label = re.sub(r"[^A-Za-z0-9]+", "-", f"{place}-{table.name}" if place else table.name).strip("-")
    share = 1.0 if star else 0.55  # of the line, in two columns
    room = HEIGHT - ROW * len(table.caption) / (LINE * share)
    out = [PREAMBLE]
    for i, page in enumerate(_pages(table, room, share)):
        caption = escape(table.caption) + (" (continued)" if i else "")
        out += [rf"\begin{{table{star}}}", r"\centering", *([r"\addtocounter{table}{-1}"] if i else [])]
        out += [rf"\caption{{{caption}}}", *([] if i else [rf"\label{{tab:{label}}}"])]
        sentences = [escape(piece) for piece in page if isinstance(piece, str)]
        for piece in page:
            if not isinstance(piece, str):
                out += _tabular(piece)
        out += [r"\par\footnotesize\raggedright", *sentences] if sentences else []
        out += [rf"\end{{table{star}}}", ""]
    return "\n".join(out)


def escape(text: str) -> str:
    r"""Text for LaTeX in ASCII: special characters escaped, signs in math mode, accents as commands, code in
    typewriter.

    Two hyphens stay two; a character that no command here has is spelt as [U+4E2D].
    """
    spans = " ".join(text.split()).split("`")
    if len(spans) % 2 == 0:  # an odd number of backticks marks no code
        spans = ["".join(spans)]
    # every second span, from the second on, stood between backticks
    return "".join(rf"\texttt{{{_escaped(span)}}}" if i % 2 else _escaped(span) for i, span in enumerate(spans))


def _escaped(span: str) -> str:
    return " ".join(_escaped_word(word) for word in unicodedata.normalize("NFC", span).split(" "))


def _escaped_word(word: str) -> str:
    out = ""
    for character in word:
        sign = _sign(character)
        if sign[0] == "-" and out.endswith("-"):
            out += "{}"  # LaTeX would join two hyphens to a dash
        out += sign
        if len(word) > UNBROKEN and character in "/,=_@+:;":
            out += r"\allowbreak{}"
    return out


def _sign(character: str) -> str:
    """LaTeX of one character."""
    if character in SIGNS:
        return SIGNS[character]
    if " " <= character <= "~":
        return character
    letter, *marks = unicodedata.normalize("NFKD", character)
    if len(marks) == 1 and marks[0] in ACCENTS and letter.isascii() and letter.isalpha():
        return rf"\{ACCENTS[marks[0]]}{{{letter}}}"
    return f"[U+{ord(character):04X}]"


def _widths(block) -> list[float]:
    """Characters of each column, the space between columns included."""
    return [max(map(len, column)) + 2.5 for column in zip(*block.rows, strict=True)]


def _width(block) -> float:
    return sum(_widths(block))


def _height(block) -> float:
    """Height of a block in pt."""
    scale = min(1.0, 1.25 * LINE / max(_width(block), 1))
    return ROW * (1.6 + scale * (len(block.rows) + bool(block.title) + 0.5))


def _pages(table, room: float, share: float) -> list[list]:
    """Blocks, and below them sentences, of each page.

    Args:
        room: height of the first page in pt.
        share: width of the text as a share of the line.
    """
    blocks = [part for block in table.blocks for part in _by_columns(block)]
    pieces = [part for block in blocks for part in _by_rows(block, room)]
    pieces += [text for text in (table.conclusion, *table.notes) if text]
    pages, left = [[]], room
    for piece in pieces:
        needed = FOOTNOTE[1] * len(piece) / (FOOTNOTE[0] * share) if isinstance(piece, str) else _height(piece)
        if needed > left and pages[-1]:
            pages.append([])
            left = room
        pages[-1].append(piece)
        left -= needed
    return pages


def _by_columns(block) -> list:
    """Parts of the block that are narrow enough to be read; an interval stays with its value.

    Each part has those of the columns on the left that tell its rows apart, the first part has all of them. There are
    as few parts as WIDEST allows, and they are about equally wide.
    """
    widths = _widths(block)
    repeated = list(range(identifying(block)))
    together: list[list[int]] = []
    for j in range(block.left, len(widths)):
        if together and block.rows[0][j] == INTERVAL:
            together[-1].append(j)
        else:
            together.append([j])
    widest = _filled(block, together, repeated, widths, WIDEST)
    parts = widest
    for limit in range(LINE, WIDEST + 1, 3):
        narrower = _filled(block, together, repeated, widths, limit)
        if len(narrower) == len(widest):
            parts = narrower
            break
    rows = range(len(block.rows))
    lefts = [block.left, *[len(repeated)] * (len(parts) - 1)]
    return [_part(block, rows, columns, left) for columns, left in zip(parts, lefts)]


def identifying(block) -> int:
    """How many of the columns on the left it takes to tell the rows apart."""
    body = block.rows[1:]
    for count in range(1, block.left):
        if len({tuple(row[:count]) for row in body}) == len(body):
            return count
    return block.left


def _filled(
    block, together: list[list[int]], repeated: list[int], widths: list[float], limit: float
) -> list[list[int]]:
    """Columns of each part, none wider than `limit` characters.

    The last columns may exceed it by LAST characters: they would else stand in a part of their own.

    Args:
        together: columns that may not be parted.
        repeated: columns that every part but the first begins with.
        widths: characters of each column.
    """
    parts, used, fresh = [list(range(block.left))], sum(widths[: block.left]), True
    for columns in together:
        wide = sum(widths[j] for j in columns)
        most = limit + (LAST if columns is together[-1] else 0)
        if used + wide > most and not fresh:
            parts.append(list(repeated))
            used = sum(widths[j] for j in repeated)
        parts[-1] += columns
        used, fresh = used + wide, False
    return parts


def _by_rows(block, room: float) -> list:
    """The block in parts that fit a page, the header in each."""
    rows = len(block.rows) - 1
    share, parts = rows, 1
    while share > 1 and _height(replace(block, rows=block.rows[: share + 1])) > room:
        parts += 1
        share = math.ceil(rows / parts)
    if share >= rows:
        return [block]
    columns = range(len(block.rows[0]))
    starts = range(1, rows + 1, share)
    return [_part(block, [0, *range(i, min(i + share, rows + 1))], columns, block.left) for i in starts]


def _part(block, rows, columns, left: int):
    """Some rows and columns of a block, `left` of these aligned left."""
    rows, columns = list(rows), list(columns)
    ranks = {}
    for (i, j), rank in block.ranks.items():
        if i in rows and j in columns:
            ranks[rows.index(i), columns.index(j)] = rank
    texts = [[block.rows[i][j] for j in columns] for i in rows]
    return replace(block, rows=texts, ranks=ranks, left=left)


def _tabular(block) -> list[str]:
    columns = len(block.rows[0])
    out = [r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"]
    out += [rf"\begin{{tabular}}{{{'l' * block.left}{'r' * (columns - block.left)}}}", r"\toprule"]
    if block.title:
        out += [rf"\multicolumn{{{columns}}}{{l}}{{{escape(block.title)}}} \\", r"\midrule"]
    lines = []
    for i, row in enumerate(block.rows):
        entries = [_marked(escape(entry), block.ranks.get((i, j))) for j, entry in enumerate(row)]
        lines.append(" & ".join(entries) + r" \\")
    return [*out, lines[0], r"\midrule", *lines[1:], r"\bottomrule", r"\end{tabular}}", r"\par\medskip"]


def _marked(text: str, rank: int | None) -> str:
    return MARKS[rank].format(text) if rank in MARKS else text
