"""The grid of cells: methods × published splits × seeds of an experiment, or a part of it."""

from dataclasses import replace
from pathlib import Path

from benchmark.data.files.class_names import ClassMap
from benchmark.data.overlap import Overlap
from benchmark.experiment import config, elsewhere, encoder_weights, weights_source
from benchmark.experiment.cell import Cell
from benchmark.experiment.setup import Setup
from benchmark.methods import registry
from benchmark.runtime.errors import InputError
from benchmark.runtime.plugins import name_of
from benchmark.weights.recognise import recognise


def cells(setup: Setup, methods=None, splits=None, seeds=None) -> list[Cell]:
    """The cells of an experiment, or of the part of it that the arguments choose.

    Args:
        methods: list of names, which may have overrides (see `config.parse_row`); None for the experiment's.
        splits: list of numbers, "all" for every published split of the data set, None for the experiment's.
        seeds: list of numbers; None for the experiment's.

    Raises:
        InputError: unknown method, split that the data set does not have, negative seed.
    """
    chosen = setup.config
    encoder_weights.check(setup.backbone)
    rows = [row(setup, method) for method in methods or chosen.methods]
    splits = setup.source.splits() if splits == "all" else list(dict.fromkeys(splits or chosen.folds))
    seeds = list(dict.fromkeys(seeds if seeds is not None else chosen.seeds))
    _check(setup, splits, seeds)
    # a grid may name a value that is there without it (points=4): that is the row itself, once; a misspelt override or
    # a missing file raises here, before anything is prepared
    named: dict[str, Cell] = {}
    for spec, overrides in rows:
        cell = Cell(setup, spec, splits[0], seeds[0], overrides=tuple(overrides.items()))
        named.setdefault(cell.name, cell)
    return [cell.at(split, seed) for split in splits for seed in seeds for cell in named.values()]


def row(setup: Setup, text: str) -> tuple[registry.Spec, dict[str, object]]:
    """(method with its row and arguments, its own overrides) of a row of an experiment, or of METHOD=.

    Raises:
        InputError: as `registry.parse` and `config.parse_row`.
    """
    method, overrides = config.parse_row(text, setup.overrides)
    return registry.parse(method, row_for(setup, method)), overrides


def file_cell(
    setup: Setup,
    path: Path,
    method: str | None,
    split: int,
    any_fold: bool = False,
    class_map: ClassMap | None = None,
    overlap: Overlap | None = None,
    saw_types: bool = True,
) -> Cell:
    """The cell that evaluates a file of weights, after a check that the file fits.

    Args:
        method: a method's name, see `weights_source.method_name`; None: the file's method.
        any_fold: also when the file was trained for another published split.
        class_map: which of the file's classes is which of the data's, where their names do not say it.
        overlap: test images that the training has seen; None: as far as `elsewhere.known_overlap` knows.
        saw_types: whether some training image had types.

    Raises:
        InputError: an unreadable or unfit file, an unknown method, row or split.
    """
    if setup.source.parts:
        raise InputError(f"weights are tested on one data set at a time; name one of those that {setup.label} joins.")
    _, facts = recognise(path)
    (plain,) = cells(setup, [weights_source.method_name(facts, method)], [split], [0])
    overlap = overlap or elsewhere.known_overlap(facts, setup, split)
    source = weights_source.FromFile.of(facts, setup.label, split, any_fold, class_map, overlap, saw_types)
    cell = replace(plain, weights=source)
    source.check(cell)
    return cell


def row_for(setup: Setup, method: str) -> str:
    """The row of a method whose name gives none.

    It is the preset, but "matched" (the published architecture without the published code's quirks) where `main` runs
    at full scale and the method has such a row.
    """
    cls = registry.method_class(name_of(method))
    full = setup.preset == "paper" and setup.config.kind == "main"
    return "matched" if full and "matched" in cls.presets else setup.preset


def _check(setup: Setup, splits: list[int], seeds: list[int]) -> None:
    known = setup.source.splits()
    for split in splits:
        if split not in known:
            raise InputError(
                f"FOLD={split}: dataset '{setup.dataset}' has the published splits "
                f"{', '.join(map(str, known))}; choose one of these."
            )
    config.check_numbers(splits, seeds)
