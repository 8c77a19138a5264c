"""The figure of the table `representations`: the adapter's gain with each, and that gain less the one with HV maps."""

from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.report.figures.scores import DOT
from benchmark.report.figures.style import (
    EDGE,
    WIDTH,
    drawing,
    intervals,
    keys,
    legend,
    legend_height,
    look,
    save,
    shorten,
)
from benchmark.runtime.counts import counted

# entry of a record -> (its label, the entries of its interval)
DRAWN = {
    "gain": ("gain", ("low", "high")),
    "interaction": ("interaction: gain − gain with hv", ("interaction_low", "interaction_high")),
}
APART = 0.3  # between the dots of a line, of the distance of two lines


def representations_figure(records: list[dict], folder: Path) -> bool:
    """A panel per metric, a line per representation, a dot with its interval for the gain and one for the interaction.

    Args:
        records: of `tables.representations`, which the figure's csv repeats: both have the same name.
        folder: where representations.png, .pdf and .csv go.

    Returns:
        False where no gain was measured.
    """
    frame = pd.DataFrame(records)
    if "gain" not in frame or frame["gain"].isna().all():
        return False
    names, metrics = list(dict.fromkeys(frame["representation"])), list(dict.fromkeys(frame["metric"]))
    shown = {key: entry for key, entry in DRAWN.items() if key in frame}
    styles = {label: look(i) for i, (label, _) in enumerate(shown.values())}
    with drawing(0.6 + 0.28 * len(names) + legend_height(list(styles)), 1.3 * WIDTH) as figure:
        panels = np.atleast_1d(figure.subplots(1, len(metrics), sharey=True)).ravel()
        for axes, metric in zip(panels, metrics):
            axes.axvline(0, color="#888888", linewidth=0.8)
            for i, (key, (label, ends)) in enumerate(shown.items()):
                part = frame[(frame["metric"] == metric) & frame[key].notna()]
                part = part.assign(value=part[key], **dict(zip(("low", "high"), (part[end] for end in ends))))
                shift = APART * (i - (len(shown) - 1) / 2)
                _dots(axes, part, part["representation"].map(names.index).to_numpy(float) + shift, styles[label])
            some = frame.loc[frame["metric"] == metric, "low"].notna().any()
            axes.set(xlabel=f"Δ {metric} ({'95 % interval' if some else 'too few clusters for intervals'})", ylabel="")
            axes.grid(False, axis="y")
        pairs = frame.groupby("representation")["pairs"].max()
        labels = [
            f"{shorten(name, 26)} ({counted(int(n), 'pair')})" if (n := pairs[name]) > 0 else name for name in names
        ]
        panels[0].set_yticks(range(len(names)), labels)
        panels[0].set_ylim(len(names) - 0.4, -0.6)
        legend(figure, keys(styles, linestyle="none"))
    save(figure, Path(folder) / "representations", records)
    return True


def _dots(axes, part: pd.DataFrame, where: np.ndarray, style: dict) -> None:
    """Values with their intervals at these heights."""
    import seaborn as sns

    intervals(axes, part.assign(colour=style["color"]), where, "x")
    edge = {"edgecolor": EDGE["markeredgecolor"], "linewidth": EDGE["markeredgewidth"], "legend": False, "ax": axes}
    sns.scatterplot(x=part["value"].to_numpy(), y=where, color=style["color"], marker=style["marker"], s=DOT, **edge)
