"""One look for all figures; matplotlib is imported only when something is drawn."""

import io
from contextlib import contextmanager
from pathlib import Path

from benchmark.report.formats import to_csv, write_file

STYLE = Path(__file__).with_name("report.mplstyle")
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
