"""`make table`: main, per-tissue, per-type and per-size tables of all complete runs, and the first figure."""

from pathlib import Path

from benchmark.errors import InputError, near_miss
from benchmark.report.breakdown import main_table, run_list, size_table, tissue_table, type_table
from benchmark.report.collect import UNREADABLE, Run, runs, skipped
from benchmark.report.formats import markdown, save, to_csv, write_file
from benchmark.report.groups import Group, groups
from benchmark.report.plots import size_curve
from benchmark.report.sizes import size_scores


def write(
    results: Path,
    out: Path,
    *,
    dataset: str | None = None,
    kind: str | None = None,
    protocol: str = "cellvit",
    experiment_methods: list[str] | None = None,
    folds: list[int] | None = None,
    seeds: list[int] | None = None,
    remarks: list[str] | None = None,
) -> str:
    """Write the tables (md, tex, csv) and the figure (png, pdf, csv) of every group of runs below `out`.

    A group is what may be compared: one dataset, one kind of experiment, one preset; it has its own tables in
    `<out>/<dataset>/<kind>-<preset>/`. Incomplete rows carry a mark such as (2/3), missing cells are –.

    Args:
        results: folder of runs; what is damaged or foreign in it is named on stderr and left out.
        dataset, kind: only these; None takes all that are found.
        protocol: "pannuke", "cellvit" or "all" (each in tables of its own).
        experiment_methods: canonical names of methods that get a row even when they have no run.
        folds, seeds: those that each row should have; None expects what is found in the group.
        remarks: sentences to print below every table, such as which of its cells are stale.

    Returns:
        The main tables as Markdown.

    Raises:
        InputError: unknown protocol, `results` is a file, or `out` cannot be written.
    """
    from benchmark.metrics.protocols import PROTOCOLS

    if protocol != "all" and protocol not in PROTOCOLS:
        hint = near_miss(protocol, PROTOCOLS)
        raise InputError(f"Unknown protocol '{protocol}'; known are {', '.join(PROTOCOLS)} and all.{hint}")
    names = list(PROTOCOLS) if protocol == "all" else [protocol]
    found = groups(runs(results), dataset, kind, experiment_methods, folds, seeds)
    for group in found:
        group.remarks = list(remarks or [])
    if not found:
        return f"No complete runs in {results}; `make ablation` makes some.\n"
    return "\n".join(_write_group(group, Path(out) / group.folder, names) for group in found)


def _write_group(group: Group, folder: Path, protocols: list[str]) -> str:
    printed = []
    for name in protocols:
        values = {run.folder: protocol_values(run, name) for run in group.runs}
        main = main_table(group, name, values)
        printed.append(markdown(main))
        for table in (main, tissue_table(group, name, values), type_table(group, name, values)):
            if table is not None:
                save(table, folder)
    write_file(folder / "runs.csv", to_csv(run_list(group)).encode())
    scores = {run.folder: size_scores(run) for run in group.runs}
    sizes = size_table(group, scores)
    if sizes is not None:
        save(sizes, folder)
    size_curve(group, scores, folder)
    return "\n".join(printed)


def protocol_values(run: Run, protocol: str) -> dict:
    """The run's flat scores under a protocol.

    As stored, or computed again from its records when another version of the protocol stored them; {} when
    neither is possible, which is said on stderr.
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
