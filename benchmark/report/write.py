"""`make table`: the tables of all complete runs."""

from dataclasses import dataclass, replace
from pathlib import Path

from benchmark.report.read_runs import read_runs
from benchmark.report.render.latex import latex
from benchmark.report.render.table import Table, save, to_csv, write_file
from benchmark.report.render.terminal import shown
from benchmark.report.select.groups import Group, groups
from benchmark.report.select.observations import Observed, observe
from benchmark.report.select.protocols import protocols
from benchmark.report.select.store import Store
from benchmark.report.stats.sizes import size_scores
from benchmark.report.tables.averaging import averaging_table
from benchmark.report.tables.bins import crowding_table, size_table
from benchmark.report.tables.breakdown import tissue_table, type_table
from benchmark.report.tables.claim import claim_table
from benchmark.report.tables.common import caption, notes, run_list
from benchmark.report.tables.comparisons import component_table, significance_table, tuning_table
from benchmark.report.tables.headline import cost_table, main_table
from benchmark.report.tables.published_table import published_table
from benchmark.report.tables.representations import representation_table
from benchmark.results.collect import no_runs, runs
from benchmark.results.run import UNREADABLE, Run, skipped
from benchmark.runtime.errors import InputError


def write_tables(
    results: Path,
    out: Path,
    *,
    dataset: str | None = None,
    kind: str | None = None,
    protocol: str = "cellvit",
    experiment_methods: list[str] | None = None,
    splits: list[int] | None = None,
    seeds: list[int] | None = None,
    remarks: list[str] | None = None,
    form: str = "md",
    room: int | None = None,
) -> str:
    """Write the tables (md, tex, csv) of every group of runs below `out`.

    A group is what may be compared: one dataset, one kind of experiment, one preset; it has its own tables in
    `<out>/<dataset>/<kind>-<preset>/`. Incomplete rows carry a mark such as (2/3), missing cells are –.

    Args:
        results: folder of runs; what is damaged or foreign in it is named on stderr and left out.
        dataset, kind: only these; None takes all that are found.
        protocol: name of a protocol, or "all": each in tables of its own, and one table of all with all averagings.
        experiment_methods: canonical names of methods that get a row even when they have no run.
        splits, seeds: those that each row should have; None expects what is found in the group.
        remarks: sentences to print below every table, such as which of its cells are stale.
        form: "md", "tex" or "csv": of what is returned; the files are written in all three.
        room: of "md", characters of a line of the terminal that the text is for, see `render.terminal.shown`.

    Returns:
        The main and cost tables; as csv the lines of the main tables alone, one header above all.

    Raises:
        InputError: unknown protocol, no complete run, `results` is a file, or `out` cannot be written.
    """
    names = protocols(protocol)
    complete = runs(results)
    tabled = groups(complete, dataset, kind, experiment_methods, splits, seeds)
    if splits is None:  # not the table of a grid, whose rows are known before the first run
        tabled = [group for group in tabled if group.runs]
    if not tabled:
        raise InputError(no_runs(results, complete, dataset))
    texts, records, store = [], [], Store(out)
    for group in tabled:
        group.remarks = list(remarks or [])
        for table in _write_group(group, Path(out) / group.folder, names, store):
            if form == "tex":
                texts.append(latex(table, "-".join(group.folder.parts)))
            elif form == "md":
                texts.append(shown(table, room, Path(out) / group.folder / table.name))
            if table.name.startswith("main-"):
                records += table.records
    return to_csv(records) if form == "csv" else "\n".join(texts)


@dataclass
class Tabled:
    """All tables of one group, and what figures and sentences need of the numbers behind them.

    Attributes:
        main: the main tables, one per protocol.
        rest: the others, in reading order.
        observed: per-image scores under the first protocol.
        scores: run folder -> SizeScores or None.
    """

    main: list[Table]
    rest: list[Table]
    observed: Observed
    scores: dict


def group_tables(group: Group, protocols: list[str], store: Store | None = None) -> Tabled:
    """The tables of a group; comparisons of methods are made under the first protocol.

    Args:
        store: of what follows from the runs' records; None: one for this call.
    """
    store = store or Store()
    main: list[Table] = []
    rest = [cost_table(group)]
    read_runs(group.runs, protocols, store)
    store.save()
    observed = {name: observe(group, name, store) for name in protocols}
    for name in protocols:
        values = {run.folder: protocol_values(run, name) for run in group.runs}
        main.append(main_table(group, name, values, observed[name]))
        rest.append(published_table(group, name, values))
        rest += [tissue_table(group, name, values), type_table(group, name, values)]
    first = protocols[0]
    values = {run.folder: protocol_values(run, first) for run in group.runs}
    scores = {run.folder: size_scores(run, store) for run in group.runs}
    rest += [size_table(group, scores), crowding_table(group, scores)]
    if len(protocols) > 1:
        rest.append(averaging_table(group, protocols))
    for compared in (claim_table, representation_table, significance_table, component_table, tuning_table):
        rest.append(compared(group, observed[first], caption(group, first, values), notes(group)))
    return Tabled(main, [table for table in rest if table is not None], observed[first], scores)


def _write_group(group: Group, folder: Path, protocols: list[str], store: Store) -> list[Table]:
    """Write the tables of a group and return those to print."""
    tabled = group_tables(group, protocols, store)
    for table in (*tabled.main, *tabled.rest):
        save(table, folder)
    write_file(folder / "runs.csv", to_csv(run_list(group)).encode())
    printed = [t for t in tabled.rest if t.name in ("cost", "averagings")]
    # of the published figures the first averaging only; the file has all
    printed += [replace(t, blocks=t.blocks[:1]) for t in tabled.rest if t.name.startswith("published")]
    return [*tabled.main, *printed]


def protocol_values(run: Run, protocol: str) -> dict:
    """The run's flat scores under a protocol.

    As stored, or computed again from its records when another version of the protocol stored them; {} when
    neither is possible: the run is then named on stderr.
    """
    from benchmark.metrics.protocols import PROTOCOLS

    current = PROTOCOLS[protocol]
    stored = run.metrics["protocols"].get(protocol, {})
    if stored.get("version") == current.version:
        return stored
    try:
        summary = current.summary(run.records(), run.config["classes"], run.config["tissues"])
    except UNREADABLE as error:
        skipped(run.folder, f"no scores under {protocol} version {current.version}, and its records fail: {error}")
        return {}
    return dict(summary) | {"version": current.version}
