"""The ledger of reproduced figures: a csv file to which lines are added and in which none is ever changed.

A line is a figure that has a verdict (`papers.compare`), of a run made by committed code. What identifies it are the
columns IDENTITY: when its run was finished, what was measured and under which version of the protocol. A figure whose
line is there is not written again, whatever has become of the published value or the tolerance since.
"""

import csv
import io
import sys
from pathlib import Path

from benchmark.metrics.protocols import PROTOCOLS
from benchmark.report.papers.compare import Figure, figures
from benchmark.report.papers.paper import Paper
from benchmark.report.readme import machine
from benchmark.report.render.table import to_csv
from benchmark.results.run import Run
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import atomic

IDENTITY = ("date", "paper", "what", "dataset", "split", "protocol", "average", "metric")
COLUMNS = ("date", "commit", "hardware", "paper", "what", "dataset", "split", "protocol", "average", "metric")
COLUMNS += ("published", "measured", "low", "high", "tolerance", "within")


def append(papers: list[Paper], runs: list[Run], file: Path) -> int:
    """Add the figures that the runs have reproduced and the ledger lacks; returns how many.

    Figures of runs by uncommitted code, or by code of no known commit, are named on stderr and left out.

    Raises:
        InputError: the ledger has other columns, or a line that has not as many cells.
    """
    content = file.read_bytes() if file.exists() else f"{','.join(COLUMNS)}\n".encode()
    known, lines, loose = _identities(content, file), [], set()
    for paper in papers:
        for figure in figures(paper, runs):
            if figure.why:
                continue
            if untraced := [run for run in figure.runs if not _committed(run)]:
                loose.update(str(run.id) for run in untraced)
                continue
            line = to_csv([_line(paper, figure)]).partition("\n")[2]
            identity = _identity(next(csv.reader(io.StringIO(line))))
            if identity not in known:
                known.add(identity)
                lines.append(line)
    for run in sorted(loose):
        print(f"not in the ledger: {run}: it was not made by committed code", file=sys.stderr)
    if lines or not file.exists():
        with atomic(file) as handle:
            handle.write(content + "".join(lines).encode())
    return len(lines)


def _committed(run: Run) -> bool:
    """Whether the code that made a run can be found again."""
    return bool(run.provenance.get("commit")) and not run.provenance.get("dirty")


def _line(paper: Paper, figure: Figure) -> dict:
    origins = [run.provenance for run in figure.runs]
    values = (
        max(str(origin.get("finished", "")) for origin in origins),
        "; ".join(dict.fromkeys(str(origin["commit"]) for origin in origins)),
        "; ".join(dict.fromkeys(machine(origin.get("hardware")) for origin in origins)),
        paper.name,
        f"{figure.spec}: {figure.weights}",
        paper.dataset,
        figure.split,
        f"{paper.protocol} {PROTOCOLS[paper.protocol].version}",
        figure.average,
        figure.metric,
        figure.published,
        figure.measured.value,
        figure.measured.low,
        figure.measured.high,
        figure.tolerance,
        "yes" if figure.within else "no",
    )
    return dict(zip(COLUMNS, values, strict=True))


def _identity(cells: list[str]) -> tuple[str, ...]:
    return tuple(cells[COLUMNS.index(name)] for name in IDENTITY)


def _identities(content: bytes, file: Path) -> set[tuple[str, ...]]:
    """What identifies each line of the ledger. Raises InputError as `append`."""
    text = content.decode("utf-8", "replace")
    header, *lines = [*csv.reader(io.StringIO(text))] or [[]]
    if tuple(header) != COLUMNS:
        raise InputError(
            f"{file}: expected the header {','.join(COLUMNS)}, found {','.join(header) or 'nothing'}; restore the file "
            "from the repository."
        )
    wrong = next((i for i, cells in enumerate(lines, 2) if len(cells) != len(COLUMNS)), None)
    if wrong or not text.endswith("\n"):
        where = f"{len(COLUMNS)} cells in row {wrong}" if wrong else "an end of line at its end"
        raise InputError(f"{file}: expected {where}, found another; restore the file from the repository.")
    return {_identity(cells) for cells in lines}
