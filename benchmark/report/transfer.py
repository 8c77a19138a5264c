"""Tables and figures of trainings that were tested on other data, in `<reports>/transfer/<method>/`."""

import re
from dataclasses import dataclass
from pathlib import Path

from benchmark.report.figures.transfer import transfer_figure
from benchmark.report.page.section import Figure, Section, Topic
from benchmark.report.render.table import Table, save
from benchmark.report.select.observations import observe
from benchmark.report.select.store import Store
from benchmark.report.select.transfer import Matrix, matrices
from benchmark.report.tables.transfer import transfer_table
from benchmark.report.write import protocol_values
from benchmark.results.run import Run

FOLDER = "transfer"


@dataclass
class Written:
    """What was written of one method. folder: below the folder of reports; drawn: whether there is a figure."""

    method: str
    folder: Path
    table: Table
    drawn: bool


def write_matrices(
    runs: list[Run], out: Path, protocol: str, store: Store | None = None, only: set[tuple[str, str]] | None = None
) -> list[Written]:
    """Write the matrix of every method that was tested on other data, under one protocol.

    Args:
        runs: complete runs. out: folder of reports.
        only: canonical names and kinds of trainings, those that are written; None: all.
    """
    store, out = store or Store(out), Path(out)
    chosen = [matrix for matrix in matrices(runs) if only is None or (matrix.method, matrix.kind) in only]
    written = [_write(matrix, out, protocol, store) for matrix in chosen]
    store.save()
    return written


def _write(matrix: Matrix, out: Path, protocol: str, store: Store) -> Written:
    runs = [run for cell in matrix.cells.values() for run in cell.runs]
    values = {run.folder: protocol_values(run, protocol) for run in runs}
    observed = {tested: observe(matrix.group(tested), protocol, store) for tested in matrix.tested}
    table = transfer_table(matrix, protocol, values, observed)
    folder = Path(FOLDER) / re.sub(r"[^A-Za-z0-9._=,@+~-]+", "_", matrix.name)
    save(table, out / folder)
    return Written(matrix.name, folder, table, transfer_figure(table.records, out / folder))


def sections(written: list[Written], out: Path) -> list[Section]:
    """The parts of the page that show the matrices, one for each method."""
    parts = []
    for i, one in enumerate(written):
        figures = [Figure(Path(out) / one.folder / "transfer", f"{one.method}: trained on (rows), tested on (columns)")]
        part = Section(anchor=f"transfer{i}", title=f"Trained here, tested there: {one.method}", folder=str(one.folder))
        part.compared = (
            "Weights trained on one data set, on the test side of others; its own test side where both agree."
        )
        part.limits = [one.table.caption]
        part.lead = figures if one.drawn else []
        part.topics = [Topic("Training sets × test sets", [one.table])]
        parts.append(part)
    return parts
