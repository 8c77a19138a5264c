"""Trained on one data set, tested on others: which cells these are, and what the trainings have seen of the tests."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from benchmark.data.joint import Joint
from benchmark.data.overlap import Overlap, between, merged
from benchmark.data.source import Source
from benchmark.data.store.prepare import prepare
from benchmark.experiment.cell import Cell
from benchmark.experiment.grid import cells, file_cell
from benchmark.experiment.setup import Setup
from benchmark.experiment.state import state_of
from benchmark.runtime.errors import InputError
from benchmark.weights.fit import without_scheme

KEPT = ("eval_batch",)  # recipe keys of a training's command that count for its evaluations too


def training(setup: Setup, method: str, split: int, seed: int) -> Cell:
    """The cell that trains a method.

    Raises:
        InputError: as `grid.cells`; a method that has nothing to train, or that cannot run here, such as without the
            weights of its encoder: to prepare all data sets before may take hours.
    """
    (cell,) = cells(setup, [method], [split], [seed])
    if not cell.trains:
        raise InputError(f"{cell.spec} trains nothing, so that it is the same wherever it is tested; use `run` there.")
    state = state_of(cell)
    if state.name == "skipped":
        raise InputError(f"{cell.run} cannot run here: {state.why}.")
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
    _check_folders(source for setup in known.values() for source in _named(setup))
    for test in tests:
        if test.source.parts:
            raise InputError(f"--test {test.dataset}: several data sets are tested on one by one; name each of them.")
    chosen = [(cell, test) for cell in trainings for test in tests if cell.setup.label != test.label]
    if not chosen:
        raise InputError("--train and --test name the same data set alone; name another one to test on.")
    out = []
    for cell, test in chosen:
        seen = prepare(cell.setup.source, cell.setup.cache, cell.split)
        tested = prepare(test.source, test.cache, split)
        typed = not seen.classes or bool(seen.subset(cell.split, "train").typed.any())
        out.append(Test(cell, test, split, _overlap(cell, seen, test, tested, split), typed))
    return out


def _named(setup: Setup) -> list[tuple[str, Source]]:
    """(name in results, source) of each data set that the setup's joins, or of its own."""
    source = setup.source
    return list(zip(source.labels, source.parts)) if isinstance(source, Joint) else [(setup.label, source)]


def _check_folders(named: Iterable[tuple[str, Source]]) -> None:
    """Raises InputError where two data sets of one name lie in two places, alone or joined with others."""
    known: dict[str, Source] = {}
    for label, source in named:
        other = known.setdefault(label, source)
        if other.root != source.root:
            raise InputError(
                f"two data sets go by the name '{label}': one in {other.root}, one in {source.root}; name one of them "
                "otherwise (docs/transfer.md)."
            )


def _overlap(cell: Cell, seen, test: Setup, tested, split: int) -> Overlap:
    """What a training has seen of a test side. Of several sets, the one that the test side belongs to keeps it from its
    training by its own split."""
    if not seen.sets:
        return between(seen, cell.split, tested, split)
    label, others = without_scheme(test.label), []
    for own, one in zip(seen.labels, seen.sets):
        if without_scheme(own) != label:
            others.append(between(one, cell.split, tested, split))
        elif cell.split != split:
            raise InputError(
                f"{seen.name} trains on {own} with FOLD={cell.split}: the test images of FOLD={split} are among those "
                f"that it has seen; use --test-fold {cell.split}."
            )
    return merged(others, f"test images of {test.label}")
