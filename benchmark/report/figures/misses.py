"""The figure of missed nuclei: stacked shares of what lost them, per size and run."""

from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.report.figures.style import COLOURS, WIDTH, drawing, handles, legend, legend_height, save, shorten


def misses_figure(counted: dict[str, pd.DataFrame], folder: Path) -> bool:
    """Shares of the true nuclei of each size that were missed, by what lost them; a panel per run.

    Args:
        counted: a run's name -> its frame of `evaluation.misses.count`: bin, fate, n.

    Returns:
        False when no run has true nuclei.
    """
    counted = {name: frame for name, frame in counted.items() if frame["n"].sum()}
    if not counted:
        return False
    lost = [fate for fate in dict.fromkeys(next(iter(counted.values()))["fate"]) if fate != "found"]
    columns = min(3, len(counted))
    lines = -(-len(counted) // columns)
    width = max(WIDTH, 2.1 * columns)
    with drawing(0.3 + 1.9 * lines + legend_height(lost, width), width) as figure:
        panels = np.atleast_1d(figure.subplots(lines, columns, sharey=True, sharex=True)).ravel()
        for panel, (name, frame) in zip(panels, counted.items()):
            table = frame.pivot(index="bin", columns="fate", values="n").loc[list(dict.fromkeys(frame["bin"]))]
            shares = table.div(table.sum(axis=1).clip(lower=1), axis=0)
            below = np.zeros(len(shares))
            for i, fate in enumerate(lost):
                panel.bar(range(len(shares)), shares[fate], bottom=below, color=COLOURS[i], label=fate, width=0.75)
                below += shares[fate].to_numpy()
            panel.set_xticks(range(len(shares)), [f"{size} µm" for size in shares.index])
            panel.set_title(shorten(name, 32), fontsize=7)
        for panel in panels[len(counted) :]:
            panel.set_visible(False)
        panels[0].set_ylabel("share of true nuclei missed")
        legend(figure, handles(panels[: len(counted)]))
    records = [{"run": name} | record for name, frame in counted.items() for record in frame.to_dict("records")]
    save(figure, Path(folder) / "misses_by_size", records)
    return True
