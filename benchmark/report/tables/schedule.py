"""What precedes the claim's answers: the search for each arm's learning rate, and the length of the training."""

import collections
import math
import statistics
from collections.abc import Iterable

from benchmark.report.render.table import Block, Table
from benchmark.report.select.groups import Group, Row, overrides
from benchmark.report.select.observations import Observed
from benchmark.report.stats.claim import LEAST
from benchmark.results.run import Run, updates_of
from benchmark.runtime.counts import counted

RATE, EPOCHS = "recipe.optimiser.lr", "recipe.epochs"
SEARCHED = (1, 0)  # split and seed of the search
PAIR = ("cellvta", "decoder_only")
SEEDS = 2  # of the budget's experiment
WALL = "by the clock, which other work on the machine makes longer: not comparable between arms"
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
    table.notes.append(f"training: of all its rates together, the price of the search, {WALL}.{_cores(of_arm)}")
    return table


def _cores(of_arm: dict[str, dict[float, Run]]) -> str:
    """How many trainings had how many cores, where these differ."""
    hardware = [run.provenance.get("hardware") for runs in of_arm.values() for run in runs.values()]
    counts = collections.Counter(one["cores"] for one in hardware if isinstance(one, dict) and one.get("cores"))
    if len(counts) < 2:
        return ""
    texts = [f"{n} had {counted(cores, 'core')}" for cores, n in sorted(counts.items())]
    return f" Of the {counts.total()} trainings {' and '.join(texts)}."


def budget_table(group: Group, observed: Observed) -> Table | None:
    """bPQ and mPQ of the claim's pair against the number of epochs, on the split of the search.

    The pair is the rows that the experiment names, and those that differ from them in epochs alone. A length has the
    seeds that both arms have at it and at the first length; the first has those of its double, with which it is
    compared. None without two lengths.
    """
    lengths = {name: _lengths(group, name) for name in PAIR}
    seeds = _seeds_of(lengths)
    if len(seeds) < 2:
        return None
    table = Table("schedule", f"Scores against the length of the training: split {SEARCHED[0]}")
    lines = [["epochs", "arm", "validation bPQ", "bPQ", "mPQ", "selected", "training (min)", "seeds"]]
    for epochs, of_length in seeds.items():
        means = _means(observed, lengths, epochs, of_length)
        for name in PAIR:
            texts = [f"{means[name][key]:.3f}" for key in ("val_bPQ", "bPQ", "mPQ")]
            chosen = _runs(lengths[name][epochs], of_length)
            texts.append(", ".join(str(run.metrics["best_epoch"] + 1) for run in chosen))
            lines.append([str(epochs), name, *texts, f"{means[name]['train_seconds'] / 60:.1f}", str(len(of_length))])
            for run in chosen:
                facts = {"arm": name, "epochs": epochs, "fold": run.id.split, "seed": run.id.seed}
                facts["selected"] = run.metrics["best_epoch"] + 1
                table.records.append(facts | _point(observed, run))
        delta = _difference(means)
        texts = [f"{delta['bPQ']:+z.3f}", f"{delta['mPQ']:+z.3f}"]
        lines.append([str(epochs), f"{PAIR[0]} − {PAIR[1]}", "", *texts, "", "", str(len(of_length))])
    table.blocks.append(Block(lines, left=2))
    updates = {e: updates_of(_runs(lengths[PAIR[0]][e], of_length)[0].config) for e, of_length in seeds.items()}
    if all(updates.values()):
        table.notes.append(f"{_listed(updates)} epochs are {_listed(updates.values())} updates.")
    table.notes.append("selected: the epoch whose weights were kept, by validation bPQ, of each seed.")
    table.notes.append(f"training: mean over the seeds, {WALL}.")
    table.conclusion = f"{_doubled(observed, lengths, [*seeds])} {_longest(observed, lengths, seeds)}".strip()
    return table


def converged(group: Group, observed: Observed) -> tuple[int, bool] | None:
    """(epochs of the first length, whether it counts as converged); None before all SEEDS of its double were run."""
    lengths = {name: _lengths(group, name) for name in PAIR}
    seeds, changes = _doubling(observed, lengths, [*_seeds_of(lengths)])
    if len(seeds) < SEEDS:
        return None
    return next(iter(_seeds_of(lengths))), _small(changes)


def _seeds_of(lengths: dict[str, dict[int, list[Run]]]) -> dict[int, list[int]]:
    """Epochs -> seeds of the split of the search, see `budget_table`; lengths without any are left out."""
    shared = sorted(set.intersection(*(set(of_arm) for of_arm in lengths.values())))
    out = {epochs: _common(lengths, [shared[0], epochs]) for epochs in shared}
    if 2 * next(iter(shared), 0) in out:
        out[shared[0]] = _common(lengths, [shared[0], 2 * shared[0]])
    return {epochs: seeds for epochs, seeds in out.items() if seeds}


def _common(lengths: dict[str, dict[int, list[Run]]], chosen: list[int]) -> list[int]:
    """Seeds that both arms have at all chosen lengths."""
    runs = [of_arm[epochs] for of_arm in lengths.values() for epochs in chosen]
    return sorted(set.intersection(*({r.id.seed for r in some if r.id.split == SEARCHED[0]} for some in runs)))


def _runs(runs: list[Run], seeds: list[int]) -> list[Run]:
    return [run for run in runs if run.id.split == SEARCHED[0] and run.id.seed in seeds]


def _means(observed: Observed, lengths: dict, epochs: int, seeds: list[int]) -> dict[str, dict[str, float]]:
    """Arm -> means over the seeds of what `_point` gives."""
    out = {}
    for name in PAIR:
        points = [_point(observed, run) for run in _runs(lengths[name][epochs], seeds)]
        out[name] = {key: statistics.fmean(point[key] for point in points) for key in points[0]}
    return out


def _doubling(observed: Observed, lengths: dict, known: list[int]) -> tuple[list[int], dict[str, float]]:
    """(seeds that have both lengths, what changes by how much) when the first length is doubled; ([], {}) without."""
    if not known or 2 * known[0] not in known:
        return [], {}
    seeds = _common(lengths, [known[0], 2 * known[0]])
    before, after = (_means(observed, lengths, epochs, seeds) for epochs in (known[0], 2 * known[0]))
    changes = {f"validation bPQ of {name}": after[name]["val_bPQ"] - before[name]["val_bPQ"] for name in PAIR}
    for metric in ("bPQ", "mPQ"):
        changes[f"the difference in {metric}"] = _difference(after)[metric] - _difference(before)[metric]
    return seeds, changes


def _small(changes: dict[str, float]) -> bool:
    return all(abs(change) <= LARGEST for change in changes.values())


def _doubled(observed: Observed, lengths: dict, known: list[int]) -> str:
    """Whether doubling the first length changes what docs/claim.md allows to change, over the seeds of both."""
    first, double = known[0], 2 * known[0]
    seeds, changes = _doubling(observed, lengths, known)
    if not seeds:
        return f"No training of {double} epochs: whether {first} suffice is not known."
    text = ", ".join(f"{what} by {change:+z.3f}" for what, change in changes.items())
    verdict = "converged" if _small(changes) else "not converged"
    if len(seeds) < SEEDS:
        verdict = f"no verdict before all {SEEDS} seeds were run"
    return (
        f"Twice the schedule ({double} epochs for {first}, {counted(len(seeds), 'seed')}) changes {text}: {verdict} "
        f"(at most {LARGEST:g} each)."
    )


def _longest(observed: Observed, lengths: dict, seeds: dict[int, list[int]]) -> str:
    """What is left of the gain at the longest training: docs/claim.md counts a vanishing one against the claim."""
    longest = max(seeds)
    gain = _difference(_means(observed, lengths, longest, seeds[longest]))
    small = [metric for metric in ("bPQ", "mPQ") if gain[metric] < LEAST[metric]]
    state = "above the smallest effect"
    if small:
        against = ", which docs/claim.md counts against the claim" if len(seeds[longest]) >= SEEDS else ""
        state = f"below the smallest effect of interest in {' and '.join(small)}{against}"
    if len(seeds[longest]) < SEEDS:
        state += f" (nothing follows before all {SEEDS} seeds were run)"
    return (
        f"After the longest training ({longest} epochs, {counted(len(seeds[longest]), 'seed')} of {SEEDS}) the gain is "
        f"{gain['bPQ']:+z.3f} bPQ and {gain['mPQ']:+z.3f} mPQ: {state}.{_shorter(observed, lengths, seeds[longest])}"
    )


def _shorter(observed: Observed, lengths: dict, seeds: list[int]) -> str:
    """The same of the shorter trainings of these seeds alone, which another set of seeds would blur."""
    shared = sorted(set.intersection(*(set(of_arm) for of_arm in lengths.values())))
    means = {e: _means(observed, lengths, e, seeds) for e in shared if set(seeds) <= set(_common(lengths, [e]))}
    if len(means) < 2:
        return ""
    gains = {epochs: _difference(mean) for epochs, mean in means.items()}
    texts = [f"{gain['bPQ']:+z.3f} and {gain['mPQ']:+z.3f} at {epochs}" for epochs, gain in gains.items()]
    own = ", ".join(f"{mean[PAIR[0]]['bPQ']:.3f}" for mean in means.values())
    which = f"seed{'s' * (len(seeds) > 1)} {', '.join(map(str, seeds))}{' alone' * (len(seeds) < SEEDS)}"
    return f" Of {which} the gains are {', '.join(texts)} epochs, while {PAIR[0]} itself has {own} bPQ."


def _difference(means: dict[str, dict[str, float]]) -> dict[str, float]:
    a, b = (means[name] for name in PAIR)
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


def _listed(numbers: Iterable[int | None]) -> str:
    return ", ".join(map(str, numbers))


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
