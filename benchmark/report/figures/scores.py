"""Figures of scores: per tissue, adapter components, accuracy against cost, training curves, confusions."""

import math
from pathlib import Path

import numpy as np

from benchmark.report.figures.style import (
    COLOURS,
    drawing,
    handles,
    legend,
    legend_height,
    log_scale,
    look,
    save,
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

VARIANT = {"color": "#999999", "marker": "x", "zorder": 1}  # rows that group.drawn leaves out
# key of the cost -> (title of its axis, -1 where less is better and 1 where more is, scale)
COSTS = {"trainable": ("trainable parameters (M)", -1, 1e-6), "images_per_second": ("images / s", 1, 1.0)}
LOGGED = ("epoch", "loss", "val_bPQ", "lr", "seconds")


def tissue_dots(group: Group, observed: Observed, folder: Path, metric: str = "bPQ") -> bool:
    """The metric per tissue with bootstrap intervals, a dot per method; False when nothing could be drawn."""
    tissues = sorted({t for f in observed.images.values() for t in f["tissue"].astype(str)} - {""})
    rows = [row for row in group.drawn if observed.runs(row)]
    points = []
    for tissue in tissues:
        part = observed.only(tissue)
        points += [point(group, row, interval(part, row, metric)) | {"tissue": tissue} for row in rows]
    points = [p for p in points if not math.isnan(p["value"])]
    if len({p["tissue"] for p in points}) < 2:
        return False
    first = {p["tissue"]: p["value"] for p in reversed(points)}
    order = sorted(first, key=first.get)
    spacing = min(0.5, max(0.18, 0.055 * len(rows)))  # inch between tissues
    with drawing(0.5 + spacing * len(order) + legend_height([row.label for row in rows])) as figure:
        axes = figure.subplots()
        for i, row in enumerate(rows):
            own = [p for p in points if p["method"] == row.method and p["weights"] == row.backbone[1]]
            shift = 0.7 * (i / max(1, len(rows) - 1) - 0.5)
            y = [order.index(p["tissue"]) - shift for p in own]
            style = look(i) | {"linestyle": "none", "markersize": 3}
            axes.errorbar([p["value"] for p in own], y, xerr=bars(own), label=row.label, elinewidth=0.6, **style)
        axes.set_yticks(range(len(order)), [visible(t).replace("_", " ") for t in order])
        axes.set_ylim(-0.6, len(order) - 0.4)
        some = any(not math.isnan(p["low"]) for p in points)
        axes.set_xlabel(f"{metric} (95 % interval)" if some else f"{metric} (too few clusters for intervals)")
        legend(figure, handles([axes]))
    save(figure, Path(folder) / "tissues", points)
    return True


def forest(group: Group, observed: Observed, folder: Path, metric: str = "bPQ") -> bool:
    """Differences of a method's variants to its full model with intervals; False without variants."""
    points = []
    for full in (row for row in group.rows if not overrides(row)):
        for row in variants(group, full):
            comparison = compare(observed, row, full, metric)
            if comparison:
                names = {"variant": ", ".join(overrides(row)), "full": full.label}
                points.append(point(group, row, comparison.difference) | names)
    if not points:
        return False
    with drawing(0.7 + 0.17 * len(points)) as figure:
        axes = figure.subplots()
        y = range(len(points) - 1, -1, -1)
        axes.axvline(0, color="#888888", linewidth=0.8)
        axes.errorbar(
            [p["value"] for p in points], list(y), xerr=bars(points), fmt="o", color=COLOURS[0], elinewidth=0.9
        )
        several = len({p["full"] for p in points}) > 1
        names = [f"{p['full']}: {p['variant']}" if several else p["variant"] for p in points]
        axes.set_yticks(list(y), [shorten(name, 36) for name in names])
        axes.set_ylim(-0.7, len(points) - 0.3)
        of = "the full model" if several else points[0]["full"]
        figure.supxlabel(shorten(f"Δ {metric} to {of} (95 % interval)", 60), fontsize=8)
    save(figure, Path(folder) / "forest", points)  # components.csv is the table
    return True


def pareto(group: Group, observed: Observed, folder: Path, metric: str = "bPQ") -> bool:
    """Accuracy against what is trained and against speed; the front of each is drawn as a line."""
    points = []
    for row in group.rows:
        if not observed.runs(row):
            continue
        cost = {}
        for key, (*_, scale) in COSTS.items():
            cost[key] = scale * summarise((run.cost.get(key) for run in row.runs), 1).mean
        points.append(point(group, row, interval(observed, row, metric)) | cost)
    points = [p for p in points if not math.isnan(p["value"])]
    place = {row.label: i for i, row in enumerate(group.drawn)}
    costs = {key: axis for key, axis in COSTS.items() if sum(p[key] > 0 for p in points) > 1}
    if not costs:
        return False
    with drawing(2.1 + legend_height([p["label"] for p in points if p["label"] in place])) as figure:
        panels = np.atleast_1d(figure.subplots(1, len(costs), sharey=True))
        for panel, (key, (title, sign, _)) in zip(panels, costs.items()):
            shown = [p for p in points if p[key] > 0]
            for p in shown:
                drawn = p["label"] in place
                style = (look(place[p["label"]]) if drawn else VARIANT) | {"linestyle": "none", "elinewidth": 0.6}
                panel.errorbar(p[key], p["value"], yerr=bars([p]), label=p["label"] if drawn else "variants", **style)
            panel.margins(x=0.1)
            front = _front(shown, key, sign)
            panel.plot([p[key] for p in front], [p["value"] for p in front], color="#AAAAAA", linewidth=0.8, zorder=1)
            log_scale(panel.xaxis, [p[key] for p in shown])
            panel.set_xlabel(title)
        panels[0].set_ylabel(f"{metric} (95 % interval)")
        legend(figure, handles(panels))
    save(figure, Path(folder) / "accuracy_cost", points)
    return True


def _front(points: list[dict], key: str, sign: int) -> list[dict]:
    """Points that no other one beats both in `key` and in accuracy, in order of `key`.

    Args:
        sign: -1 where less of `key` is better, 1 where more is.
    """
    best = []
    for p in points:
        beaten = any(sign * q[key] > sign * p[key] and q["value"] > p["value"] for q in points)
        if not beaten:
            best.append(p)
    return sorted(best, key=lambda p: p[key])


def training_curves(group: Group, folder: Path) -> bool:
    """Training loss and validation bPQ per epoch, a line per run; False when no run kept a log."""
    lines, records = [], []
    for i, row in enumerate(group.drawn):
        for run in row.runs:
            log = _log(run)
            if log:
                lines.append((i, row.label, log))
            facts = {"method": row.method, "fold": run.id.split, "seed": run.id.seed}
            records += [facts | epoch for epoch in log]
    if not lines:
        return False
    with drawing(2.1 + legend_height(list(dict.fromkeys(label for _, label, _ in lines)))) as figure:
        panels = figure.subplots(1, 2)
        for i, label, log in lines:
            style = look(i) | {"linewidth": 0.9, "markersize": 2.5, "markevery": (0.05, 0.3)}
            for panel, key in zip(panels, ("loss", "val_bPQ")):
                points = [(e["epoch"] + 1, e[key]) for e in log if isinstance(e.get(key), int | float)]
                panel.plot(*zip(*points) if points else ((), ()), label=label, **style)
        log_scale(panels[0].yaxis, [e["loss"] for *_, log in lines for e in log if e["loss"] is not None])
        panels[0].set_ylabel("training loss (own terms)")
        panels[1].set_ylabel("validation bPQ")
        for panel in panels:
            panel.set_xlabel("epoch")
        legend(figure, handles(panels[:1]))
    save(figure, Path(folder) / "training", records)
    return True


def confusions(group: Group, folder: Path) -> bool:
    """Per method: how paired nuclei of each true type are typed, as shares of the true type; runs pooled."""
    tables = [(row, _confusion(row)) for row in group.drawn]
    tables = [(row, counts) for row, counts in tables if counts is not None]
    names: list[str] = []
    for _, counts in tables:
        names += [name for name in counts.index if name not in ("untyped", "other", "none", *names)]
    if not names:  # no runs, or data without types
        return False
    predicted = [*names, "none"]
    columns = min(3, len(tables))
    lines = math.ceil(len(tables) / columns)
    records = []
    with drawing(0.9 + 1.25 * lines, 1.3 * columns + 0.9) as figure:
        panels = np.atleast_1d(figure.subplots(lines, columns, sharex=True, sharey=True)).ravel()
        for panel in panels[len(tables) :]:
            panel.set_visible(False)
        for panel, (row, table) in zip(panels, tables):
            counts = table.reindex(index=names, columns=predicted, fill_value=0).to_numpy(float)
            _draw_confusion(panel, counts)
            for y, x in np.ndindex(counts.shape):
                pair = {"true": names[y], "predicted": predicted[x], "nuclei": counts[y, x]}
                records.append({"method": row.method} | pair)
            panel.set_title(shorten(row.label, 22), fontsize=6.5)
            panel.set_xticks(range(len(predicted)), [*(visible(name)[:14] for name in names), "missed"], rotation=90)
            panel.set_yticks(range(len(names)), [visible(name)[:14] for name in names])
        figure.supxlabel("predicted type, % of the true type's nuclei", fontsize=7)
        figure.supylabel("true type", fontsize=7)
    save(figure, Path(folder) / "confusion", records)
    return True


def _confusion(row: Row):
    """`metrics.sizes.confusion` summed over the row's runs; None without a paired nucleus of known type."""
    from benchmark.metrics.sizes import confusion

    total = None
    for run in row.runs:
        try:
            counts = confusion(run.records(), [str(name) for name in run.config["classes"]])
        except UNREADABLE as error:
            skipped(run.folder, error)
            continue
        total = counts if total is None else total.add(counts, fill_value=0)
    if total is None or not total.drop(columns=["untyped", "none"], errors="ignore").to_numpy().sum():
        return None
    return total


def _draw_confusion(panel, counts: np.ndarray) -> None:
    """Draw counts, float64 (true types, predicted types), as shares of the true type in percent."""
    with np.errstate(invalid="ignore"):
        shares = counts / counts.sum(1, keepdims=True)  # NaN, left white: no nucleus of this type
    panel.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    panel.grid(False)
    for y, x in np.ndindex(shares.shape):
        colour = "white" if shares[y, x] < 0.5 else "black"
        text = "–" if np.isnan(shares[y, x]) else f"{100 * shares[y, x]:.0f}"
        panel.text(x, y, text, ha="center", va="center", fontsize=5, color=colour)


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


def bars(points: list[dict]) -> list[list[float]]:
    """Lengths of the error bars below and above each point; 0 where there is no interval."""
    lengths: list[list[float]] = [[], []]
    for p in points:
        for side, length in zip(lengths, (p["value"] - p["low"], p["high"] - p["value"])):
            side.append(0.0 if math.isnan(length) else max(0.0, length))
    return lengths


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
