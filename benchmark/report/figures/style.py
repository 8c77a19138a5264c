"""The style that all figures share. matplotlib and seaborn are imported only when something is drawn.

seaborn draws dots, lines, stacked bars and heat maps. Ours are:

- intervals (`intervals`): `benchmark.report.stats` bootstraps them over clusters, and they may be asymmetric. seaborn
  would compute others from what it is handed, so that each of its functions that has `errorbar` gets None;
- the legend above the panels: seaborn's stands inside them, over the data, and knows no width;
- curves with bands of their own (`curves`) and pictures (`examples`), for which it has no function.
"""

import io
import math
import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from functools import cache
from itertools import chain, cycle
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.report.render.table import to_csv, write_file
from benchmark.report.select.groups import Group, Row
from benchmark.runtime.control_signs import visible

STYLE = Path(__file__).with_name("report.mplstyle")
HANDLE = 0.44  # inch that a legend's column takes beside its text
BESIDE = HANDLE + 0.08  # and with the margins of the figure
WIDTH = 3.4  # inch, one column of a two-column paper
# Okabe & Ito (2008), colour-blind safe, without yellow, which is lost on white; markers differ too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# these have the colours in this order in every report, others take what is left
METHODS = ("cellvit", "cellvta", "classical", "decoder_only", "full_finetune", "hovernet")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
DASHES = ("-", "--", "-.", ":")
EDGE = {"markeredgecolor": "white", "markeredgewidth": 0.25}  # markers that overlap stay apart
PLAIN = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Creator": None, "Producer": None}}


def look(i: int, k: int = 0) -> dict:
    """Colour, marker and dashes of the k-th row of the i-th method, as keyword arguments of a line."""
    return {
        "color": COLOURS[i % len(COLOURS)],
        "marker": MARKERS[(i + k) % len(MARKERS)],
        "linestyle": DASHES[(i // len(COLOURS) + k) % len(DASHES)],
    }


def places(methods: Iterable[str]) -> dict[str, int]:
    """method -> which of COLOURS is its own: its place in METHODS, else the next that none of these has."""
    names = list(dict.fromkeys(methods))
    known = {name: METHODS.index(name) for name in names if name in METHODS}
    left = [i for i in range(len(COLOURS)) if i not in known.values()]
    others = (name for name in names if name not in known)
    return known | dict(zip(others, chain(left, cycle(range(len(COLOURS), 2 * len(COLOURS))))))


def looks(methods: Mapping[str, str], every: Iterable[str] = ()) -> dict[str, dict]:
    """label -> its `look`. A colour per method, by markers and dashes its rows; a single method's rows have colours.

    Args:
        methods: label of a row -> name of its method.
        every: further methods that have a place of their own.
    """
    place, seen = places([*every, *methods.values()]), Counter()
    alone = len(set(methods.values())) == 1
    out = {}
    for label, name in methods.items():
        k = seen[name]
        out[label] = look(place[name] + k) if alone else look(place[name], k)
        seen[name] += 1
    return out


def name_of(row: Row) -> str:
    """The name of a row's method, without its arguments."""
    return row.method.partition("@")[0]


def group_looks(group: Group) -> dict[str, dict]:
    """`looks` of the group's drawn rows, by label: the same in all figures of the group."""
    return looks({row.label: name_of(row) for row in group.drawn}, map(name_of, group.rows))


def method_colours(group: Group) -> dict[str, str]:
    """Name of each of the group's methods -> the colour of its first row."""
    return {name: look(i)["color"] for name, i in places(map(name_of, group.rows)).items()}


def semantics(styles: Mapping[str, dict], line: bool = False) -> dict:
    """Keyword arguments that make seaborn draw the column `label` of a frame in these looks, without a legend.

    Args:
        line: for lines, with dashes; else for dots alone.
    """
    every = {key: {label: style[key] for label, style in styles.items()} for key in ("color", "marker", "linestyle")}
    out = {"hue": "label", "style": "label", "palette": every["color"], "markers": every["marker"], "legend": False}
    if not line:
        return out | {"edgecolor": EDGE["markeredgecolor"], "linewidth": EDGE["markeredgewidth"]}
    on_off = {"-": "", "--": (3.7, 1.6), "-.": (6.4, 1.6, 1, 1.6), ":": (1, 1.65)}
    dashes = {label: on_off[dash] for label, dash in every["linestyle"].items()}
    return out | EDGE | {"dashes": dashes, "estimator": None, "errorbar": None}


def intervals(axes, points: pd.DataFrame, where, along: str) -> None:
    """Draw from `low` to `high` of each point in its `colour`; nothing where there is no interval.

    Args:
        points: a line per point with the columns low, high and colour.
        where: place of each point on the other axis.
        along: "x" or "y", the axis of the values.
    """
    known = (points["low"].notna() & points["high"].notna()).to_numpy()
    if known.any():
        ends, draw = points[known], axes.hlines if along == "x" else axes.vlines
        draw(np.asarray(where, float)[known], ends["low"], ends["high"], colors=ends["colour"], linewidth=0.7, zorder=1)


def shorten(label: str, longest: int) -> str:
    """The label with its middle left out where it is longer: long names differ at their ends."""
    label = visible(label)
    if len(label) <= longest:
        return label
    head = (longest - 1) // 2
    return f"{label[:head]}…{label[len(label) - (longest - 1 - head) :]}"


@cache
def text_width(text: str, size: float = 7) -> float:
    """Width in inch of a text of `size` points."""
    import matplotlib.style
    from matplotlib.textpath import TextPath

    with matplotlib.style.context(STYLE):
        return TextPath((0, 0), text, size=size).get_extents().width / 72 if text.strip() else 0.0


def fitted(label: str, width: float, size: float = 7) -> str:
    """The label, shortened in its middle to at most `width` inch at `size` points."""
    longest = len(visible(label))
    while longest > 5 and text_width(shorten(label, longest), size) > width:
        longest -= 1
    return shorten(label, longest)


def broken(label: str, width: float, size: float) -> str:
    """The label in lines of at most `width` inch at `size` points, the first three; a setting stays whole."""
    name, bracket, settings = visible(label).partition(" (")
    of_settings = (bracket[1:] + settings).replace(" ", "\xa0").replace(",\xa0", ", ")
    signs = max(8, int(width * 72 / (0.6 * size)))
    lines = [line for text in (name, of_settings) for line in textwrap.wrap(text, signs, break_long_words=False)]
    return "\n".join(fitted(line, width, size) for line in lines[:3])


def columns(labels: list[str], width: float = WIDTH) -> int:
    """How many of these labels stand beside each other in a legend, 1 to 3."""
    widest = max((text_width(fitted(name, width - BESIDE)) for name in labels), default=0)
    return max(1, min(3, len(labels), int(width / (widest + HANDLE))))


def legend_height(labels: list[str], width: float = WIDTH) -> float:
    """Height in inch of a `legend` with these labels."""
    return 0.155 * -(-len(labels) // columns(labels, width)) + 0.05


def keys(styles: Mapping[str, dict], **style) -> dict:
    """label -> matplotlib's handle for a legend. `style` replaces what the looks say, such as linestyle."""
    from matplotlib.lines import Line2D

    return {label: Line2D([], [], **(EDGE | own | style)) for label, own in styles.items()}


def legend(figure, handles: dict) -> None:
    """Put the figure's legend above its panels. `handles`: label -> handle."""
    width = figure.get_figwidth()
    labels = [fitted(label, width - BESIDE) for label in handles]
    figure.legend(handles.values(), labels, loc="outside upper center", ncols=columns(list(handles), width))


def log_scale(axis, values: list[float]) -> None:
    """Make an axis logarithmic with plain numbers; it stays linear where the values span less than a factor of 3.

    Args:
        axis: xaxis or yaxis of matplotlib axes.
    """
    from matplotlib.ticker import LogLocator

    known = [v for v in values if v > 0 and math.isfinite(v)]
    ratio = max(known) / min(known) if known else 1.0
    if ratio < 3:
        return
    (axis.axes.set_xscale if axis.axis_name == "x" else axis.axes.set_yscale)("log")
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if ratio < 10 else (1, 3) if ratio < 40 else (1,)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(lambda value, place: "")


@contextmanager
def drawing(height: float, width: float = WIDTH):
    """Yields a Figure (sides in inch) in the report's style."""
    import matplotlib.style
    from matplotlib.figure import Figure

    with matplotlib.style.context(STYLE):
        yield Figure(figsize=(width, height))


def save(figure, stem: Path, records: list[dict]) -> None:
    """Write stem.png, stem.pdf and stem.csv (what is drawn), without dates: equal results make equal files."""
    import matplotlib.style

    with matplotlib.style.context(STYLE):
        _fix_ticks(figure)
        for suffix, metadata in PLAIN.items():
            content = io.BytesIO()
            figure.savefig(content, format=suffix, metadata=metadata)
            figure.set_layout_engine("none")  # the first form's layout holds for the next
            write_file(stem.with_name(f"{stem.name}.{suffix}"), content.getvalue())
    write_file(stem.with_name(f"{stem.name}.csv"), to_csv(records).encode())


def _fix_ticks(figure) -> None:
    """Let each axis have as many ticks as the first layout has room for.

    matplotlib would choose anew in the last layout, after the room for their labels was measured.
    """
    from matplotlib.ticker import AutoLocator

    figure.get_layout_engine().execute(figure)
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        if isinstance(axis.get_major_locator(), AutoLocator):
            axis.get_major_locator().set_params(nbins=min(9, max(1, axis.get_tick_space())))
