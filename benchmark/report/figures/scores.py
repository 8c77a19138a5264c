"""Figures of scores: per tissue, adapter components, accuracy against cost, training curves, confusions."""

import math
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.report.figures.style import (
    EDGE,
    broken,
    drawing,
    group_looks,
    intervals,
    keys,
    legend,
    legend_height,
    log_scale,
    method_colours,
    save,
    semantics,
    shorten,
)
from benchmark.report.select.groups import Group, Row, overrides, variants
from benchmark.report.select.observations import Observed
from benchmark.report.stats.bootstrap import Interval, compare, interval
from benchmark.report.stats.summary import summarise
from benchmark.results import training_log
from benchmark.results.run import UNREADABLE, Run, skipped
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.control_signs import visible

VARIANT = {"color": "#999999", "marker": "X", "linestyle": "none"}  # rows that group.drawn leaves out
FRONT = {"estimator": None, "errorbar": None, "sort": False, "zorder": 0}
DOT = 18  # area of a marker in square points
# key of the cost -> (title of its axis, -1 where less is better and 1 where more is, scale)
COSTS = {"trainable": ("trainable parameters (M)", -1, 1e-6), "images_per_second": ("images / s", 1, 1.0)}
MISSED = ""  # the column of true nuclei without a partner: no class is called so
LOGGED = ("epoch", "loss", "val_bPQ", "lr", "seconds")


def tissue_dots(group: Group, observed: Observed, folder: Path, metric: str = "bPQ") -> bool:
    """The metric per tissue with bootstrap intervals, a dot per method; False when nothing could be drawn."""
    import seaborn as sns

    tissues = sorted({t for f in observed.images.values() for t in f["tissue"].astype(str)} - {""})
    rows = [row for row in group.drawn if observed.runs(row)]
    points = []
    for tissue in tissues:
        part = observed.only(tissue)
        points += [point(group, row, interval(part, row, metric)) | {"tissue": tissue} for row in rows]
    points = [p for p in points if not math.isnan(p["value"])]
    if len({p["tissue"] for p in points}) < 2:
        return False
    frame = pd.DataFrame(points)
    order = list(frame.drop_duplicates("tissue").sort_values("value", ascending=False, kind="stable")["tissue"])
    looks = group_looks(group)
    styles = {row.label: looks[row.label] for row in rows}
    frame["colour"] = [styles[label]["color"] for label in frame["label"]]
    spread = 0.7 * (len(rows) > 1)  # between the first and the last method of a tissue
    shifts = dict(zip(styles, np.linspace(-spread / 2, spread / 2, len(rows))))
    height = min(0.5, max(0.18, 0.055 * len(rows)))  # inch of a tissue
    with drawing(0.5 + height * len(order) + legend_height(list(styles))) as figure:
        axes = figure.subplots()
        sns.pointplot(
            frame,
            x="value",
            y="tissue",
            hue="label",
            order=order,
            hue_order=list(styles),
            palette=[style["color"] for style in styles.values()],
            markers=[style["marker"] for style in styles.values()],
            linestyle="none",
            dodge=spread,
            errorbar=None,
            markersize=4,
            legend=False,
            ax=axes,
            **EDGE,
        )
        where = [order.index(tissue) + shifts[label] for tissue, label in zip(frame["tissue"], frame["label"])]
        intervals(axes, frame, where, "x")
        for place in range(1, len(order)):
            axes.axhline(place - 0.5, color="#DDDDDD", linewidth=0.5, zorder=0)
        axes.set_yticks(range(len(order)), [visible(t).replace("_", " ") for t in order])
        some = frame["low"].notna().any()
        axes.set_xlabel(f"{metric} (95 % interval)" if some else f"{metric} (too few clusters for intervals)")
        axes.set(ylim=(len(order) - 0.4, -0.6), ylabel="")
        legend(figure, keys(styles, linestyle="none"))
    save(figure, Path(folder) / "tissues", points)
    return True


def forest(group: Group, observed: Observed, folder: Path, metric: str = "bPQ") -> bool:
    """Differences of a method's variants to its full model with intervals; False without variants."""
    import seaborn as sns

    points = []
    for full in (row for row in group.rows if not overrides(row)):
        for row in variants(group, full):
            comparison = compare(observed, row, full, metric)
            if comparison:
                names = {"variant": ", ".join(overrides(row)), "full": full.label}
                points.append(point(group, row, comparison.difference) | names)
    if not points:
        return False
    frame = pd.DataFrame(points)
    several = frame["full"].nunique() > 1
    names = frame["full"] + ": " + frame["variant"] if several else frame["variant"]
    frame["colour"] = frame["method"].str.split("@").str[0].map(method_colours(group))
    with drawing(0.7 + 0.17 * len(points)) as figure:
        axes = figure.subplots()
        axes.axvline(0, color="#888888", linewidth=0.8)
        intervals(axes, frame, frame.index, "x")
        sns.scatterplot(x=frame["value"], y=frame.index, color=frame["colour"], s=DOT, linewidth=0, ax=axes)
        axes.set_yticks(range(len(points)), [shorten(name, 36) for name in names])
        axes.set(ylim=(len(points) - 0.3, -0.7), xlabel="", ylabel="")
        of = "the full model" if several else points[0]["full"]
        figure.supxlabel(shorten(f"Δ {metric} to {of} (95 % interval)", 60), fontsize=8)
    save(figure, Path(folder) / "forest", points)  # components.csv is the table
    return True


def pareto(group: Group, observed: Observed, folder: Path, metric: str = "bPQ") -> bool:
    """Accuracy against what is trained and against speed; the front of each is drawn as a line."""
    import seaborn as sns

    points = []
    for row in group.rows:
        if not observed.runs(row):
            continue
        cost = {}
        for key, (*_, scale) in COSTS.items():
            cost[key] = scale * summarise((run.cost.get(key) for run in row.runs), 1).mean
        points.append(point(group, row, interval(observed, row, metric)) | cost)
    points = [p for p in points if not math.isnan(p["value"])]
    costs = {key: axis for key, axis in COSTS.items() if sum(p[key] > 0 for p in points) > 1}
    if not costs:
        return False
    frame = pd.DataFrame(points)
    drawn = {label: style for label, style in group_looks(group).items() if label in set(frame["label"])}
    styles = {label: drawn.get(label, VARIANT) for label in frame["label"]}
    frame["colour"] = [styles[label]["color"] for label in frame["label"]]
    frame = frame.sort_values("colour", key=lambda colours: colours != VARIANT["color"], kind="stable")  # others below
    named = drawn | ({"variants": VARIANT} if len(drawn) < len(styles) else {})
    with drawing(2.1 + legend_height(list(named))) as figure:
        panels = np.atleast_1d(figure.subplots(1, len(costs), sharey=True))
        for panel, (key, (title, sign, _)) in zip(panels, costs.items()):
            shown = frame[frame[key] > 0]
            front = pd.DataFrame(_front(shown.to_dict("records"), key, sign))
            sns.lineplot(front, x=key, y="value", color="#AAAAAA", linewidth=0.8, ax=panel, **FRONT)
            intervals(panel, shown, shown[key], "y")
            sns.scatterplot(shown, x=key, y="value", s=DOT, alpha=0.75, ax=panel, **semantics(styles))  # some coincide
            panel.margins(x=0.1)
            log_scale(panel.xaxis, list(shown[key]))
            panel.set_xlabel(title)
            if absent := frame[~(frame[key] > 0)]["label"].tolist():  # a logarithmic axis has no 0
                panel.set_title(shorten(f"without {', '.join(absent)}: 0 or not recorded", 44), fontsize=5)
        panels[0].set_ylabel(f"{metric} (95 % interval)")
        legend(figure, keys(named, linestyle="none"))
    save(figure, Path(folder) / "accuracy_cost", points)
    return True


def _front(points: list[dict], key: str, sign: int) -> list[dict]:
    """The Pareto front in order of `key`: points than which no other is better in one and at least as good in both.

    Args:
        sign: -1 where less of `key` is better, 1 where more is.
    """

    def beaten(p: dict) -> bool:
        place = sign * p[key], p["value"]
        others = [(sign * q[key], q["value"]) for q in points]
        return any(other != place and other[0] >= place[0] and other[1] >= place[1] for other in others)

    return sorted((p for p in points if not beaten(p)), key=lambda p: p[key])


def training_curves(group: Group, folder: Path) -> bool:
    """Training loss and validation bPQ per epoch, a line per run; False when no run kept a log."""
    import seaborn as sns
    from matplotlib.ticker import MaxNLocator

    epochs, records = [], []
    for row in group.drawn:
        for run in row.runs:
            log = _log(run)
            facts = {"method": row.method, "fold": run.id.split, "seed": run.id.seed}
            records += [facts | epoch for epoch in log]
            epochs += [epoch | {"label": row.label, "run": str(run.folder)} for epoch in log]
    if not epochs:
        return False
    frame = pd.DataFrame(epochs)
    frame["epoch"] += 1
    styles = {label: style for label, style in group_looks(group).items() if label in set(frame["label"])}
    crowded = frame["run"].nunique() > len(styles)
    with drawing(2.1 + legend_height(list(styles))) as figure:
        panels = figure.subplots(1, 2)
        for panel, key in zip(panels, ("loss", "val_bPQ")):
            look = semantics(styles, line=True) | {"linewidth": 0.6 if crowded else 0.9, "markersize": 3}
            known = frame.dropna(subset=key)
            if len(known):  # seaborn warns where there is nothing
                sns.lineplot(known, x="epoch", y=key, units="run", markevery=(0.05, 0.3), ax=panel, **look)
            panel.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=[1, 2, 5, 10]))
            panel.set_xlabel("epoch")
        log_scale(panels[0].yaxis, list(frame["loss"].dropna()))
        panels[0].set_ylabel("training loss (own terms)")
        panels[1].set_ylabel("validation bPQ")
        legend(figure, keys(styles))
    save(figure, Path(folder) / "training", records)
    return True


def confusions(group: Group, folder: Path) -> bool:
    """Per method: how paired nuclei of each true type are typed, as shares of the true type; runs pooled."""
    import seaborn as sns

    from benchmark.metrics.sizes import extra_labels

    tables = [(row, _confusion(row)) for row in group.drawn]
    without = [row.label for row, counts in tables if counts is None]
    tables = [(row, counts) for row, counts in tables if counts is not None]
    names: list[str] = []
    for _, counts in tables:
        names += [name for name in counts.index if name not in names]
    if not names:  # no runs, or data without types
        return False
    _, _, none = extra_labels(names)
    columns = min(3, len(tables))
    lines = math.ceil(len(tables) / columns)
    records = []
    with drawing(0.9 + 1.3 * lines, 1.3 * columns + 0.9) as figure:
        panels = np.atleast_1d(figure.subplots(lines, columns)).ravel()
        for i, (panel, (row, table)) in enumerate(zip(panels, tables)):
            counts = table.rename(columns={MISSED: none})
            counts = counts.reindex(index=names, columns=[*names, none], fill_value=0).astype(float)
            for (true, predicted), nuclei in counts.stack().items():
                records.append({"method": row.method, "true": true, "predicted": predicted, "nuclei": nuclei})
            percent = 100 * counts.div(counts.sum(axis=1), axis=0)  # NaN, left white: no nucleus of this type
            sns.heatmap(
                percent,
                vmin=0,
                vmax=100,
                cmap="cividis",
                annot=True,
                fmt=".0f",
                annot_kws={"size": 5},
                cbar=False,
                xticklabels=[*(visible(name)[:14] for name in names), "missed"] if i < columns else False,
                yticklabels=[visible(name)[:14] for name in names] if i % columns == 0 else False,
                ax=panel,
            )
            for y, x in np.argwhere(percent.isna()):
                panel.text(x + 0.5, y + 0.5, "–", ha="center", va="center", fontsize=5)
            panel.xaxis.tick_top()  # the first line of panels has no gap
            panel.tick_params("x", length=0, rotation=90)
            panel.tick_params("y", length=0, rotation=0)
            panel.set(xlabel="", ylabel="")
            panel.set_title(broken(row.label, 1.2, 6), fontsize=6)
        for panel in panels[len(tables) :]:
            panel.set_visible(False)
        lacking = f"\nnot shown, no nucleus found that has a type: {shorten(', '.join(without), 60)}" if without else ""
        figure.suptitle(f"predicted type, % of the true type's nuclei{lacking}", fontsize=7)
        figure.supylabel("true type", fontsize=7)
    save(figure, Path(folder) / "confusion", records)
    return True


def _confusion(row: Row):
    """Counts by true class (rows) and predicted class or MISSED (columns), summed over the row's runs; None without a
    nucleus, paired or invented, of known predicted type."""
    from benchmark.metrics.sizes import confusion, extra_labels

    total, some = None, 0
    for run in row.runs:
        try:
            classes = [str(name) for name in run.config["classes"]]
            counts = confusion(run.records(), classes)
        except UNREADABLE as error:
            skipped(run.folder, error)
            continue
        untyped, _, none = extra_labels(classes)
        some += counts.drop(columns=[untyped, none]).to_numpy().sum()
        counts = counts.loc[classes, [*classes, none]].rename(columns={none: MISSED})
        total = counts if total is None else total.add(counts, fill_value=0)
    return total if some else None


def point(group: Group, row: Row, estimate: Interval) -> dict:
    """A csv line of a drawn value with its interval."""
    return {
        "dataset": group.dataset,
        "kind": group.kind,
        "preset": group.scale,
        "method": row.method,
        "label": row.label,
        "settings": row.settings,
        "weights": row.backbone[1],
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "clusters": estimate.clusters,
    }


def _log(run: Run) -> list[dict]:
    """The entries LOGGED of each epoch, None where one is no number; [] without a log.

    A damaged log is named on stderr and counts as none.
    """
    folder = RunFolder(run.folder)
    path = folder.log
    try:
        folder.check(path)
        if path.name in folder.files and not path.exists():
            raise FileNotFoundError("it was removed; no curve of this run")
        epochs = training_log.read(path)
    except (OSError, ValueError) as error:
        skipped(path, error)
        return []
    out = []
    for epoch in epochs:
        numbers = {key: epoch.get(key) for key in LOGGED}
        out.append({key: value if isinstance(value, int | float) else None for key, value in numbers.items()})
    return out
