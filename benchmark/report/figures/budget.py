"""Accuracy against the length of the training, in updates and in time: what `EXPERIMENT=budget` draws."""

import json
from pathlib import Path

import numpy as np

from benchmark.report.figures.style import drawing, handles, legend, legend_height, log_scale, look, save
from benchmark.report.select.groups import Group
from benchmark.report.select.observations import Observed
from benchmark.results.run import Run

METRICS = ("bPQ", "mPQ")


def budget_figure(group: Group, observed: Observed, folder: Path) -> bool:
    """Test bPQ and mPQ against updates and against seconds of training, a line per method; a dot is a run.

    A line joins the means over the splits and seeds that an arm has at every length, of recipes that differ in `epochs`
    alone: others would move it though no training became longer.
    False when no method was trained for two lengths.
    """
    points = [_point(observed, run) for run in group.runs if run.folder in observed.images and _updates(run.config)]
    arms: dict[str, list[dict]] = {}
    for point in points:
        arms.setdefault(point["arm"], []).append(point)
    arms = {arm: own for arm, own in arms.items() if len({point["updates"] for point in own}) > 1}
    if not arms:
        return False
    names = _names(list(arms))
    with drawing(3.4 + legend_height(list(names.values()))) as figure:
        panels = figure.subplots(len(METRICS), 2, sharey="row", sharex="col")
        for i, (arm, own) in enumerate(arms.items()):
            for row, metric in enumerate(METRICS):
                for panel, x in zip(panels[row], ("updates", "seconds")):
                    _draw(panel, own, x, metric, look(i), names[arm])
        for panel, x, title in zip(panels[-1], ("updates", "seconds"), ("updates", "training (s)")):
            log_scale(panel.xaxis, [point[x] for own in arms.values() for point in own])
            panel.set_xlabel(title)
        for row, metric in zip(panels, METRICS):
            row[0].set_ylabel(metric)
        legend(figure, handles(panels.flat))
    shown = [point | {"arm": names[arm]} for arm, own in arms.items() for point in own]
    save(figure, Path(folder) / "budget", shown)
    return True


def _draw(panel, points: list[dict], x: str, metric: str, style: dict, label: str) -> None:
    panel.plot([p[x] for p in points], [p[metric] for p in points], **style | {"linestyle": "none", "alpha": 0.4})
    lengths = sorted({p["updates"] for p in points})
    of_length = [{(p["fold"], p["seed"]): p for p in points if p["updates"] == length} for length in lengths]
    runs = sorted(set.intersection(*map(set, of_length)))
    means = [[float(np.mean([own[run][key] for run in runs])) for own in of_length if runs] for key in (x, metric)]
    panel.plot(*means, label=label, **style)


def _updates(config: dict) -> int | None:
    """Updates of a run's training; None where its recipe does not say."""
    recipe = config.get("recipe") or {}
    epochs, samples, batch = (recipe.get(key) for key in ("epochs", "samples", "batch"))
    return epochs * max(1, samples // batch) if epochs and samples and batch else None


def _point(observed: Observed, run: Run) -> dict:
    """What a run contributes: its arm (method and recipe but the length), how long it trained, its scores."""
    recipe = {key: value for key, value in run.config["recipe"].items() if key != "epochs"}
    arm = json.dumps([run.config.get("name"), run.config.get("arguments"), run.backbone, recipe], sort_keys=True)
    tops, bottoms = zip(*(observed.sums(run, metric) for metric in METRICS))
    scores = {m: float(t.sum() / b.sum()) if b.sum() else float("nan") for m, t, b in zip(METRICS, tops, bottoms)}
    facts = {"arm": arm, "name": run.config.get("name"), "fold": run.id.split, "seed": run.id.seed}
    length = {"updates": _updates(run.config), "seconds": run.cost.get("train_seconds", float("nan"))}
    return facts | length | {"val_bPQ": run.metrics.get("val_bPQ")} | scores


def _names(arms: list[str]) -> dict[str, str]:
    """What the legend calls the arms: the method, numbered where two arms share it."""
    names = [json.loads(arm)[0] for arm in arms]
    return {
        arm: name if names.count(name) == 1 else f"{name} ({names[:i].count(name) + 1})"
        for i, (arm, name) in enumerate(zip(arms, names))
    }
