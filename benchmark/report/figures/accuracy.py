"""The page's first figure: each method's accuracy with its interval, the best on top."""

import math
from pathlib import Path

import pandas as pd

from benchmark.report.figures.scores import DOT, point
from benchmark.report.figures.style import drawing, group_looks, intervals, save, semantics, shorten
from benchmark.report.select.groups import Group
from benchmark.report.select.observations import Observed
from benchmark.report.stats.bootstrap import interval


def accuracy_figure(group: Group, observed: Observed, folder: Path, metric: str = "bPQ") -> bool:
    """The metric of each drawn row with its 95 % interval, highest first; False without a value."""
    import seaborn as sns

    points = [point(group, row, interval(observed, row, metric)) for row in group.drawn if observed.runs(row)]
    points = sorted((p for p in points if not math.isnan(p["value"])), key=lambda p: p["value"])[::-1]
    if not points:
        return False
    frame, looks = pd.DataFrame(points), group_looks(group)
    frame["colour"] = [looks[label]["color"] for label in frame["label"]]
    with drawing(max(1.2, 0.5 + 0.18 * len(points))) as figure:
        axes = figure.subplots()
        intervals(axes, frame, frame.index, "x")
        sns.scatterplot(frame, x="value", y=frame.index, s=DOT, ax=axes, **semantics(looks))
        axes.set_yticks(range(len(points)), [shorten(label, 26) for label in frame["label"]])
        axes.set(ylim=(len(points) - 0.4, -0.6), ylabel="")
        some = frame["low"].notna().any()
        axes.set_xlabel(f"{metric} (95 % interval)" if some else f"{metric} (too few images for intervals)")
    save(figure, Path(folder) / "accuracy", points)
    return True
