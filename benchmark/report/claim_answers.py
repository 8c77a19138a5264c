"""The claim's tables and figures, from the runs kept under docs/reference: for the README and for docs/claim.md."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.report.figures.budget import budget_figure
from benchmark.report.figures.curves import curves_figure, gain_figure
from benchmark.report.readme import LEARNT, machine
from benchmark.report.render.table import Block, Table, markdown, to_csv, write_file
from benchmark.report.select.groups import Group, Row, groups, overrides
from benchmark.report.select.observations import Observed, observe
from benchmark.report.select.store import Store
from benchmark.report.stats.curves import curves
from benchmark.report.tables.common import run_list
from benchmark.report.tables.headline import main_table
from benchmark.report.tables.schedule import budget_table, converged, rates_table
from benchmark.report.write import Tabled, group_tables, protocol_values
from benchmark.results.collect import runs
from benchmark.results.kept import unpacked
from benchmark.results.run_id import is_drawn
from benchmark.runtime.counts import counted
from benchmark.runtime.errors import InputError

PROTOCOL = "cellvit"
MARKS = ("<!-- claim -->", "<!-- /claim -->")
SHOWN = ("method", "settings", "bPQ", "95 %", "mPQ", "95 % ", "detection F1", "runs")
FURTHER = ("cellvit", "cellvit@tune=lora", "hovernet", "classical")  # arms that follow as far as time goes
QUIRKS = {"cls_in_vit", "offset_grid", "double_softmax", "cross_msge", "drop_path"}  # of `experiments/quirks.py`
BORROWED = (
    "Learning rates and schedule were chosen on drawn images and are used here as they are: whether they suit these "
    "images, or training converges on them, is not known; a rival at a rate that does not suit it looks like a gain."
)
BESIDE = {  # heading of the arms beside those of the questions -> whether they are trained
    "Beside them, under the same protocol and on the same images, and part of no question:": True,
    "What trains nothing, under the same protocol and on the same images; one run a split, ± is over splits:": False,
}
FIGURES = {
    "gain": "PQ of CellVTA minus PQ of the decoder-only arm by nucleus diameter and by distance to the nearest "
    "nucleus; runs pooled; band: 95 % of resamples of the sources at each point",
    "pq_by_size": "PQ and recall against nucleus diameter, per arm, its runs pooled; band: 95 % of resamples of the "
    "sources at each point",
    "budget": "Scores against the length of the training, in updates and in time by the clock; dots: all runs, at any "
    "split and seed; lines: the splits and seeds that have every length",
}
BRIEF = ("gain", "budget")  # figures of the README


@dataclass(frozen=True)
class Answers:
    """What the kept runs of one data set say.

    Attributes:
        arms: the group of the experiment's rows alone, with their tables.
        every, observed: the group of all kept runs, with their scores.
        beside: heading -> table of the arms of FURTHER that have all runs.
        rates, budget: of all kept runs; None where there is none.
        converged: (epochs, whether they count as converged), None where that is not known.
    """

    arms: Group
    tabled: Tabled
    every: Group
    observed: Observed
    beside: dict[str, Table]
    rates: Table | None
    budget: Table | None
    converged: tuple[int, bool] | None

    def table(self, name: str) -> Table | None:
        """One of the arms' tables."""
        every = [*self.tabled.main, *self.tabled.rest]
        return next((table for table in every if table.name == name), None)


@contextlib.contextmanager
def answers(kept: list[Path], methods: list[str], splits: list[int], seeds: list[int]) -> Iterator[Answers]:
    """The answers from the runs below these folders, for as long as the context lasts.

    Args:
        methods: canonical names of the experiment's rows, each with the learning rate chosen for it.
        splits, seeds: those that each row should have.

    Raises:
        InputError: no kept runs, damaged ones, or runs of several data sets or presets.
    """
    where = " and ".join(map(str, kept))
    with unpacked(*kept) as results:
        complete = runs(results)
        every = groups(complete, methods=methods)
        if len(every) != 1:
            held = ", ".join(str(group.folder) for group in every) or "none"
            raise InputError(f"{where}: expected runs of one data set and preset, found {held}.")
        if joint := next((run for run in complete if run.config.get("sets")), None):
            raise InputError(f"{where}: {joint.id.method} was trained on several sets at once; keep it elsewhere.")
        own = [run for run in complete if run.id.method in methods]
        (arms,) = groups(own, every[0].dataset, "main", methods, splits, seeds)
        store = Store()
        tabled = group_tables(arms, [PROTOCOL], store)
        observed = observe(every[0], PROTOCOL, store)
        beside = _beside(arms, every[0], observed)
        rates, budget = rates_table(every[0]), budget_table(every[0], observed)
        yield Answers(arms, tabled, every[0], observed, beside, rates, budget, converged(every[0], observed))


def _beside(arms: Group, every: Group, observed: Observed) -> dict[str, Table]:
    """The arms of FURTHER that have all runs, as the arms of the questions are tabled; one that trains nothing gives
    the same with every seed and has them with one."""
    out = {}
    for heading, trained in BESIDE.items():
        seeds = arms.seeds if trained else arms.seeds[:1]
        own = replace(arms, seeds=seeds, rows=[], asked=[])
        for row in every.rows:
            complete = [run for run in row.runs if bool(run.cost.get("epochs")) == trained and run.id.seed in seeds]
            if row.method not in arms.asked and _arm(row) in FURTHER and len(complete) == own.expected:
                own.rows.append(replace(row, runs=complete))
        if own.rows:
            values = {run.folder: protocol_values(run, PROTOCOL) for run in own.runs}
            name = "beside" if trained else "untrained"
            out[heading] = replace(main_table(own, PROTOCOL, values, observed), name=name)
    return out


def _arm(row: Row) -> str:
    """As FURTHER and docs/claim.md call an arm; "" for one with other arguments."""
    changed = overrides(row)
    return "@".join([row.method.partition("@")[0], *changed]) if changed in ([], ["tune=lora"]) else ""


def renew(out: Path, methods: list[str], splits: list[int], seeds: list[int]) -> None:
    """Write the tables as csv and the figures beside the kept runs; what a missing part would show is left out."""
    with answers([out / "runs"], methods, splits, seeds) as found:
        for path in (*out.glob("*.csv"), *out.glob("*.png")):
            path.unlink()  # what is not made again is of runs that are no longer kept
        for table in (*found.tabled.main, *found.tabled.rest, *found.beside.values(), found.rates, found.budget):
            if table is not None and table.records:
                write_file(out / f"{table.name}.csv", to_csv(table.records).encode())
        write_file(out / "runs.csv", to_csv(run_list(found.every)).encode())
        of_property = curves(found.arms)
        gain_figure(found.arms, list(of_property.values()), out)
        if "d_um" in of_property:
            curves_figure(found.arms, of_property["d_um"], out, "pq_by_size")
        if found.budget is not None:
            budget_figure(found.every, found.observed, out)
    for path in out.glob("*.pdf"):
        path.unlink()  # png and csv are kept


def section(out: Path, methods: list[str], splits: list[int], seeds: list[int], link: str, whole: bool) -> str:
    """Markdown: what was run, the questions with their answers, the arms, the figures.

    Args:
        link: path of `out` relative to the page.
        whole: with the search for the rates, the table of lengths of the training, and all figures; else BRIEF's alone.
    """
    with answers([out / "runs"], methods, splits, seeds) as found:
        parts = [ran(found)]
        if not is_drawn(found.arms.dataset):
            parts.append(BORROWED)
        if claim := found.table("claim"):
            parts += [_state(found, claim), body(claim)]
        else:
            parts.append(
                "There is no table of the questions: no run of cellvta has a partner, or an arm stands in two rows."
            )
        if main := found.table(f"main-{PROTOCOL}"):
            parts += [body(_narrow(main)), f"{_units(found, main)} {_unlearnt(found.arms)}".strip()]
        for heading, table in found.beside.items():
            parts += [heading, body(_narrow(table))]
        if not whole and found.budget is not None:
            parts.append(found.budget.conclusion)
        if whole:
            parts.append(_not_run(found.every, found.arms.expected))
            parts += [markdown(table).rstrip() for table in (found.rates, found.budget) if table is not None]
    for stem in FIGURES if whole else BRIEF:
        if (out / f"{stem}.png").is_file():
            parts.append(f"![{FIGURES[stem]}: {found.arms.dataset}]({link}/{stem}.png)")
    parts.append(f"Records, every table as csv and the figures' csv: [{link}]({link}).")
    return "\n\n".join(part for part in parts if part)


def _not_run(every: Group, expected: int) -> str:
    """Which of the arms and ablations that docs/claim.md announces have no run among those that are kept, or not all.

    Args:
        expected: runs of an arm.
    """
    lacking = []
    for name in FURTHER:
        n = max((len(row.runs) for row in every.rows if _arm(row) == name), default=0)
        trained = any(run.cost.get("epochs") for row in every.rows if _arm(row) == name for run in row.runs)
        if not n or (trained and n < expected):
            lacking.append(f"`{name}`" + (f" ({n} of {expected} runs are there)" if n else ""))
    for name in ("adapter", "quirks"):
        own = sorted({word for row in every.rows if row.runs for word in _ablated(row, name)})
        but = f" but for {', '.join(f'`{word}`' for word in own)}" if own else ""
        lacking.append(f"the ablations of `EXPERIMENT={name}`{but}")
    return f"Not run: {', '.join(lacking)}."


def _ablated(row: Row, experiment: str) -> list[str]:
    """What a row of the adapter's changes that `adapter` or `quirks` is about, such as "points=8"."""
    if row.method.partition("@")[0] != "cellvta":
        return []
    words = [word for word in overrides(row) if not word.startswith("instances=")]
    return [word for word in words if (word.partition("=")[0] in QUIRKS) == (experiment == "quirks")]


def ran(found: Answers) -> str:
    """How many runs there are, of which arms, where they ran."""
    arms, done = found.arms, len(found.arms.runs)
    expected = len(arms.rows) * arms.expected
    counts = (
        f"{done} of {expected} trainings ({len(arms.rows)} arms, {len(arms.splits)} splits, {len(arms.seeds)} seeds)"
    )
    if not arms.runs:
        return f"{arms.dataset}: {counts}."
    commits = sorted({str(run.provenance.get("commit"))[:10] for run in arms.runs})
    machines = list(dict.fromkeys(machine(run.provenance.get("hardware")) for run in arms.runs))
    images = sorted({run.metrics["n_images"] for run in arms.runs})
    return (
        f"`{arms.dataset}`, preset `{arms.scale}`: {counts}, {'/'.join(map(str, images))} test images a run, protocol "
        f"`{PROTOCOL}`; {'; or '.join(machines)}; commit{'s' * (len(commits) > 1)} "
        f"{', '.join(commits)}. {_tested(found)}"
    )


def _tested(found: Answers) -> str:
    """The test images of each split and what they were cut from; splits with the same ones are named together."""
    of_splits: dict[tuple, set[int]] = {}
    for run in found.arms.runs:
        frame = found.observed.images[run.folder]
        of_splits.setdefault((len(frame), frozenset(frame["cluster"])), set()).add(run.id.split)
    texts = []
    for (images, clusters), splits in sorted(of_splits.items(), key=lambda item: min(item[1])):
        several = f"splits {', '.join(map(str, sorted(splits)))} have the same" if len(splits) > 1 else ""
        text = f"{several or f'split {min(splits)} has'} {counted(images, 'test image')}"
        texts.append(text + (f" of {counted(len(clusters), 'source image')}" if found.observed.sources else ""))
    return f"Test images: {'; '.join(texts)}."


def _state(found: Answers, claim: Table) -> str:
    """Whether the last column of the questions holds the verdicts."""
    lacking = [line for line in claim.records if "verdict" in line and not line["verdict"] and not line["not_measured"]]
    # a question about an arm that was not run at all is no line without a verdict, but one that was not measured
    if lacking or len(found.arms.runs) < len(found.arms.rows) * found.arms.expected:
        return "There is no verdict before all trainings have run."
    return (
        f"All {len(found.arms.runs)} trainings have run: the column *so* is what the rule of docs/claim.md, which was "
        f"written down before, says of these very trainings in miniature{_length(found)}."
    )


def _length(found: Answers) -> str:
    """How long the trainings were and whether that is enough, as the end of a sentence; "" where it is not known."""
    if found.converged is None:
        return ""
    epochs, enough = found.converged
    if enough:
        return f", {epochs} epochs each, which count as converged"
    return f", {epochs} epochs each, which are not converged: how longer ones change the scores stands below"


def _units(found: Answers, main: Table) -> str:
    """Over how many sources (or images) the intervals of the arms are, score by score."""
    unit = "source images" if found.observed.sources else "test images"
    counts = {score: {line.get(f"{score}_clusters") for line in main.records} - {None, 0} for score in ("bPQ", "mPQ")}
    texts = [f"{score} {'/'.join(map(str, sorted(numbers)))}" for score, numbers in counts.items() if numbers]
    return f"Intervals of the arms: over {unit}, {', '.join(texts)}." if texts else ""


def body(table: Table) -> str:
    """A table without its caption, with its notes."""
    return markdown(replace(table, caption="")).split("\n\n", 1)[1].rstrip()


def _unlearnt(arms: Group) -> str:
    """In how many trainings of each arm a type was not learned: mPQ falls by steps where one is."""
    texts = []
    for row in arms.rows:
        lacking: dict[str, int] = {}
        for run in row.runs:
            scores = run.metrics["protocols"][PROTOCOL]
            for name in run.config["classes"]:
                value = scores.get(f"F1_{name}")  # None: no true nucleus of it
                if value is not None and value <= LEARNT:
                    lacking[name] = lacking.get(name, 0) + 1
        if row.runs:
            counts = ", ".join(f"{name} in {n}" for name, n in lacking.items()) or "none"
            texts.append(f"{row.name} {counts} of {len(row.runs)}")
    return f"Types not learned (F1 at most {LEARNT}): {'; '.join(texts)}." if texts else ""


def _narrow(main: Table) -> Table:
    """The columns of the main table that a README has room for."""
    (block,) = main.blocks
    head, after = [], ""
    for name in block.rows[0]:  # the second of two equal names is that of the score before it
        head.append("95 % " if name == "95 %" and after == "mPQ" else name)
        after = name if name != "95 %" else after
    kept = [head.index(name) for name in SHOWN if name in head]
    lines = [[line[j] for j in kept] for line in block.rows]
    ranks = {(i, kept.index(j)): rank for (i, j), rank in block.ranks.items() if j in kept}
    return Table("arms", "", [], [Block(lines, left=sum(j < block.left for j in kept), ranks=ranks)])
