"""Runs that belong into a matrix of training and test sets: trained on one data set, tested on others."""

from dataclasses import dataclass, field

from benchmark.report.select.groups import Group, Row
from benchmark.results.run import Run

KINDS = {"main": "", "published": " (published recipe)"}  # kind of a training -> what follows its method's name
METRICS = {"bPQ": "bPQ", "mPQ": "mPQ", "F1": "detection F1"}  # what matrices show: key of a score -> title


@dataclass
class Tested:
    """One training set on one test set.

    Attributes:
        trained, tested: names of the data sets in results.
        runs: one per fold and seed of the training and split of the test.
        beside: runs on other folds, seeds or splits that are not averaged with these: nobody looked into what their
            training had seen of the test images, and of `runs` somebody did.
        own: whether these are the training's own test images.
    """

    trained: str
    tested: str
    runs: list[Run] = field(default_factory=list)
    beside: list[Run] = field(default_factory=list)

    @property
    def own(self) -> bool:
        return self.trained == self.tested

    @property
    def facts(self) -> dict:
        """The entry `transfer` of the first run's config.json; {} of a training's own test images."""
        return self.runs[0].config.get("transfer") or {}

    @property
    def overlaps(self) -> list[dict]:
        """What is known of the overlap of each run, see `elsewhere.describe`; [] where it was not looked into."""
        return [overlap for run in self.runs if (overlap := overlap_of(run)) is not None]

    def keep_apart(self) -> None:
        """Take the runs whose overlap was not looked into out of the mean, where there are others."""
        known = [run for run in self.runs if overlap_of(run) is not None]
        if known and not self.own:
            self.beside = [run for run in self.runs if overlap_of(run) is None]
            self.runs = known


def overlap_of(run: Run) -> dict | None:
    """The entry `overlap` of a run's config.json; None where it was not looked into."""
    overlap = (run.config.get("transfer") or {}).get("overlap")
    return overlap if isinstance(overlap, dict) else None


@dataclass
class Matrix:
    """A method, trained on some data sets and tested on some.

    Attributes:
        method: canonical name of the method that was trained, or of the published one with its file.
        kind: of its trainings, a key of KINDS; "" for a published file.
        trained, tested: names of the data sets, those that are both first, in one order.
        cells: (trained, tested) -> what was tested; pairs without a run are missing.
    """

    method: str
    kind: str
    trained: list[str]
    tested: list[str]
    cells: dict[tuple[str, str], Tested]

    @property
    def name(self) -> str:
        """What tables call it."""
        return f"{self.method}{KINDS.get(self.kind, '')}"

    def group(self, tested: str) -> Group:
        """All runs on one test set, a row per training set."""
        cells = [self.cells[one, tested] for one in self.trained if (one, tested) in self.cells]
        rows = [Row(self.method, ("", ""), cell.runs, cell.trained) for cell in cells]
        runs = [run for row in rows for run in row.runs]
        splits, seeds = sorted({run.id.split for run in runs}), sorted({run.id.seed for run in runs})
        return Group(tested, "evaluated", "", splits, seeds, rows)


def matrices(runs: list[Run]) -> list[Matrix]:
    """The matrices of all methods that were tested on other data than they were trained on, by name.

    Of a training that was evaluated several times on one split one run counts, see `_counts`.
    """
    several: dict[tuple, list[Run]] = {}
    for run in sorted(runs, key=lambda run: str(run.provenance.get("finished") or "")):
        if (trained := _trained(run)) and trained[2] != run.id.dataset:
            several.setdefault((*trained, run.id.dataset, run.id.split), []).append(run)
    latest = {key: _counts(evaluated) for key, evaluated in several.items()}
    transferred = {(method, kind, dataset) for method, kind, dataset, *_ in latest}
    out = []
    for method, kind in sorted({(method, kind) for method, kind, _ in transferred}):
        cells: dict[tuple[str, str], Tested] = {}
        chosen = [(key[2], run) for key, run in latest.items() if key[:2] == (method, kind)]
        own = [
            run for run in runs if (run.id.method, run.id.kind, run.id.dataset) in transferred and run.id.kind == kind
        ]
        chosen += [(run.id.dataset, run) for run in own if run.id.method == method]
        for dataset, run in chosen:
            place = dataset, run.id.dataset
            cells.setdefault(place, Tested(*place)).runs.append(run)
        for cell in cells.values():
            cell.keep_apart()
        trained, tested = ({pair[i] for pair in cells} for i in (0, 1))
        both = sorted(trained & tested)
        rows, columns = [*both, *sorted(trained - tested)], [*both, *sorted(tested - trained)]
        ordered = {(row, column): cells[row, column] for row in rows for column in columns if (row, column) in cells}
        out.append(Matrix(method, kind, rows, columns, ordered))
    return out


def _counts(evaluated: list[Run]) -> Run:
    """The run that counts of those that evaluated one training on one split, which are in order of their end.

    It is the last one. Where the same weights were tested on the same data with more images left out as known to the
    training, it is the last of those: `evaluate` after `transfer` would bring them back.
    """

    def facts(run: Run) -> tuple:
        identity, file = (
            part if isinstance(part, dict) else {} for part in (run.metrics.get("identity"), run.config.get("file"))
        )
        return file.get("sha256"), identity.get("data")

    def left_out(run: Run) -> int:
        overlap = overlap_of(run)
        return -1 if overlap is None else int(overlap.get("left_out") or 0)

    alike = [run for run in evaluated if facts(run) == facts(evaluated[-1])]
    most = max(map(left_out, alike))
    return [run for run in alike if left_out(run) == most][-1]


def _trained(run: Run) -> tuple[str, str, str, int, int] | None:
    """(method, kind, data set, fold, seed) of the training whose weights a run evaluated; None for others."""
    trained = (run.config.get("transfer") or {}).get("trained")
    if not isinstance(trained, dict) or not isinstance(trained.get("dataset"), str):
        return None
    if isinstance(trained.get("method"), str):
        fold, seed = (value if isinstance(value := trained.get(key), int) else 0 for key in ("fold", "seed"))
        return trained["method"], str(trained.get("kind") or "main"), trained["dataset"], fold, seed
    return f"{run.id.method} ({run.backbone[1]})", "", trained["dataset"], 0, 0
