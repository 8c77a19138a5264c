"""The page's first figure: each method's accuracy with its interval, the best on top."""

import math
from pathlib import Path

from benchmark.report.figures.scores import point
from benchmark.report.figures.style import COLOURS, drawing, save, shorten
from benchmark.report.select.groups import Group
from benchmark.report.select.observations import Observed
from benchmark.report.stats.bootstrap import interval


def accuracy_figure(group: Group, observed: Observed, folder: Path, metric: str = "bPQ") -> bool:
    """The metric of each drawn row with its 95 % interval, highest first; False without a value."""
    points = [point(group, row, interval(observed, row, metric)) for row in group.drawn if observed.runs(row)]
    points = sorted((p for p in points if not math.isnan(p["value"])), key=lambda p: p["value"])
    if not points:
        return False
    with drawing(max(1.2, 0.5 + 0.18 * len(points))) as figure:
        axes = figure.subplots()
        for y, p in enumerate(points):
            axes.hlines(y, p["low"], p["high"], color=COLOURS[0], linewidth=1.2)  # none where they are NaN
            axes.plot(p["value"], y, color=COLOURS[0], marker="o", linestyle="none")
        axes.set_yticks(range(len(points)), [shorten(p["label"], 26) for p in points])
        axes.set_ylim(-0.6, len(points) - 0.4)
        some = any(not math.isnan(p["low"]) for p in points)
        axes.set_xlabel(f"{metric} (95 % interval)" if some else f"{metric} (too few images for intervals)")
    save(figure, Path(folder) / "accuracy", points[::-1])
    return True
