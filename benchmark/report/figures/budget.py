"""Accuracy against the length of the training, in updates and in time: what `EXPERIMENT=budget` draws."""

import json
from pathlib import Path

import pandas as pd

from benchmark.report.figures.style import drawing, keys, legend, legend_height, log_scale, looks, save, semantics
from benchmark.report.select.groups import Group
from benchmark.report.select.observations import Observed
from benchmark.results.run import Run, updates_of

METRICS = ("bPQ", "mPQ")
MOST = 6  # lengths that each have a tick


def budget_figure(group: Group, observed: Observed, folder: Path) -> bool:
    """Test bPQ and mPQ against updates and against seconds of training, a line per method; a dot is a run.

    Every run of an arm that was trained for two lengths is a dot, at whatever split and seed: the spread at one length
    is what a change with the length is seen against. A line joins the means over the splits and seeds that an arm has
    at every length, of recipes that differ in `epochs` alone: others would move it though no training became longer.
    False when no method was trained for two lengths.
    """
    import seaborn as sns

    points = [_point(observed, run) for run in group.runs if run.folder in observed.images and updates_of(run.config)]
    frame = pd.DataFrame(points, columns=list(points[0]) if points else ["arm", "updates"])
    frame = frame[frame.groupby("arm")["updates"].transform("nunique") > 1]
    if frame.empty:
        return False
    names = _names(list(frame["arm"].unique()))
    frame["arm"] = frame["label"] = frame["arm"].map(names)
    styles = looks({names[arm]: json.loads(arm)[0] for arm in names})
    lengths = frame.groupby("arm")["updates"].transform("nunique")
    everywhere = frame.groupby(["arm", "fold", "seed"])["updates"].transform("nunique") == lengths
    means = frame[everywhere].groupby(["label", "updates"], as_index=False)[["seconds", *METRICS]].mean()
    with drawing(3.4 + legend_height(list(styles))) as figure:
        panels = figure.subplots(len(METRICS), 2, sharey="row", sharex="col")
        for row, metric in zip(panels, METRICS):
            for panel, x, title in zip(row, ("updates", "seconds"), ("updates", "training (s)")):
                sns.scatterplot(frame, x=x, y=metric, s=18, alpha=0.4, ax=panel, **semantics(styles))
                sns.lineplot(means, x=x, y=metric, sort=False, ax=panel, **semantics(styles, line=True))
                log_scale(panel.xaxis, list(frame[x]))
                if x == "updates" and frame[x].nunique() <= MOST:
                    panel.set_xticks(sorted(frame[x].unique()))
                panel.set(xlabel=title, ylabel=metric)
                panel.label_outer()
        legend(figure, keys(styles))
    save(figure, Path(folder) / "budget", frame.drop(columns="label").to_dict("records"))
    return True


def _point(observed: Observed, run: Run) -> dict:
    """What a run contributes: its arm (method and recipe but the length), how long it trained, its scores."""
    recipe = {key: value for key, value in run.config["recipe"].items() if key != "epochs"}
    arm = json.dumps([run.config.get("name"), _arguments(run), run.backbone, recipe], sort_keys=True)
    tops, bottoms = zip(*(observed.sums(run, metric) for metric in METRICS))
    scores = {m: float(t.sum() / b.sum()) if b.sum() else float("nan") for m, t, b in zip(METRICS, tops, bottoms)}
    facts = {"arm": arm, "name": run.config.get("name"), "fold": run.id.split, "seed": run.id.seed}
    length = {"updates": updates_of(run.config), "seconds": run.cost.get("train_seconds", float("nan"))}
    return facts | length | {"val_bPQ": run.metrics.get("val_bPQ")} | scores


def _arguments(run: Run) -> dict | None:
    """Those that identify the result: config.json spells out what older runs of the same arm do not have."""
    identity = run.metrics.get("identity")
    stored = identity.get("arguments") if isinstance(identity, dict) else None
    return run.config.get("arguments") if stored is None else stored


def _names(arms: list[str]) -> dict[str, str]:
    """What the legend calls the arms: the method, numbered where two arms share it."""
    names = [json.loads(arm)[0] for arm in arms]
    return {
        arm: name if names.count(name) == 1 else f"{name} ({names[:i].count(name) + 1})"
        for i, (arm, name) in enumerate(zip(arms, names))
    }
