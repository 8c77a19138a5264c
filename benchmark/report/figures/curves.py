"""Figures of PQ and recall against nucleus size and crowding, and of the adapter's gain.

matplotlib's own lines and bands: seaborn computes a band from repeated observations, and these are of a clustered
bootstrap.
"""

from pathlib import Path

import numpy as np

from benchmark.report.figures.style import (
    EDGE,
    drawing,
    group_looks,
    keys,
    legend,
    legend_height,
    method_colours,
    save,
    shorten,
)
from benchmark.report.select.groups import Group, Row, claimed
from benchmark.report.stats.curves import BY, FEW, Curves, gain, lines

EVERY = 8  # grid points between two markers


def curves_figure(group: Group, curves: Curves, folder: Path, name: str) -> bool:
    """PQ and recall per method with bootstrap bands, below it the weight of true nuclei; False when nothing is drawn.

    A method's runs are pooled; where the weighted number of true nuclei of a run is below FEW nothing is drawn.

    Args:
        name: stem of the files in `folder`.
    """
    rows = group.drawn
    drawn = [(row, values) for row, values in lines(group, curves) if row in rows and _drawable(values)]
    if not drawn:
        return False
    looks = group_looks(group)
    styles = {label(group, row): looks[row.label] for row, _ in drawn}
    with drawing(3.85 + legend_height(list(styles))) as figure:
        top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[4, 4, 1])
        for i, ((_, values), look) in enumerate(zip(drawn, styles.values())):
            shown = values["n"] >= FEW
            style = look | EDGE | {"markevery": (i, EVERY)}
            for axes, metric in ((top, "PQ"), (middle, "recall")):
                line = np.where(shown, values[metric], np.nan)
                axes.plot(curves.grid, line, **style)
                low, high = (np.where(shown, values[f"{metric}_{end}"], np.nan) for end in ("low", "high"))
                axes.fill_between(curves.grid, low, high, color=style["color"], alpha=0.15, linewidth=0)
        for axes, metric in ((top, "PQ"), (middle, "recall")):
            axes.set_ylabel(metric)
            axes.set_ylim(bottom=0)
        bottom.fill_between(curves.grid, drawn[0][1]["n"], color="#BBBBBB", linewidth=0)
        bottom.set_ylabel("true nuclei\n(weight)", fontsize=6)
        bottom.set_ylim(bottom=0)
        bottom.locator_params(axis="y", nbins=2)
        bottom.set_xlabel(BY[curves.by])
        figure.align_ylabels([top, middle, bottom])
        legend(figure, keys(styles))
    points = []
    for row, values in drawn:
        points += records(group, row, curves, values)
    save(figure, Path(folder) / name, points)
    return True


def gain_figure(group: Group, properties: list[Curves], folder: Path) -> bool:
    """PQ of the adapter minus PQ of the decoder-only arm, a panel per property; False when one is missing."""
    pair = claimed(group)
    if pair is None:
        return False
    a, b = pair
    panels = [(curves, gain(curves, a, b)) for curves in properties]
    panels = [(curves, values) for curves, values in panels if values is not None and _drawable(values)]
    if not panels:
        return False
    colour = method_colours(group)[a.method.partition("@")[0]]
    with drawing(2.2) as figure:
        grid = np.atleast_1d(figure.subplots(1, len(panels), sharey=True))
        for axes, (curves, values) in zip(grid, panels):
            line, low, high = (np.where(values["n"] >= FEW, values[k], np.nan) for k in ("PQ", "PQ_low", "PQ_high"))
            axes.axhline(0, color="#888888", linewidth=0.8)
            axes.plot(curves.grid, line, color=colour)
            axes.fill_between(curves.grid, low, high, color=colour, alpha=0.2, linewidth=0)
            axes.set_xlabel(BY[curves.by].replace("distance to the ", ""))
        # without settings, such as the learning rate of each, which would not fit; the csv has them
        grid[0].set_ylabel(f"Δ PQ, {shorten(a.name, 22)} − {shorten(b.name, 22)}", fontsize=6.5)
    points = []
    for curves, values in panels:
        points += records(group, a, curves, values, minus=b.method)
    save(figure, Path(folder) / "gain", points)
    return True


def _drawable(values: dict[str, np.ndarray]) -> bool:
    """Whether a line has at least two points with enough nuclei."""
    return (values["n"] >= FEW).sum() > 1


def records(group: Group, row: Row, curves: Curves, values: dict[str, np.ndarray], **extra) -> list[dict]:
    """Csv lines, one per grid point."""
    facts = {"dataset": group.dataset, "kind": group.kind, "preset": group.scale, "method": row.method}
    facts |= {
        "settings": row.settings,
        "weights": row.backbone[1],
        "by": curves.by,
        "runs": len(curves.runs(row)),
        "expected": group.expected,
        "clusters": len(curves.clusters),
    }
    facts |= extra
    out = []
    for i, x in enumerate(curves.grid):
        point = {"x_um": float(x)} | {key: float(line[i]) for key, line in values.items()}
        out.append(facts | point | {"drawn": int(values["n"][i] >= FEW)})
    return out


def label(group: Group, row: Row) -> str:
    """The row's label, marked such as (2/3) when runs are missing."""
    done = len(row.runs)
    return row.label if done == group.expected else f"{row.label} ({done}/{group.expected})"
