"""How long cells take: what the same method took before, else what it took beside others in the reference runs."""

import functools
import statistics
from collections.abc import Iterable
from pathlib import Path

from benchmark.experiment.cell import Cell
from benchmark.results import training_log
from benchmark.runtime.files import read_json
from benchmark.runtime.paths import ROOT

REFERENCE = ROOT / "docs" / "reference" / "embedded" / "runs" / "synthetic"
AT = "small"  # scale of the reference runs


class Estimate:
    """Seconds that cells will take, better known with every cell that ends.

    A method's own cells tell most: on other splits, with other seeds, in this call or stored. One that has none takes
    its `load` times what a unit of load took in the others.
    """

    def __init__(self, cells: Iterable[Cell]):
        self.cells = {cell.name: cell for cell in cells}  # one of each method
        self.stored = {name: _mean(cell.folder.path.parent) for name, cell in self.cells.items()}
        self.took: dict[str, list[float]] = {}  # method -> seconds of its cells in this call

    def ended(self, cell: Cell, seconds: float, share: float) -> None:
        """A cell ended that did `share` of its training in this call."""
        if share > 0:
            self.took.setdefault(cell.name, []).append(seconds / share)

    def whole(self, cell: Cell) -> float | None:
        """Seconds of a whole cell; None where nothing speaks of it."""
        if (own := self._own(cell.name)) is not None:
            return own
        # a method without training says nothing about the time of one with
        alike = [other for other in self.cells.values() if other.trains == cell.trains]
        known = [seconds / load(other) for other in alike if (seconds := self._own(other.name)) is not None]
        if known:
            return load(cell) * statistics.fmean(known)
        as_there = cell.spec.row == AT and cell.setup.dataset == "synthetic"
        return load(cell) if as_there and cell.spec.name in _reference() else None

    def left(self, running: list[tuple[Cell, float, float]], waiting: Iterable[Cell], slots: int) -> float | None:
        """Seconds until all cells have ended.

        Args:
            running: cells with the seconds that each has run in this call, and the share of its training done before.
            waiting: cells that have not begun.
            slots: cells that run at once.

        Returns:
            None where a cell is left of whose time nothing is known.
        """
        remaining = []
        for cell, seconds, before in running + [(cell, 0.0, done(cell)) for cell in waiting]:
            whole = self.whole(cell)
            if whole is None:
                return None
            remaining.append(max(0.0, whole * (1 - before) - seconds))
        return max(sum(remaining) / slots, max(remaining, default=0.0))

    def _own(self, name: str) -> float | None:
        return statistics.fmean(self.took[name]) if name in self.took else self.stored.get(name)


def load(cell: Cell) -> float:
    """What a cell costs beside others: seconds of its method's reference run, for as many epochs as it trains.

    A method without reference run counts as the mean of those that have one.
    """
    of_method = _reference()
    seconds = of_method.get(cell.spec.name, statistics.fmean(of_method.values()) if of_method else 1.0)
    return max(seconds, 0.1) * (cell.recipe.epochs if cell.trains else 1)


@functools.cache
def _reference() -> dict[str, float]:
    """Method -> seconds of its reference run; per epoch, where it trained."""
    folders = {path.name.partition("@")[0]: path for path in sorted(REFERENCE.glob(f"*@{AT}"))}
    of_method = {name: _mean(folder, per_epoch=True) for name, folder in folders.items()}
    return {name: seconds for name, seconds in of_method.items() if seconds is not None}


def done(cell: Cell) -> float:
    """Share of a cell's training that an earlier attempt has done, as its log says."""
    if not cell.folder.checkpoint.exists():
        return 0.0
    try:
        return min(1.0, len(training_log.read(cell.folder.log)) / max(1, cell.recipe.epochs))
    except (OSError, ValueError):
        return 0.0


def _mean(folder: Path, per_epoch: bool = False) -> float | None:
    """Mean seconds of training and test of a method's runs, as their cost.json say; None where there are none."""
    took = []
    for path in sorted(folder.glob("*/cost.json")):
        try:
            cost, images = read_json(path), read_json(path.with_name("metrics.json"))["n_images"]
            seconds = float(cost["train_seconds"]) + images / max(float(cost["images_per_second"]), 1e-6)
            took.append(seconds / max(1, cost["epochs"]) if per_epoch else seconds)
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return statistics.fmean(took) if took else None
