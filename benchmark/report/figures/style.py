"""The style that all figures share; matplotlib is imported only when something is drawn."""

import io
import math
from contextlib import contextmanager
from pathlib import Path

from benchmark.report.render.table import to_csv, write_file
from benchmark.runtime.control_signs import visible

STYLE = Path(__file__).with_name("report.mplstyle")
HANDLE = 0.44  # inch that a legend's column takes beside its text
LONGEST = 44  # characters of a label in a legend
WIDTH = 3.4  # inch, one column of a two-column paper
# Okabe & Ito (2008), colour-blind safe, without yellow, which is lost on white; markers differ too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "p", "h")
DASHES = ("-", "--", "-.", ":")
PLAIN = {"png": {"Software": None}, "pdf": {"CreationDate": None, "Creator": None, "Producer": None}}


def look(i: int) -> dict:
    """Colour, marker and dashes of the i-th method, as keyword arguments of a line."""
    return {
        "color": COLOURS[i % len(COLOURS)],
        "marker": MARKERS[i % len(MARKERS)],
        "linestyle": DASHES[i // len(COLOURS) % len(DASHES)],
    }


def shorten(label: str, longest: int) -> str:
    """The label with its middle left out where it is longer: long names differ at their ends."""
    label = visible(label)
    if len(label) <= longest:
        return label
    head = (longest - 1) // 2
    return f"{label[:head]}…{label[len(label) - (longest - 1 - head) :]}"


def columns(labels: list[str], width: float = WIDTH) -> int:
    """How many of these labels stand beside each other in a legend, 1 to 3."""
    from matplotlib.textpath import TextPath

    points = [TextPath((0, 0), shorten(name, LONGEST), size=7).get_extents().width for name in labels if name.strip()]
    return max(1, min(3, len(labels), int(width / (max(points, default=1) / 72 + HANDLE))))


def legend_height(labels: list[str], width: float = WIDTH) -> float:
    """Height in inch of a `legend` with these labels."""
    return 0.155 * -(-len(labels) // columns(labels, width)) + 0.05


def handles(panels) -> dict:
    """label -> matplotlib's handle of what the panels show, each label once."""
    out = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels()):
            out[label] = handle
    return out


def legend(figure, handles: dict) -> None:
    """Put the figure's legend above its panels. `handles`: label -> handle."""
    labels = [shorten(label, LONGEST) for label in handles]
    figure.legend(handles.values(), labels, loc="outside upper center", ncols=columns(labels, figure.get_figwidth()))


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
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if ratio < 40 else (1,)))
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
        for suffix, metadata in PLAIN.items():
            content = io.BytesIO()
            figure.savefig(content, format=suffix, metadata=metadata)
            write_file(stem.with_name(f"{stem.name}.{suffix}"), content.getvalue())
    write_file(stem.with_name(f"{stem.name}.csv"), to_csv(records).encode())
