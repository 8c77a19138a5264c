"""The figure of a post-processing grid: what each setting gains over the first, with intervals, per run."""

from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.report.figures.names import distinct
from benchmark.report.figures.style import (
    EDGE,
    WIDTH,
    drawing,
    intervals,
    keys,
    legend,
    legend_height,
    looks,
    save,
    shorten,
)

WIDEST = 0.1  # of a change that is drawn whole: a setting that ruins the decoding would flatten all others


def settings_figure(gains: dict[str, list[dict]], methods: dict[str, str], folder: Path) -> bool:
    """A panel per metric, a line per setting, a dot with its interval per run; False where there is nothing to draw.

    Changes beyond WIDEST lie at the panel's edge, as a triangle; the csv has them.

    Args:
        gains: a run's name -> lines of `stats.setting_gains`.
        methods: a run's name -> its method's, for its colour.
        folder: where settings.png, .pdf and .csv go.
    """
    frame = pd.DataFrame([{"run": name} | line for name, lines in gains.items() for line in lines])
    if frame.empty:
        return False
    settings, metrics = list(dict.fromkeys(frame["setting"])), list(dict.fromkeys(frame["metric"]))
    styles, labels = looks(methods), distinct(list(gains))
    width, names = 1.6 * WIDTH, list(gains)
    with drawing(0.5 + 0.19 * len(settings) + legend_height(list(labels.values()), width), width) as figure:
        panels = np.atleast_1d(figure.subplots(1, len(metrics), sharey=True)).ravel()
        for axes, metric in zip(panels, metrics):
            axes.axvline(0, color="#888888", linewidth=0.8)
            for k, name in enumerate(names):
                part = frame[(frame["run"] == name) & (frame["metric"] == metric)].reset_index(drop=True)
                shift = 0.5 * (k - (len(names) - 1) / 2) / max(len(names), 1)
                _dots(axes, part, part["setting"].map(settings.index).to_numpy() + shift, styles[name])
            axes.set(xlim=(-1.05 * WIDEST, 1.05 * WIDEST), xlabel=f"Δ {metric}", ylabel="")
            axes.grid(False, axis="y")
        panels[0].set_yticks(range(len(settings)), [shorten(name, 36) for name in settings])
        panels[0].set_ylim(len(settings) - 0.4, -0.6)
        legend(figure, keys({labels[name]: styles[name] for name in names}, linestyle="none"))
    save(figure, Path(folder) / "settings", frame.to_dict("records"))
    return True


def _dots(axes, part: pd.DataFrame, where: np.ndarray, style: dict) -> None:
    """One run's differences in one metric."""
    import seaborn as sns

    ends = part.assign(low=part["low"].clip(-WIDEST, WIDEST), high=part["high"].clip(-WIDEST, WIDEST))
    intervals(axes, ends.assign(colour=style["color"]), where, "x")
    beyond = (part["value"].abs() > WIDEST).to_numpy()
    edge = {"edgecolor": EDGE["markeredgecolor"], "linewidth": EDGE["markeredgewidth"], "legend": False, "ax": axes}
    for chosen, marker in ((~beyond, style["marker"]), (beyond, "<")):
        x = part["value"].clip(-WIDEST, WIDEST)[chosen]
        sns.scatterplot(x=x, y=where[chosen], color=style["color"], marker=marker, s=14, **edge)
