"""`index.html`: one self-contained page, no server, no network.

jinja2 escapes whatever stands in it (`autoescape`), the data of the scripts too (`tojson`). The scripts are ours: no
library browses outlines of nuclei, or a leaderboard with its intervals, from one file without a server.
"""

from pathlib import Path
from urllib.parse import quote

import jinja2
from markupsafe import Markup, escape

from benchmark.report.figures.examples import NAMES
from benchmark.report.page.images import BITS, TRUTH_BIT, browsed, url
from benchmark.report.page.section import Section
from benchmark.report.render.table import Block, write_file
from benchmark.report.tables.leaderboard import FACETS, PUBLISHED, Board
from benchmark.runtime.control_signs import visible

PAGE = Path(__file__).parent
SCRIPTS = ("tables.js", "leaderboard.js", "browser.js")
SHORT = 24  # rows of a table that is kept on one page in print
WINDOW = 25  # rows of a table that are in the document at once: the others are in the page's data
LINES = 5000  # of a block of a table that are in the page at all


def write_page(path: Path, sections: list[Section], title: str, subtitle: str, footer: str) -> None:
    """Write the page whole or not at all. Raises InputError when its folder cannot be written."""
    layers = [{"bit": bit, "name": NAMES[code]} for code, bit in BITS.items()]
    layers.append({"bit": TRUTH_BIT, "name": "truth"})
    page = (
        _environment()
        .get_template("template.html")
        .render(
            title=title,
            subtitle=subtitle,
            footer=footer,
            sections=sections,
            style=Markup((PAGE / "style.css").read_text(encoding="utf-8")),
            script=Markup("\n".join((PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS)),
            data=_shown(_data(sections)),
            galleries=_shown({f"{s.anchor}-images": browsed(s.panels) for s in sections if s.panels}),
            layers=layers,
            lines=LINES,
            window=WINDOW,
            short=SHORT,
            marks={1: "best", 2: "second", None: ""},
        )
    )
    write_file(path, page.encode())


def _environment() -> jinja2.Environment:
    """The templates, with every name escaped and without control signs."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,  # not what is marked as safe
    )
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "allow_nan": False}
    environment.filters |= {"code": _code, "quoted": quote, "png": _png_file}
    return environment


def _data(sections: list[Section]) -> dict:
    """What the scripts for tables read: `tables`, those with more rows than the document has; `boards`; `cards`."""
    tables = {}
    for section in sections:
        for table in (table for topic in section.topics for table in topic.tables):
            for i, block in enumerate(table.blocks):
                if len(block.rows) - 1 > WINDOW:
                    tables[section.key(table, i)] = _block(block)
    return {
        "window": WINDOW,
        "tables": tables,
        "facets": FACETS,
        "published": PUBLISHED,
        "boards": {s.anchor: _board(s.title, s.board) for s in sections if s.board},
        "cards": {s.anchor: [vars(card) for card in s.cards] for s in sections},
    }


def _block(block: Block) -> dict:
    """The rows below the header, and the ranks that are set: row -> column -> rank."""
    marks: dict[int, dict[int, int]] = {}
    for (i, j), rank in block.ranks.items():
        marks.setdefault(i - 1, {})[j] = rank
    return {"rows": block.rows[1 : LINES + 1], "marks": marks}


def _board(title: str, board: Board) -> dict:
    return {"title": title, "columns": [vars(column) for column in board.columns], "rows": board.rows}


def _shown(value):
    """Nested lists and dicts with all texts in them `visible`."""
    if isinstance(value, dict):
        return {visible(str(key)): _shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(item) for item in value]
    return visible(value) if isinstance(value, str) else value


def _png_file(stem: Path) -> str:
    """The figure as a data URL."""
    return url("image/png", stem.with_name(f"{stem.name}.png").read_bytes())


def _code(text: str) -> Markup:
    """Escaped text with `code` as code; an odd number of backticks marks none."""
    spans = visible(text).split("`")
    if len(spans) % 2 == 0:
        return escape("".join(spans))
    return Markup("").join(Markup("<code>{}</code>").format(s) if i % 2 else s for i, s in enumerate(spans))
