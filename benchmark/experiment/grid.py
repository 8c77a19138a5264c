"""Which cells an experiment has: methods times published splits times seeds, or the part of it that was asked for."""

from benchmark.experiment import encoder_weights
from benchmark.experiment.cell import Cell, Setup
from benchmark.methods import registry
from benchmark.runtime.errors import InputError


def cells(setup: Setup, methods=None, folds=None, seeds=None) -> list[Cell]:
    """The grid of an experiment, or the part of it that the arguments name.

    Args:
        folds: list of numbers, or "all" for every published split of the dataset.

    Raises:
        InputError: unknown method, fold that the dataset does not have, negative seed.
    """
    chosen = setup.config
    encoder_weights.check(setup.backbone)
    methods = list(methods or chosen.methods)
    # a grid may name a row's own value (points=4): that is the row itself, once
    specs = list({str(s): s for m in methods for s in [registry.parse(m, row_for(setup, m))]}.values())
    known = setup.source.splits()
    folds = known if folds == "all" else list(dict.fromkeys(folds or chosen.folds))
    for fold in folds:
        if fold not in known:
            raise InputError(
                f"FOLD={fold}: dataset '{setup.dataset}' has the published splits "
                f"{', '.join(map(str, known))}; choose one of these."
            )
    seeds = list(dict.fromkeys(seeds if seeds is not None else chosen.seeds))
    for seed in seeds:
        if not 0 <= seed < 2**63:
            raise InputError(f"SEED={seed}: expected a whole number of at least 0 (and below 2^63).")
    made = [Cell(setup, spec, fold, seed) for fold in folds for seed in seeds for spec in specs]
    for cell in made[: len(specs)]:
        _ = cell.recipe, cell.weights  # a misspelt override or a missing file is said before anything is prepared
    return made


def row_for(setup: Setup, method: str) -> str:
    """The row of a method whose name gives none: the preset, but "matched" (the published architecture without the
    published code's quirks) where `main` runs at full scale and the method has such a row."""
    cls = registry.method_class(registry.name_of(method))
    full = setup.preset == "paper" and setup.config.kind == "main"
    return "matched" if full and "matched" in cls.presets else setup.preset
