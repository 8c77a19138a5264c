"""The official files of a method in a folder: which they are by their content, and the cells that evaluate them."""

from dataclasses import dataclass
from pathlib import Path

from benchmark.experiment.cell import Cell
from benchmark.experiment.grid import file_cell
from benchmark.experiment.setup import Setup
from benchmark.experiment.weights_source import FromFile
from benchmark.runtime.errors import InputError
from benchmark.runtime.progress import Progress
from benchmark.weights.recognise import Facts, recognise


@dataclass(frozen=True)
class Wanted:
    """What is looked for.

    Attributes:
        rows: of the method, as its official files may be of.
        splits: published splits.
        fallback: the split on which a file is evaluated of which nobody knows which of several it was trained for.
        magnification: of the images that the weights were trained on.
    """

    method: str
    rows: tuple[str, ...]
    splits: tuple[int, ...]
    fallback: int
    magnification: int


@dataclass(frozen=True)
class Candidate:
    """A file in the folder.

    Attributes:
        cell: that evaluates it; None where it is not one that is looked for.
        row: of the method; "" without a cell.
        split: that it was trained for; None where nobody knows which of several.
        why: in words, why there is no cell.
    """

    path: Path
    cell: Cell | None
    row: str
    split: int | None
    why: str


def search(folder: Path, setup: Setup, wanted: Wanted) -> list[Candidate]:
    """Every file in a folder, with the cell that evaluates it where it is an official file that is looked for.

    Raises:
        InputError: the folder does not exist, or an unknown split or row.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder with official files of weights (WEIGHTS=), found none there.")
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    show = Progress(f"{folder}: looked at", "files")
    out: list[Candidate] = []
    seen: dict[str, Path] = {}
    show(0, len(paths))
    for i, path in enumerate(paths, 1):
        candidate = _candidate(path, setup, wanted)
        if candidate.cell and isinstance(candidate.cell.weights, FromFile):
            first = seen.setdefault(candidate.cell.weights.facts.sha256, path)
            if first != path:
                candidate = Candidate(path, None, "", None, f"it is the same file as {first.name}")
        out.append(candidate)
        show(i, len(paths))
    return out


def _candidate(path: Path, setup: Setup, wanted: Wanted) -> Candidate:
    if path.is_dir():
        return Candidate(path, None, "", None, "it is a folder; put the files themselves beside it")
    try:
        facts = recognise(path)[1]
    except InputError as error:
        return Candidate(path, None, "", None, str(error).removeprefix(f"{path}: "))
    if why := _other(facts, setup, wanted):
        return Candidate(path, None, "", None, why)
    split = wanted.splits[0] if len(wanted.splits) == 1 else facts.split
    for row in wanted.rows:
        if facts.row in (None, row):
            try:
                cell = file_cell(setup, path, f"{wanted.method}@{row}", split or wanted.fallback)
                return Candidate(path, cell, row, split, "")
            except InputError as error:
                why = str(error).removeprefix(f"{path}: ")
    return Candidate(path, None, "", None, why or f"it is {facts.title}, a row that is not looked for")


def _other(facts: Facts, setup: Setup, wanted: Wanted) -> str:
    """In words, why a file is none of those that are looked for; "" where nothing speaks against it."""
    if facts.own:
        return "it holds weights of a run of this benchmark, not official ones"
    if facts.method != wanted.method:
        return f"it is {facts.title}"
    if facts.dataset not in (None, setup.dataset_name):
        return f"it was trained on {facts.dataset}"
    if facts.magnification not in (None, wanted.magnification):
        return f"it was trained at x{facts.magnification}"
    if facts.split not in (None, *wanted.splits):
        return f"it was trained for split {facts.split}"
    return ""
