"""Options shared by several commands, each declared once, and what the grid commands make of theirs."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from benchmark.data import set_names
from benchmark.runtime import plugins
from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import CACHE, REPORTS, RESULTS
from benchmark.runtime.scales import SCALES
from benchmark.training import recipe

DATASET = "such as pannuke, consep or folder (default synthetic); `datasets` lists all"
OF_EXPERIMENT = "such as pannuke, consep or folder (default: the experiment's, else synthetic); `datasets` lists all"
DATA_ROOT = "folder or archive of the dataset; synthetic needs none"


def dataset(
    parser: ArgumentParser, default: str | None = "synthetic", help: str = DATASET, root: str = DATA_ROOT
) -> None:
    """--dataset and --data-root. `root` is the help of the latter."""
    parser.add_argument("--dataset", default=default, help=help)
    parser.add_argument("--data-root", help=root)


def scheme(parser: ArgumentParser) -> None:
    """--classes of commands that take the data's own classes or those of a scheme."""
    parser.add_argument(
        "--classes",
        dest="scheme",
        metavar="SCHEME",
        help="other classes for the data, such as 4 for consep@classes=4: a known scheme or a TOML file",
    )


def with_scheme(dataset: str, scheme: str | None) -> str:
    """The data set with the scheme of --classes as one of its arguments: consep and 4 make consep@classes=4.

    Raises:
        InputError: a scheme for several data sets that are joined.
    """
    if scheme and len(sets_of(dataset)) > 1:
        raise InputError(
            f"--classes {scheme}: {dataset} joins several data sets; write classes={scheme} behind the one it is for, "
            "such as consep@classes=4+monuseg."
        )
    return f"{dataset}{',' if '@' in dataset else '@'}classes={scheme}" if scheme else dataset


def sets_of(dataset: str | None) -> list[str]:
    """The data sets that one word of --dataset joins, each without its folder."""
    known = plugins.declared("benchmark.data.sources") or set()
    sets = set_names.split(dataset, known) if dataset else []
    return [set_names.with_folder(text)[0] for text in sets] if len(sets) > 1 else sets


def fold(parser: ArgumentParser, help: str = "published split, counted from 1 (default 1)") -> None:
    """--fold."""
    parser.add_argument("--fold", type=int, default=1, help=help)


def results(parser: ArgumentParser, *aliases: str, metavar: str | None = None, help: str = "folder of results") -> None:
    """--results, which may also be called one of the aliases."""
    parser.add_argument("--results", *aliases, type=Path, default=RESULTS, metavar=metavar, help=help)


def reports(parser: ArgumentParser, help: str = "where the tables go") -> None:
    """--reports."""
    parser.add_argument("--reports", type=Path, default=REPORTS, help=help)


def cache(parser: ArgumentParser, help: str = "where prepared data lie") -> None:
    """--cache."""
    parser.add_argument("--cache", type=Path, default=CACHE, help=help)


def cache_and_weights(parser: ArgumentParser) -> None:
    """--cache of commands that also fetch or make pretrained weights."""
    cache(parser, "where prepared data and pretrained weights lie")


def device(parser: ArgumentParser) -> None:
    """--device."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:<i> or mps (default auto)")


def method(
    parser: ArgumentParser, help: str = "method, or method@row,key=value,recipe.key=value (default: the file's)"
) -> None:
    """--method."""
    parser.add_argument("--method", help=help)


def protocol(parser: ArgumentParser, help: str = "name of a protocol, or all (default cellvit)") -> None:
    """--protocol."""
    parser.add_argument("--protocol", default="cellvit", help=help)


def experiment(
    parser: ArgumentParser, help: str = "a name under experiments/, or a .py or .yaml file (default main)"
) -> None:
    """--experiment."""
    parser.add_argument("--experiment", default="main", help=help)


def preset(parser: ArgumentParser) -> None:
    """--preset."""
    help = "scale (default: the experiment's, else small on synthetic and paper elsewhere)"
    parser.add_argument("--preset", choices=SCALES, help=help)


def overrides(parser: ArgumentParser, help: str) -> None:
    """Recipe values to replace."""
    parser.add_argument("overrides", nargs="*", metavar="recipe.KEY=VALUE", help=help)


def tables(parser: ArgumentParser) -> None:
    """Options that choose what a table or a report of finished runs shows."""
    parser.add_argument("--dataset", help="only this dataset")
    experiment(parser, "whose methods get a row (default main)")
    protocol(parser)


def form(parser: ArgumentParser, *forms: str) -> None:
    """--format; None where a terminal shows what it has room for and all else gets the whole Markdown."""
    parser.add_argument(
        "--format",
        choices=forms,
        help="of what is printed, whole (default: md; on a terminal, the columns that it has room for)",
    )


def grid(parser: ArgumentParser) -> None:
    """Options shared by the grid commands."""
    experiment(parser)
    dataset(parser, None, OF_EXPERIMENT)
    scheme(parser)
    preset(parser)
    parser.add_argument(
        "--backbone",
        help="weights of published encoders: a local file, hub or random; or by name: 'uni=FILE resnet50=FILE'",
    )
    results(parser)
    cache_and_weights(parser)
    device(parser)
    overrides(parser, "recipe values to replace, see below")
    parser.epilog = f"{recipe.help_text()}\n\n{parser.epilog or ''}".rstrip()


def several(parser: ArgumentParser) -> None:
    """Options that choose a part of the grid."""
    parser.add_argument("--methods", nargs="+", help="only these methods, such as cellvta@small,points=8,recipe.clip=2")
    parser.add_argument("--folds", nargs="+", help="published splits, or all")
    parser.add_argument("--seeds", nargs="+", type=int, help="seeds")


def stale(parser) -> None:
    parser.add_argument(
        "--stale",
        choices=("keep", "rerun"),
        default="keep",
        help="stale cells: leave them, or move them aside and run anew",
    )


def keep_maps(parser: ArgumentParser) -> None:
    """--keep-maps."""
    parser.add_argument(
        "--keep-maps",
        action="store_true",
        help="store the raw maps of the test fold (1 MB an image; 5 MB with instances=stardist or cpp)",
    )


def reading(parser: ArgumentParser) -> None:
    """Options on how files of predictions are read."""
    parser.add_argument(
        "--missing",
        choices=("refuse", "empty"),
        default="refuse",
        help="images without a prediction: refuse (default), or count as images in which nothing was found",
    )
    parser.add_argument(
        "--vertices",
        choices=("corners", "centres", "inside"),
        help="where outlines' vertices lie (default: what their format usually means)",
    )
    parser.add_argument(
        "--types-outside",
        choices=("refuse", "ignore"),
        default="refuse",
        help="type maps that name types where there is no instance: refuse (default), or ignore these pixels",
    )


def class_map(parser: ArgumentParser) -> None:
    """--classes."""
    parser.add_argument(
        "--classes", type=Path, metavar="FILE", help="map.toml: which predicted class is which of the data's, by name"
    )


def setting(options, **values) -> dict[str, Any]:
    """Experiment, data set, scale and overrides of a command's options, checked before torch is imported.

    Data set and scale are None where the options leave them to the experiment, see `with_defaults`.

    Args:
        values: what takes the place of options that the command lacks.

    Raises:
        InputError: an experiment, a data set or a method that does not exist, or an override that is none.
    """
    from benchmark.experiment.config import check_numbers, find, parse_overrides, parse_row

    out = {key: getattr(options, key, None) for key in ("dataset", "scheme", "preset", "experiment")} | values
    find(out["experiment"])
    _check_names("dataset", "benchmark.data.sources", sets_of(out["dataset"]))
    methods = getattr(options, "methods", None) or [getattr(options, "method", None)]
    _check_names("method", "benchmark.methods", methods)
    for text in methods:
        if text:
            plugins.name_of(parse_row(text)[0])
    check_numbers(_splits(options) or [], _numbers(options, "seeds", "seed"))
    overrides = parse_overrides(options.overrides)
    for text in methods:
        parse_row(text or "", overrides.items())
    return out | {"overrides": tuple(overrides.items())}


def _numbers(options, several: str, one: str) -> list[int]:
    """The values of an option that takes several numbers, or of its counterpart that takes one."""
    values = getattr(options, several, None) or getattr(options, one, None)
    return values if isinstance(values, list) else [] if values is None else [values]


def _splits(options) -> list[int] | None:
    """The splits that the options name, None for all of the data set. Raises InputError for what is no number."""
    splits = _numbers(options, "folds", "fold")
    if splits == ["all"]:
        return None
    try:
        return [int(text) for text in splits]
    except ValueError:
        raise InputError(f"FOLDS is '{' '.join(splits)}'; expected numbers such as '1 2', or all.") from None


def with_defaults(values: dict[str, Any]) -> dict[str, Any]:
    """What `setting` returns with the data set and the scale of the experiment where the options name none.

    Raises:
        InputError: an experiment that cannot be read.
    """
    from benchmark.experiment.config import load

    chosen = load(values["experiment"])
    dataset = values["dataset"] or chosen.get("dataset") or "synthetic"
    drawn = {set_names.registered(text) for text in sets_of(dataset)} == {"synthetic"}
    of_data = "small" if drawn else "paper"
    preset = values["preset"] or chosen.get("preset") or of_data
    rest = {key: value for key, value in values.items() if key != "scheme"}
    return rest | {"dataset": with_scheme(dataset, values["scheme"]), "preset": preset}


def _check_names(what: str, package: str, texts: list[str | None]) -> None:
    """Raises InputError for a name that no file of the package registers, where that can be seen without torch."""
    for name in [text.partition("@")[0] for text in texts if text]:
        if name.isidentifier() and (names := plugins.declared(package)) is not None:
            plugins.check_name(what, name, names)


def setup(options, writes: bool = True, **values):
    """The options of a grid command as a Setup.

    Args:
        writes: whether the command writes results.
        values: fields of Setup that take the place of options that the command lacks.

    Raises:
        InputError: an experiment that does not exist, an override that is none, or a results folder that is a file
            or, for one that writes, cannot be written.
    """
    from dataclasses import fields

    values = with_defaults(setting(options, **values))
    from benchmark.experiment.setup import Setup  # imports torch
    from benchmark.results.run_folder import check_results

    check_results(options.results, writes)
    chosen = {field.name: getattr(options, field.name) for field in fields(Setup) if hasattr(options, field.name)}
    return Setup(**(chosen | values))


def chosen_cells(options, writes: bool = True):
    """The cells of the grid that the options choose. Raises InputError as `setup` and `experiment.grid.cells`."""
    splits = _splits(options)
    chosen = setup(options, writes)
    from benchmark.experiment.grid import cells  # imports torch

    return cells(chosen, options.methods, "all" if splits is None else splits, options.seeds)


def written_tables(options, cells) -> str:
    """Write the tables of these cells' runs and return those to print, as `report.write.write_tables`."""
    from benchmark.experiment.state import stored
    from benchmark.report.write import write_tables
    from benchmark.runtime import terminal

    states = [(cell.run, stored(cell)) for cell in cells]  # a stale result is in the table while its rerun is queued
    setup = cells[0].setup
    return write_tables(
        options.results,
        options.reports,
        dataset=setup.label,
        kind=setup.config.kind,
        protocol=setup.config.protocol,
        experiment_methods=list(dict.fromkeys(cell.run.method for cell in cells)),
        splits=sorted({cell.split for cell in cells}),
        seeds=sorted({cell.seed for cell in cells}),
        remarks=[f"Stale: {run} ({state.why})." for run, state in states if state and state.name == "stale"],
        room=terminal.room(),
    )


def expected_methods(experiment: str, dataset: str | None = None) -> list[str]:
    """Canonical names of an experiment's methods, at its scale or `small`, which get a row in tables without a run.

    The names at full scale depend on the method, so they are left to what ran.

    Args:
        dataset: whose tables these are; None for all, for which no `recipes_on` counts.
    """
    from benchmark.experiment.config import load

    chosen = load(experiment)
    scale = chosen.get("preset", "small")
    plain = not any(chosen.get(key) for key in ("recipes", "recipes_on"))
    if plain and not any("=" in method for method in chosen.methods):
        return [method if "@" in method else f"{method}@{scale}" for method in chosen.methods]
    from benchmark.experiment.cell import Cell  # imports the methods, and torch with them
    from benchmark.experiment.grid import row
    from benchmark.experiment.setup import Setup
    from benchmark.methods.registry import method_class

    setup = Setup(dataset or "", None, scale, experiment, results=RESULTS, cache=CACHE)
    rows = [row(setup, method) for method in chosen.methods]
    if chosen.kind == "published":  # a row without a recipe has no cell
        rows = [(spec, own) for spec, own in rows if spec.row in method_class(spec.name).published]
    return list(dict.fromkeys(Cell(setup, spec, 1, 0, overrides=tuple(own.items())).name for spec, own in rows))
