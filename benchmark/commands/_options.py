"""What the commands about cells share: their options, and the cells that these spell."""

import argparse
from pathlib import Path

from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import CACHE, RESULTS
from benchmark.training import recipe


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
    to.add_argument("overrides", nargs="*", metavar="recipe.KEY=VALUE", help="recipe values to replace, see below")
    to.epilog = f"{recipe.help_text()}\n\n{to.epilog or ''}".rstrip()


def several(to: argparse.ArgumentParser) -> None:
    """Options that choose a part of the grid."""
    to.add_argument("--methods", nargs="+", help="only these methods")
    to.add_argument("--folds", nargs="+", help="published splits, or all")
    to.add_argument("--seeds", nargs="+", type=int, help="seeds")


def keep_maps(to: argparse.ArgumentParser) -> None:
    """The option of commands that predict."""
    to.add_argument("--keep-maps", action="store_true", help="store the raw maps of the test fold (1 MB an image)")


def setup(options, **values):
    """The Setup that the options spell; `values` take the place of options that a command lacks."""
    from dataclasses import fields

    from benchmark.experiment.config import parse_overrides
    from benchmark.experiment.setup import Setup
    from benchmark.results.run_folder import check_results

    check_results(options.results)
    chosen = {field.name: getattr(options, field.name) for field in fields(Setup) if hasattr(options, field.name)}
    chosen |= {"overrides": tuple(parse_overrides(options.overrides).items())} | values
    chosen["preset"] = chosen["preset"] or ("small" if options.dataset.split("@")[0] == "synthetic" else "paper")
    return Setup(**chosen)


def chosen_cells(options):
    """The cells that the options spell."""
    from benchmark.experiment.grid import cells

    splits = options.folds
    if splits == ["all"]:
        splits = "all"
    elif splits:
        try:
            splits = [int(text) for text in splits]
        except ValueError:
            raise InputError(f"FOLDS is '{' '.join(splits)}'; expected numbers such as '1 2', or all.") from None
    return cells(setup(options), options.methods, splits, options.seeds)


def written_tables(options, cells) -> str:
    """Write the tables of these cells and return the main one."""
    from benchmark.experiment.state import state_of
    from benchmark.report.write import write_tables

    states = [(cell.run, state_of(cell)) for cell in cells]
    setup = cells[0].setup
    return write_tables(
        options.results,
        options.reports,
        dataset=setup.label,
        kind=setup.config.kind,
        protocol=setup.config.protocol,
        experiment_methods=list(dict.fromkeys(str(cell.spec) for cell in cells)),
        splits=sorted({cell.split for cell in cells}),
        seeds=sorted({cell.seed for cell in cells}),
        remarks=[f"Stale: {run} ({state.why})." for run, state in states if state.name == "stale"],
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
