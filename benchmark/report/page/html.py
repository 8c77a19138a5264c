"""`index.html`: one self-contained page, no server, no network. Tables, figures and the image browser."""

import base64
import html
import io
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import numpy as np

from benchmark.report.figures.examples import NAMES, PAINT, TRUTH
from benchmark.report.figures.gallery import FALSE, HIT, MISSED, Panel, outline
from benchmark.report.render.table import Block, Table, write_file
from benchmark.runtime.control_signs import visible

PAGE = Path(__file__).parent
BITS = {HIT: 1, FALSE: 2, MISSED: 4}
TRUTH_BIT = 8
SHORT = 24  # rows of a table that is kept on one page in print
LINES = 500  # of a block of a table: of the thousands of runs.csv a browser would make a hundred thousand cells


@dataclass
class Section:
    """What the page shows of one group of runs.

    Attributes:
        anchor: id within the page.
        title: heading.
        sentences: the summary, plain text, generated from the numbers.
        tables: in order of appearance.
        figures: (path without suffix, caption, whether it takes the whole width).
        folder: of the csv files, relative to the page.
        panels: images for the browser.
    """

    anchor: str
    title: str
    folder: str
    sentences: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: list[tuple[Path, str, bool]] = field(default_factory=list)
    panels: list[Panel] = field(default_factory=list)


def escape(text: str) -> str:
    """Text in HTML, without markup and control signs."""
    return html.escape(visible(text))


def write_page(path: Path, sections: list[Section], title: str, subtitle: str, footer: str) -> None:
    """Write the page whole or not at all. Raises InputError when its folder cannot be written."""
    parts = {
        "title": escape(title),
        "subtitle": escape(subtitle),
        "style": (PAGE / "style.css").read_text(encoding="utf-8"),
        "script": (PAGE / "script.js").read_text(encoding="utf-8"),
        "navigation": "".join(f'<a href="#{s.anchor}">{escape(s.title)}</a>' for s in sections),
        "content": "\n".join(_section(s) for s in sections),
        "footer": escape(footer),
        "gallery": _json({f"{s.anchor}-images": [_panel(p) for p in s.panels] for s in sections if s.panels}),
    }
    template = (PAGE / "template.html").read_text(encoding="utf-8")
    page, *pieces = template.split("{{")
    for piece in pieces:
        name, rest = piece.split("}}", 1)
        page += parts[name] + rest
    write_file(path, page.encode())


def _section(section: Section) -> str:
    out = [f'<section id="{section.anchor}"><h2>{escape(section.title)}</h2>']
    out.append(_contents(section))
    out.append('<ul class="summary">' + "".join(f"<li>{_code(s)}</li>" for s in section.sentences) + "</ul>")
    for table in section.tables:
        out.append(_table(table, section))
    if section.figures:
        out.append(f'<h3 id="{section.anchor}-figures">Figures</h3><div class="figures">')
        out += [_figure(stem, caption, full, section.folder) for stem, caption, full in section.figures]
        out.append("</div>")
    if section.panels:
        out.append(_browser(section))
    return "\n".join([*out, "</section>"])


def _contents(section: Section) -> str:
    """Links to the section's tables, figures and images."""
    links = [(t.name, t.name.replace("-", " ")) for t in section.tables]
    links += [("figures", "figures")] if section.figures else []
    links += [("images", "images")] if section.panels else []
    anchors = "".join(f'<a href="#{section.anchor}-{end}">{escape(text)}</a>' for end, text in links)
    return f'<nav class="contents" aria-label="{escape(section.title)}">{anchors}</nav>'


def _table(table: Table, section: Section) -> str:
    anchor = f"{section.anchor}-{table.name}"
    links = _links(section.folder, table.name, (".csv",) if table.name == "runs" else (".csv", ".md", ".tex"))
    out = [
        f'<div id="{anchor}"><h3>{_code(table.caption)}</h3><div class="tools"><label>filter rows '
        f'<input class="filter" type="search" data-of="{anchor}"></label><span>{links}</span></div>'
    ]
    out += [_block(block, block.title or table.name) for block in table.blocks]
    if table.conclusion:
        out.append(f'<p class="says">{_code(table.conclusion)}</p>')
    if table.notes:
        items = "".join(f"<li>{_code(n)}</li>" for n in table.notes)
        out.append(
            f'<details class="notes"><summary>how to read this, where it comes from</summary><ul>{items}</ul></details>'
        )
    out.append("</div>")
    return "\n".join(out)


def _block(block: Block, label: str) -> str:
    """A block as a sortable HTML table; `label` is its name for screen readers."""
    head, *every = block.rows
    body = every[:LINES]
    caption = f"<caption>{escape(block.title)}</caption>" if block.title else ""
    titles = ""
    for j, title in enumerate(head):
        kind = ' class="left"' if j < block.left else ""
        titles += f'<th scope="col"{kind}><button type="button">{escape(title)}</button></th>'
    lines = ""
    for i, row in enumerate(body, start=1):
        entries = ""
        for j, entry in enumerate(row):
            kinds = ["left"] if j < block.left else []
            kinds += {1: ["best"], 2: ["second"]}.get(block.ranks.get((i, j)), [])
            kind = f' class="{" ".join(kinds)}"' if kinds else ""
            entries += f"<td{kind}>{escape(entry)}</td>"
        lines += f"<tr>{entries}</tr>"
    kind = "wide short" if len(body) <= SHORT else "wide"
    cut = f'<p class="notes">The first {len(body)} of {len(every)} lines; the csv has all.</p>' if every != body else ""
    return (
        f'<div class="{kind}" tabindex="0" role="region" aria-label="{escape(label)}">'
        f'<table class="sortable">{caption}<thead><tr>{titles}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>{cut}"
    )


def _links(folder: str, name: str, suffixes: tuple[str, ...]) -> str:
    where = escape(quote(f"{folder}/{name}"))
    return " · ".join(f'<a href="{where}{s}">{s[1:]}</a>' for s in suffixes)


def _figure(stem: Path, caption: str, full: bool, folder: str) -> str:
    data = _url("image/png", stem.with_name(f"{stem.name}.png").read_bytes())
    links = _links(folder, stem.name, (".csv", ".pdf"))
    kind = ' class="full"' if full else ""
    return (
        f'<figure{kind}><img src="{data}" alt="{escape(caption)}" loading="lazy">'
        f"<figcaption>{escape(caption)} ({links})</figcaption></figure>"
    )


def _browser(section: Section) -> str:
    """The image browser: which image, how large, whose outlines and which of them."""
    anchor = f"{section.anchor}-images"
    methods = ""
    for i, label in enumerate(dict.fromkeys(label for panel in section.panels for label in panel.outlines)):
        checked, text = " checked" if i < 3 else "", escape(label)
        methods += f'<label><input type="checkbox" name="method-{anchor}" value="{text}"{checked}> {text}</label>'
    legend = [(bit, NAMES[code], PAINT[code], " checked") for code, bit in BITS.items()]
    legend.append((TRUTH_BIT, "truth", TRUTH, ""))
    layers = ""
    for bit, name, colour, checked in legend:
        layers += (
            f'<label><input type="checkbox" name="layer-{anchor}" value="{bit}"{checked}>'
            f'<span class="key" style="background:rgb{colour}"></span>{name}</label>'
        )
    return (
        f'<div class="gallery" id="{anchor}"><h3>Images</h3><p class="notes">Chosen by rule. Arrow keys step, Shift '
        "and an arrow move what is zoomed, + and − "
        "zoom, a click on an image zooms there.</p>"
        '<div class="tools"><button type="button" data-previous>previous</button><button type="button" data-next>next'
        '</button><label>image <select data-image></select></label><label>zoom <input type="range" data-zoom min="1" '
        'max="8" step="0.5" value="1"></label></div>'
        f'<div class="tools" role="group" aria-label="methods">{methods}</div>'
        f'<div class="tools" role="group" aria-label="layers">{layers}</div>'
        '<p data-caption aria-live="polite"></p><div class="views" data-views></div></div>'
    )


def _panel(panel: Panel) -> dict:
    """What the page's script needs of one image; `codes` are images of bits, see BITS and TRUTH_BIT."""
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(panel.image).save(content, "JPEG", quality=92)
    truth = TRUTH_BIT * outline(panel.truth).astype(np.uint8)
    codes = {}
    for label, marks in panel.outlines.items():
        bits = np.zeros_like(marks)
        for code, bit in BITS.items():
            bits[marks == code] = bit
        codes[label] = _png(bits | truth)
    return {
        "title": visible(f"{panel.image_id or panel.place} ({panel.tissue or 'no tissue'}): {panel.rule}"),
        "image": _url("image/jpeg", content.getvalue()),
        "codes": codes,
        "scores": {k: "–" if math.isnan(v) else f"bPQ {v:.3f}" for k, v in panel.scores.items()},
    }


def _png(values: np.ndarray) -> str:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(values).save(content, "PNG", optimize=True)
    return _url("image/png", content.getvalue())


def _url(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _json(value) -> str:
    """JSON that may stand inside a script element."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")


def _code(text: str) -> str:
    """Escaped text with `code` as code; an odd number of backticks marks none."""
    spans = escape(text).split("`")
    if len(spans) % 2 == 0:
        return "".join(spans)
    return "".join(f"<code>{s}</code>" if i % 2 else s for i, s in enumerate(spans))
