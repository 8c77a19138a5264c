"""Figures of scores: per tissue, adapter components, accuracy against cost, training curves, confusions."""

import math
from pathlib import Path

import numpy as np

from benchmark.report.figures.style import COLOURS, drawing, legend, legend_height, log_scale, look, save, shorten
from benchmark.report.select.groups import Group, Row, overrides
from benchmark.report.select.observations import Observed
from benchmark.report.stats.bootstrap import compare, interval
from benchmark.report.stats.summary import summarise
from benchmark.results import training_log
from benchmark.results.run import UNREADABLE, Run, skipped
from benchmark.results.run_folder import RunFolder

VARIANT = {"color": "#999999", "marker": "x", "zorder": 1}  # rows that group.drawn leaves out
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
    apart = min(0.5, max(0.18, 0.055 * len(rows)))  # inch between tissues
    with drawing(0.5 + apart * len(order) + legend_height([row.label for row in rows])) as figure:
        axes = figure.subplots()
        for i, row in enumerate(rows):
            own = [p for p in points if p["method"] == row.method and p["weights"] == row.backbone[1]]
            shift = 0.7 * (i / max(1, len(rows) - 1) - 0.5)
            y = [order.index(p["tissue"]) - shift for p in own]
            style = look(i) | {"linestyle": "none", "markersize": 3}
            axes.errorbar([p["value"] for p in own], y, xerr=bars(own), label=row.label, elinewidth=0.6, **style)
        axes.set_yticks(range(len(order)), [t.replace("_", " ") for t in order])
        axes.set_ylim(-0.6, len(order) - 0.4)
        some = any(not math.isnan(p["low"]) for p in points)
        axes.set_xlabel(f"{metric} (95 % interval)" if some else f"{metric} (too few clusters for intervals)")
        legend(figure, {name: line for line, name in zip(*axes.get_legend_handles_labels())})
    save(figure, Path(folder) / "tissues", points)
    return True


def forest(group: Group, observed: Observed, folder: Path, metric: str = "bPQ") -> bool:
    """Differences of a method's variants to its full model with intervals; False without variants."""
    points = []
    for full in (row for row in group.rows if not overrides(row)):
        for row in group.rows:
            if row.method.startswith(f"{full.method},") and row.backbone == full.backbone:
                found = compare(observed, row, full, metric)
                if found:
                    told = {"variant": ", ".join(overrides(row)), "full": full.label}
                    points.append(point(group, row, found.difference) | told)
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
    axes_of = {"trainable": ("trainable parameters (M)", -1, 1e-6), "images_per_second": ("images / s", 1, 1.0)}
    points = []
    for row in group.rows:
        if not observed.runs(row):
            continue
        cost = {k: scale * summarise((r.cost.get(k) for r in row.runs), 1).mean for k, (*_, scale) in axes_of.items()}
        points.append(point(group, row, interval(observed, row, metric)) | cost)
    points = [p for p in points if not math.isnan(p["value"])]
    place = {row.label: i for i, row in enumerate(group.drawn)}
    axes_of = {key: told for key, told in axes_of.items() if sum(p[key] > 0 for p in points) > 1}
    if not axes_of:
        return False
    with drawing(2.1 + legend_height([p["label"] for p in points if p["label"] in place])) as figure:
        panels = np.atleast_1d(figure.subplots(1, len(axes_of), sharey=True))
        for panel, (key, (title, sign, _)) in zip(panels, axes_of.items()):
            shown = [p for p in points if p[key] > 0]
            for p in shown:
                known = p["label"] in place
                style = (look(place[p["label"]]) if known else VARIANT) | {"linestyle": "none", "elinewidth": 0.6}
                panel.errorbar(p[key], p["value"], yerr=bars([p]), label=p["label"] if known else "variants", **style)
            panel.margins(x=0.1)
            front = _front(shown, key, sign)
            panel.plot([p[key] for p in front], [p["value"] for p in front], color="#AAAAAA", linewidth=0.8, zorder=1)
            log_scale(panel.xaxis, [p[key] for p in shown])
            panel.set_xlabel(title)
        panels[0].set_ylabel(f"{metric} (95 % interval)")
        named = {label: handle for panel in panels for handle, label in zip(*panel.get_legend_handles_labels())}
        legend(figure, named)
    save(figure, Path(folder) / "accuracy_cost", points)
    return True


def _front(points: list[dict], key: str, sign: int) -> list[dict]:
    """Points that no other beats in both: less cost (sign -1) or more speed (+1), and accuracy."""
    better = [p for p in points if not any(sign * q[key] > sign * p[key] and q["value"] > p["value"] for q in points)]
    return sorted(better, key=lambda p: p[key])


def training_curves(group: Group, folder: Path) -> bool:
    """Training loss and validation bPQ per epoch, a line per run; False when no run kept a log."""
    lines, records = [], []
    for i, row in enumerate(group.drawn):
        for run in row.runs:
            log = _log(run)
            lines += [(i, row.label, log)] if log else []
            records += [{"method": row.method, "fold": run.id.split, "seed": run.id.seed} | e for e in log]
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
        named = {label: line for line, label in zip(*panels[0].get_legend_handles_labels())}
        legend(figure, named)
    save(figure, Path(folder) / "training", records)
    return True


def confusions(group: Group, folder: Path) -> bool:
    """Per method: how paired nuclei of each true type are typed, as shares of the true type; runs pooled."""
    from benchmark.metrics.sizes import confusion

    tables = []
    for row in group.drawn:
        total = None
        for run in row.runs:
            try:
                found = confusion(run.records(), [str(c) for c in run.config["classes"]])
            except UNREADABLE as error:
                skipped(run.folder, error)
                continue
            total = found if total is None else total.add(found, fill_value=0)
        if total is not None and total.drop(columns=["untyped", "none"], errors="ignore").to_numpy().sum():
            tables.append((row, total))
    if not tables:
        return False
    names = list(dict.fromkeys(n for _, t in tables for n in t.index if n not in ("untyped", "other", "none")))
    if not names:  # the data have no types
        return False
    records, columns = [], min(3, len(tables))
    with drawing(0.9 + 1.25 * -(-len(tables) // columns), 1.3 * columns + 0.9) as figure:
        panels = np.atleast_1d(figure.subplots(-(-len(tables) // columns), columns, sharex=True, sharey=True)).ravel()
        for panel in panels[len(tables) :]:
            panel.set_visible(False)
        for panel, (row, total) in zip(panels, tables):
            seen = [*names, "none"]
            counts = total.reindex(index=names, columns=seen, fill_value=0).to_numpy(float)
            with np.errstate(invalid="ignore"):
                share = counts / counts.sum(1, keepdims=True)  # NaN, left white: no nucleus of this type
            panel.imshow(share, cmap="cividis", vmin=0, vmax=1)
            panel.grid(False)
            for y, x in np.ndindex(share.shape):
                colour = "white" if share[y, x] < 0.5 else "black"
                text = "–" if np.isnan(share[y, x]) else f"{100 * share[y, x]:.0f}"
                panel.text(x, y, text, ha="center", va="center", fontsize=5, color=colour)
                records.append({"method": row.method, "true": names[y], "predicted": seen[x], "nuclei": counts[y, x]})
            panel.set_title(shorten(row.label, 22), fontsize=6.5)
            panel.set_xticks(range(len(seen)), [n[:14] if n != "none" else "missed" for n in seen], rotation=90)
            panel.set_yticks(range(len(names)), [n[:14] for n in names])
        figure.supxlabel("predicted type, % of the true type's nuclei", fontsize=7)
        figure.supylabel("true type", fontsize=7)
    save(figure, Path(folder) / "confusion", records)
    return True


def point(group: Group, row: Row, found) -> dict:
    """A csv line of a drawn value with its interval."""
    return {
        "dataset": group.dataset,
        "kind": group.kind,
        "preset": group.scale,
        "method": row.method,
        "label": row.label,
        "weights": row.backbone[1],
        "value": found.value,
        "low": found.low,
        "high": found.high,
        "clusters": found.clusters,
    }


def bars(points: list[dict]) -> list[list[float]]:
    """Lengths of error bars below and above; 0 where there is no interval."""
    low = [max(0.0, p["value"] - p["low"]) if not math.isnan(p["low"]) else 0.0 for p in points]
    high = [max(0.0, p["high"] - p["value"]) if not math.isnan(p["high"]) else 0.0 for p in points]
    return [low, high]


def _log(run: Run) -> list[dict]:
    """Numbers of each epoch; [] without a log, or with a damaged one, which is said on stderr."""
    path = RunFolder(run.folder).log
    try:
        epochs = training_log.read(path)
    except (OSError, ValueError) as error:
        skipped(path, error)
        return []
    return [{k: v if isinstance(v := e.get(k), int | float) else None for k in LOGGED} for e in epochs]
