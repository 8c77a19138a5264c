"""Trained on one data set, tested on others: which cells these are, and what the trainings have seen of the tests."""

from dataclasses import dataclass, replace

from benchmark.data.overlap import Overlap, between
from benchmark.data.store.prepare import prepare
from benchmark.experiment.cell import Cell
from benchmark.experiment.grid import cells, file_cell
from benchmark.experiment.setup import Setup
from benchmark.runtime.errors import InputError

KEPT = ("eval_batch",)  # recipe keys of a training's command that count for its evaluations too


def training(setup: Setup, method: str, split: int, seed: int) -> Cell:
    """The cell that trains a method. Raises InputError as `grid.cells`, or where the method has nothing to train."""
    (cell,) = cells(setup, [method], [split], [seed])
    if not cell.trains:
        raise InputError(f"{cell.spec} trains nothing, so that it is the same wherever it is tested; use `run` there.")
    return cell


def testing(setup: Setup) -> Setup:
    """The settings under which weights are tested on a data set, from those under which one would train on it."""
    kept = tuple((key, value) for key, value in setup.overrides if key in KEPT)
    return replace(setup, preset="paper", experiment="main", backbone="random", overrides=kept)


@dataclass(frozen=True, eq=False)
class Test:
    """A training, a data set that it is tested on, and what it has seen of it.

    Attributes:
        setup: of the test. split: of its data set.
        saw_types: whether some training image has types, where the data have classes.
    """

    training: Cell
    setup: Setup
    split: int
    overlap: Overlap
    saw_types: bool

    def cell(self) -> Cell:
        """The cell that evaluates the weights, once they are trained. Raises InputError as `grid.file_cell`."""
        weights, seen = self.training.folder.path, self.saw_types
        return file_cell(self.setup, weights, None, self.split, overlap=self.overlap, saw_types=seen)


def pairs(trainings: list[Cell], tests: list[Setup], split: int) -> list[Test]:
    """Every training with every other data set, which are prepared for it.

    Raises:
        InputError: two data sets of one name, no pair of two, bad data, or an overlap that cannot be removed.
    """
    known: dict[str, Setup] = {}
    for setup in (*(cell.setup for cell in trainings), *tests):
        other = known.setdefault(setup.label, setup)
        if (other.dataset, other.data_root) != (setup.dataset, setup.data_root):
            raise InputError(
                f"two data sets go by the name '{setup.label}': {other.dataset} in {other.data_root} and "
                f"{setup.dataset} in {setup.data_root}; name one of them otherwise (docs/transfer.md)."
            )
    chosen = [(cell, test) for cell in trainings for test in tests if cell.setup.label != test.label]
    if not chosen:
        raise InputError("--train and --test name the same data set alone; name another one to test on.")
    out = []
    for cell, test in chosen:
        seen = prepare(cell.setup.source, cell.setup.cache, cell.split)
        tested = prepare(test.source, test.cache, split)
        typed = not seen.classes or bool(seen.subset(cell.split, "train").typed.any())
        out.append(Test(cell, test, split, between(seen, cell.split, tested, split), typed))
    return out
