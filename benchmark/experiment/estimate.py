"""How long cells take: what their method took before, else what it took beside others in the reference runs."""

import functools
import glob
import itertools
import statistics
from collections.abc import Iterable
from pathlib import Path

from benchmark.experiment.cell import Cell
from benchmark.experiment.state import stored
from benchmark.results import training_log
from benchmark.runtime import paths
from benchmark.runtime.files import read_json

REFERENCE = paths.REFERENCE / "embedded" / "runs" / "synthetic"
AT = "small"  # scale of the reference runs
DRAWN = 96  # images an epoch of the reference runs, and of a recipe that draws all, whose number is not known here
READ = 20  # runs of a method with other settings whose times are read


class Estimate:
    """Seconds that cells will take, better known with every cell that ends.

    A method's own cells tell most, in this call or stored: on other splits, with other seeds, else at the same scale
    with other settings, by the images drawn. One that has none takes its `load` times what a unit of load took in the
    others. The weights that small ViTs begin with are made before, see `launch.pretrain`, and are no part of a cell.
    """

    def __init__(self, cells: Iterable[Cell]):
        self.cells = {cell.name: cell for cell in cells}  # one of each method
        self.stored = {name: _stored(cell) for name, cell in self.cells.items()}
        self.took: dict[str, list[float]] = {}  # method -> seconds of its cells in this call

    def ended(self, cell: Cell, seconds: float, share: float) -> None:
        """A cell ended that did `share` of its training in this call."""
        if share > 0:
            self.took.setdefault(cell.name, []).append(seconds / share)

    def whole(self, cell: Cell) -> float | None:
        """Seconds of a whole cell; None where nothing speaks of it."""
        if (own := self._own(cell.name)) is not None:
            return own
        every = [(other, own) for other in self.cells.values() if (own := self._own(other.name)) is not None]
        alike = [seconds / load(other) for other, seconds in every if other.trains == cell.trains]
        if alike:
            return load(cell) * statistics.fmean(alike)
        if every and not cell.trains:  # a test alone takes no longer than a training with its test
            return min(load(cell) * statistics.fmean(s / load(o) for o, s in every), *(s for _, s in every))
        # a method without training says nothing about the time of one with
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
    """What a cell costs beside others: seconds of its method's reference run, for as many images as it draws.

    A method without reference run counts as the mean of those that have one.
    """
    of_method = _reference()
    seconds = of_method.get(cell.spec.name, statistics.fmean(of_method.values()) if of_method else 1.0)
    return seconds * _work(cell.recipe.epochs if cell.trains else 0, cell.recipe.samples)


def done(cell: Cell) -> float:
    """Share of a cell's training that an earlier attempt has done, as its log says; 1 where maps alone are due."""
    if (ended := stored(cell)) and ended.name == "done":
        return 1.0
    if not cell.folder.checkpoint.exists():
        return 0.0
    try:
        return min(1.0, len(training_log.read(cell.folder.log)) / max(1, cell.recipe.epochs))
    except (OSError, ValueError):
        return 0.0


def _work(epochs: int, samples: int | None) -> int:
    """Images that a training draws; a method without training counts as one epoch of the reference runs."""
    return epochs * (samples or DRAWN) if epochs else DRAWN


@functools.cache
def _reference() -> dict[str, float]:
    """Method -> seconds of its reference run per unit of work."""
    folders = {path.name.partition("@")[0]: path for path in sorted(REFERENCE.glob(f"*@{AT}"))}
    of_method = {name: _mean(map(_per_work, folder.glob("*/cost.json"))) for name, folder in folders.items()}
    return {name: seconds for name, seconds in of_method.items() if seconds is not None}


def _stored(cell: Cell) -> float | None:
    """Mean seconds of the stored runs of a cell's method: with its settings, else of its scale; None without any."""
    folder = cell.folder.path.parent
    if (own := _mean(map(_seconds, folder.glob("*/cost.json")))) is not None:
        return own
    scale = glob.escape(f"{cell.spec.name}@{cell.spec.row}")
    alike = itertools.chain.from_iterable(folder.parent.glob(f"{scale}{end}/*/cost.json") for end in ("", ",*"))
    each = _mean(map(_per_work, itertools.islice(alike, READ)))
    return None if each is None else each * _work(cell.recipe.epochs if cell.trains else 0, cell.recipe.samples)


def _seconds(path: Path) -> float | None:
    """Seconds of training and test of a run, by its cost.json; None where its files do not say."""
    try:
        cost, images = read_json(path), read_json(path.with_name("metrics.json"))["n_images"]
        return float(cost["train_seconds"]) + images / max(float(cost["images_per_second"]), 1e-6)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _per_work(path: Path) -> float | None:
    """Seconds of a run per unit of work, by its cost.json; None where its files do not say."""
    try:
        recipe = read_json(path.with_name("config.json"))["recipe"]  # {} without training
        work = _work(int(read_json(path)["epochs"]), recipe.get("samples"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return None if (seconds := _seconds(path)) is None else max(seconds, 1e-6) / work


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
