"""Runs that belong into a matrix of training and test sets: trained on one data set, tested on others."""

from dataclasses import dataclass, field

from benchmark.report.select.groups import Group, Row
from benchmark.results.run import Run

KINDS = ("main", "published")
METRICS = {"bPQ": "bPQ", "mPQ": "mPQ", "F1": "detection F1"}  # what matrices show: key of a score -> title


@dataclass
class Tested:
    """One training set on one test set.

    Attributes:
        trained, tested: names of the data sets in results.
        runs: one per fold and seed of the training and split of the test.
        own: whether these are the training's own test images.
    """

    trained: str
    tested: str
    runs: list[Run] = field(default_factory=list)

    @property
    def own(self) -> bool:
        return self.trained == self.tested

    @property
    def facts(self) -> dict:
        """The entry `transfer` of the first run's config.json; {} of a training's own test images."""
        return self.runs[0].config.get("transfer") or {}


@dataclass
class Matrix:
    """A method, trained on some data sets and tested on some.

    Attributes:
        method: canonical name of the method that was trained, or of the published one with its file.
        trained, tested: names of the data sets, those that are both first, in one order.
        cells: (trained, tested) -> what was tested; pairs without a run are missing.
    """

    method: str
    trained: list[str]
    tested: list[str]
    cells: dict[tuple[str, str], Tested]

    def group(self, tested: str) -> Group:
        """All runs on one test set, a row per training set."""
        cells = [self.cells[one, tested] for one in self.trained if (one, tested) in self.cells]
        rows = [Row(self.method, ("", ""), cell.runs, cell.trained) for cell in cells]
        runs = [run for row in rows for run in row.runs]
        splits, seeds = sorted({run.id.split for run in runs}), sorted({run.id.seed for run in runs})
        return Group(tested, "evaluated", "", splits, seeds, rows)


def matrices(runs: list[Run]) -> list[Matrix]:
    """The matrices of all methods that were tested on other data than they were trained on, by name.

    Of a training that was evaluated twice on one split the run that finished last counts.
    """
    latest: dict[tuple, Run] = {}
    for run in sorted(runs, key=lambda run: str(run.provenance.get("finished") or "")):
        if trained := _trained(run):
            method, dataset, fold, seed = trained
            latest[method, dataset, run.id.dataset, fold, seed, run.id.split] = run
    transferred = {(method, dataset) for method, dataset, tested, *_ in latest if tested != dataset}
    own = [run for run in runs if (run.id.method, run.id.dataset) in transferred and run.id.kind in KINDS]
    out = []
    for method in sorted({method for method, _ in transferred}):
        cells: dict[tuple[str, str], Tested] = {}
        of_method = [(key[1], run) for key, run in latest.items() if key[0] == method and key[1] != key[2]]
        of_method += [(run.id.dataset, run) for run in own if run.id.method == method]
        for dataset, run in of_method:
            place = dataset, run.id.dataset
            cells.setdefault(place, Tested(*place)).runs.append(run)
        trained, tested = ({pair[i] for pair in cells} for i in (0, 1))
        both = sorted(trained & tested)
        out.append(Matrix(method, [*both, *sorted(trained - tested)], [*both, *sorted(tested - trained)], cells))
    return out


def _trained(run: Run) -> tuple[str, str, int, int] | None:
    """(method, data set, fold, seed) of the training whose weights a run evaluated on other data; None for others."""
    entry = run.config.get("transfer")
    trained = entry.get("trained") if isinstance(entry, dict) else None
    if not isinstance(trained, dict) or not isinstance(trained.get("dataset"), str):
        return None
    if isinstance(trained.get("method"), str):
        return trained["method"], trained["dataset"], int(trained.get("fold") or 0), int(trained.get("seed") or 0)
    return f"{run.id.method} ({run.backbone[1]})", trained["dataset"], 0, 0
