"""What the commands about cells share: their options, and the cells that these spell."""

import argparse
from pathlib import Path

from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import CACHE, RESULTS


def grid(to: argparse.ArgumentParser) -> None:
    """Options that every command about cells has."""
    to.add_argument("--experiment", default="main", help="a name under experiments/ or a .py file (default main)")
    to.add_argument("--dataset", default="synthetic", help="pannuke, conic, folder or synthetic (default)")
    to.add_argument("--data-root", help="folder or archive of the dataset; synthetic needs none")
    to.add_argument(
        "--preset",
        choices=("debug", "small", "paper"),
        help="scale (default: small on synthetic, else paper)",
    )
    to.add_argument(
        "--backbone",
        help="weights of published encoders: a local file, hub or random; or by name: 'uni=FILE resnet50=FILE'",
    )
    to.add_argument("--results", type=Path, default=RESULTS, help="folder of results")
    to.add_argument("--cache", type=Path, default=CACHE, help="where prepared data and pretrained weights lie")
    to.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:<i> (default auto)")
    to.add_argument("overrides", nargs="*", metavar="recipe.KEY=VALUE", help="recipe values to replace")


def several(to: argparse.ArgumentParser) -> None:
    """Options that choose a part of the grid."""
    to.add_argument("--methods", nargs="+", help="only these methods")
    to.add_argument("--folds", nargs="+", help="published splits, or all")
    to.add_argument("--seeds", nargs="+", type=int, help="seeds")


def keep_maps(to: argparse.ArgumentParser) -> None:
    """The option of commands that predict."""
    to.add_argument("--keep-maps", action="store_true", help="store the raw maps of the test fold (1 MB an image)")


def setup(options):
    """The Setup that the options spell."""
    from benchmark.experiment.cell import Setup
    from benchmark.experiment.config import parse_overrides
    from benchmark.results.run_folder import check_results

    check_results(options.results)
    preset = options.preset or ("small" if options.dataset.split("@")[0] == "synthetic" else "paper")
    return Setup(
        dataset=options.dataset,
        data_root=options.data_root,
        preset=preset,
        experiment=options.experiment,
        results=options.results,
        cache=options.cache,
        device=options.device,
        backbone=options.backbone,
        overrides=tuple(parse_overrides(options.overrides).items()),
    )


def chosen_cells(options):
    """The cells that the options spell."""
    from benchmark.experiment.grid import cells

    folds = options.folds
    if folds == ["all"]:
        folds = "all"
    elif folds:
        try:
            folds = [int(f) for f in folds]
        except ValueError:
            raise InputError(f"FOLDS is '{' '.join(folds)}'; expected numbers such as '1 2', or all.") from None
    return cells(setup(options), options.methods, folds, options.seeds)


def shared_arguments(options) -> list[str]:
    """The grid options of this call, spelt again for a cell's own process."""
    words = []
    for name in ("experiment", "dataset", "data_root", "preset", "backbone", "results", "cache", "device"):
        value = getattr(options, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return [*words, *options.overrides]


def written_tables(options, made) -> str:
    """Write the tables of these cells and return the main one."""
    from benchmark.report import write as tables

    config = made[0].setup.config
    stale = [f"Stale: {c.run} ({why})." for c in made for state, why in [c.state()] if state == "stale"]
    return tables.write(
        options.results,
        options.reports,
        dataset=made[0].setup.label,
        kind=config.kind,
        protocol=config.protocol,
        experiment_methods=list(dict.fromkeys(str(c.spec) for c in made)),
        folds=sorted({c.fold for c in made}),
        seeds=sorted({c.seed for c in made}),
        remarks=stale,
    )


def expected_methods(experiment: str) -> list[str]:
    """Canonical names at `small` of an experiment's methods, which get a row in tables even without a run.

    The names at full scale depend on the method, so they are left to what ran.
    """
    from benchmark.experiment.config import load

    return [_canonical(m) for m in load(experiment).methods]


def _canonical(method: str) -> str:
    if "=" not in method:
        return method if "@" in method else f"{method}@small"
    from benchmark.methods.registry import parse  # imports the methods, and torch with them

    return str(parse(method, "small"))
