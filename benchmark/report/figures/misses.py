"""The figure of missed nuclei: stacked shares of what lost them, per size and run."""

from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.report.figures.names import distinct
from benchmark.report.figures.style import COLOURS, WIDTH, broken, drawing, legend, legend_height, save


def misses_figure(counted: dict[str, pd.DataFrame], folder: Path) -> bool:
    """Shares of the true nuclei of each size that were missed, by what lost them; a panel per run.

    Args:
        counted: a run's name -> its frame of `evaluation.misses.count`: bin, fate, n.

    Returns:
        False when no run has true nuclei.
    """
    import seaborn as sns
    from matplotlib.patches import Patch

    counted = {name: frame for name, frame in counted.items() if frame["n"].sum()}
    if not counted:
        return False
    lost = [fate for fate in dict.fromkeys(next(iter(counted.values()))["fate"]) if fate != "found"]
    colours = dict(zip(lost, COLOURS))
    columns, titles = min(3, len(counted)), distinct(list(counted))
    lines = -(-len(counted) // columns)
    width = max(WIDTH, 2.1 * columns)
    with drawing(0.3 + 2.1 * lines + legend_height(lost, width), width) as figure:
        panels = np.atleast_1d(figure.subplots(lines, columns, sharey=True, sharex=True)).ravel()
        for panel, (name, frame) in zip(panels, counted.items()):
            shares = frame["n"] / frame.groupby("bin")["n"].transform("sum").clip(lower=1)
            sizes = frame["bin"].str.replace(">=", "≥").str.replace("-", "–") + " µm"
            sns.histplot(
                x=sizes,
                weights=shares,
                hue=frame["fate"],
                hue_order=lost[::-1],  # the first of them lies below
                palette=colours,
                alpha=1,
                multiple="stack",
                shrink=0.75,
                linewidth=0.4,
                edgecolor="white",
                legend=False,
                ax=panel,
            )
            panel.grid(False, axis="x")
            panel.set(xlabel="", ylabel="")
            panel.set_title(broken(titles[name], width / columns - 0.4, 7), fontsize=7)
        for panel in panels[len(counted) :]:
            panel.set_visible(False)
        for panel in panels[max(0, len(counted) - columns) : len(counted)]:
            panel.tick_params("x", labelbottom=True)  # below it there may be no other
        panels[0].set_ylabel("share of true nuclei missed")
        legend(figure, {fate: Patch(color=colour) for fate, colour in colours.items()})
    records = [{"run": name} | record for name, frame in counted.items() for record in frame.to_dict("records")]
    save(figure, Path(folder) / "misses_by_size", records)
    return True
