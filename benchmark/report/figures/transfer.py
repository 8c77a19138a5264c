"""The matrix of training and test sets as heat maps."""

from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.report.figures.style import drawing, fitted, save, text_width
from benchmark.report.select.transfer import METRICS

CELL = 0.52  # inch
LABEL = 1.1  # inch for the names of training sets and their title, where these are short
ABOVE = 0.9  # inch for those of test sets
MOST = 2.4  # inch for the longest names, of several sets with schemes: shorter, two may look the same


def transfer_figure(records: list[dict], folder: Path) -> bool:
    """A panel per score, training sets × test sets; False without a value.

    Args:
        records: of `tables.transfer.transfer_table`, of one method.
    """
    import seaborn as sns

    frame = pd.DataFrame(records)
    shown = [metric for metric in METRICS if len(frame) and frame.loc[frame["metric"] == metric, "value"].notna().any()]
    if not shown:
        return False
    trained, tested = (list(dict.fromkeys(frame[column])) for column in ("trained", "tested"))
    longest = [min(MOST, max(map(text_width, names)) + 0.05) for names in (trained, tested)]
    label, above = max(LABEL, longest[0] + 0.2), max(ABOVE, longest[1])
    width = label + len(shown) * (CELL * len(tested) + 0.12)
    with drawing(above + 0.3 + CELL * len(trained), max(width, 2.2)) as figure:
        panels = np.atleast_1d(figure.subplots(1, len(shown)))
        for i, (panel, metric) in enumerate(zip(panels, shown)):
            of_metric = frame[frame["metric"] == metric].pivot(index="trained", columns="tested", values="value")
            scores = of_metric.reindex(index=trained, columns=tested).astype(float)
            sns.heatmap(
                scores,
                vmin=0,
                vmax=1,
                cmap="cividis",
                annot=True,
                fmt=".2f",
                annot_kws={"size": 6},
                cbar=False,
                square=True,
                linewidths=0.5,
                xticklabels=[fitted(name, above, 7) for name in tested],
                yticklabels=[fitted(name, label - 0.2, 7) for name in trained] if i == 0 else False,
                ax=panel,
            )
            for y, x in np.argwhere(scores.isna().to_numpy()):
                panel.text(x + 0.5, y + 0.5, "–", ha="center", va="center", fontsize=6)
            panel.grid(False)  # it would show where there is no value
            panel.tick_params("x", length=0, rotation=90)
            panel.tick_params("y", length=0, rotation=0)
            panel.set(xlabel="", ylabel="trained on" if i == 0 else "")
            panel.set_title(METRICS[metric], fontsize=7)
        figure.supxlabel("tested on", fontsize=8)
    save(figure, Path(folder) / "transfer", records)
    return True
