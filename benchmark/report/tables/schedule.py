"""What precedes the claim's answers: the search for each arm's learning rate, and the length of the training."""

import math
import statistics

from benchmark.report.render.table import Block, Table
from benchmark.report.select.groups import Group, Row, overrides
from benchmark.report.select.observations import Observed
from benchmark.results.run import Run

RATE, EPOCHS = "recipe.optimiser.lr", "recipe.epochs"
SEARCHED = (1, 0)  # split and seed of the search
PAIR = ("cellvta", "decoder_only")
LARGEST = 0.01  # change by which a doubled schedule still counts as converged


def rates_table(group: Group) -> Table | None:
    """Validation bPQ of each arm at each learning rate on SEARCHED; None where no arm was run at two rates."""
    of_arm: dict[str, dict[float, Run]] = {}
    for row in group.rows:
        for run in row.runs:
            rate = (run.config.get("settings") or {}).get(RATE)
            alone = set(run.config.get("settings") or {}) == {RATE} and not overrides(row)
            if alone and (run.id.split, run.id.seed) == SEARCHED:
                of_arm.setdefault(_arm(row), {})[rate] = run
    if not any(len(runs) > 1 for runs in of_arm.values()):
        return None
    rates = sorted({rate for runs in of_arm.values() for rate in runs})
    table = Table("rates", "Validation bPQ of each arm at each learning rate: split 1, seed 0")
    lines, ranks = [["arm", *(f"{rate:g}" for rate in rates), "training (min)"]], {}
    for arm, runs in of_arm.items():
        values = {rate: run.metrics.get("val_bPQ") for rate, run in runs.items()}
        known = {rate: value for rate, value in values.items() if value is not None}
        minutes = sum(run.cost.get("train_seconds", 0.0) for run in runs.values()) / 60
        texts = [_text(values.get(rate)) for rate in rates]
        if known:  # equal digits share the mark
            best = _text(max(known.values()))
            ranks |= {(len(lines), j): 1 for j, text in enumerate(texts, start=1) if text == best}
        lines.append([arm, *texts, f"{minutes:.0f}"])
        for rate, run in sorted(runs.items()):
            facts = {"arm": arm, "lr": rate, "fold": run.id.split, "seed": run.id.seed, "val_bPQ": values[rate]}
            table.records.append(facts | {"train_seconds": run.cost.get("train_seconds")})
    table.blocks.append(Block(lines, ranks=ranks))
    table.notes.append("training: of all its rates together, the price of the search.")
    return table


def budget_table(group: Group, observed: Observed) -> Table | None:
    """bPQ and mPQ of the claim's pair against the number of epochs, over the seeds that have every length.

    The pair is the rows that the experiment names, and those that differ from them in epochs alone. None without two
    lengths that both have.
    """
    lengths = {name: _lengths(group, name) for name in PAIR}
    shared = [epochs for epochs in lengths[PAIR[0]] if epochs in lengths[PAIR[1]]]
    if len(shared) < 2:
        return None
    of_length = [run for name in PAIR for epochs in shared for run in [lengths[name][epochs]]]
    places = sorted(set.intersection(*({(run.id.split, run.id.seed) for run in runs} for runs in of_length)))
    if not places:
        return None
    seeds = f"{len(places)} seed{'s' * (len(places) > 1)} of split {places[0][0]}"
    table = Table("schedule", f"Scores against the length of the training: {seeds}")
    lines = [["epochs", "arm", "validation bPQ", "bPQ", "mPQ", "training (min)"]]
    means: dict[tuple[str, int], dict[str, float]] = {}
    for epochs in sorted(shared):
        for name in PAIR:
            runs = [run for run in lengths[name][epochs] if (run.id.split, run.id.seed) in places]
            points = [_point(observed, run) for run in runs]
            means[name, epochs] = mean = {key: statistics.fmean(p[key] for p in points) for key in points[0]}
            lines.append([str(epochs), name, *(f"{mean[key]:.3f}" for key in ("val_bPQ", "bPQ", "mPQ"))])
            lines[-1].append(f"{mean['train_seconds'] / 60:.1f}")
            for run, point in zip(runs, points):
                facts = {"arm": name, "epochs": epochs, "fold": run.id.split, "seed": run.id.seed}
                table.records.append(facts | point)
        delta = _difference(means, epochs)
        lines.append([str(epochs), f"{PAIR[0]} − {PAIR[1]}", "", f"{delta['bPQ']:+z.3f}", f"{delta['mPQ']:+z.3f}", ""])
    table.blocks.append(Block(lines, left=2))
    table.conclusion = _conclusion(means, sorted(shared))
    return table


def _conclusion(means: dict, lengths: list[int]) -> str:
    """Whether doubling the first length changes what docs/claim.md allows to change."""
    first, double = lengths[0], 2 * lengths[0]
    if double not in lengths:
        return f"No training of {double} epochs: whether {first} suffice is not known."
    changes = {
        f"validation bPQ of {name}": means[name, double]["val_bPQ"] - means[name, first]["val_bPQ"] for name in PAIR
    }
    for metric in ("bPQ", "mPQ"):
        changes[f"the difference in {metric}"] = _difference(means, double)[metric] - _difference(means, first)[metric]
    text = ", ".join(f"{what} by {change:+z.3f}" for what, change in changes.items())
    verdict = "converged" if all(abs(change) <= LARGEST for change in changes.values()) else "not converged"
    return f"Twice the schedule ({double} epochs for {first}) changes {text}: {verdict} (at most {LARGEST:g} each)."


def _difference(means: dict, epochs: int) -> dict[str, float]:
    a, b = (means[name, epochs] for name in PAIR)
    return {key: a[key] - b[key] for key in a}


def _lengths(group: Group, name: str) -> dict[int, list[Run]]:
    """Epochs -> runs of an arm with the settings that the experiment chose for it."""
    own = [row for row in group.rows if row.runs and _arm(row) == name and not overrides(row)]
    named = [row for row in own if row.method in group.asked]
    if len(named) != 1:
        return {}
    chosen = named[0].runs[0].config.get("settings") or {}
    out: dict[int, list[Run]] = {}
    for row in own:
        settings = row.runs[0].config.get("settings") or {}
        if {**settings, EPOCHS: None} == {**chosen, EPOCHS: None}:
            out.setdefault(row.runs[0].config["recipe"]["epochs"], []).extend(row.runs)
    return out


def _point(observed: Observed, run: Run) -> dict[str, float]:
    """Scores and training time of a run; NaN where there is none."""
    point = {"val_bPQ": run.metrics.get("val_bPQ"), "train_seconds": run.cost.get("train_seconds")}
    for metric in ("bPQ", "mPQ"):
        tops, bottoms = observed.sums(run, metric)
        point[metric] = float(tops.sum() / bottoms.sum()) if bottoms.sum() else None
    return {key: math.nan if value is None else float(value) for key, value in point.items()}


def _arm(row: Row) -> str:
    return row.method.partition("@")[0]


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
