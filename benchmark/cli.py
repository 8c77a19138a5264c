"""python -m benchmark: run one cell, the whole grid, its status, its tables.

Exit codes: 0 done, 1 a cell failed, 2 bad input (one sentence on stderr), 130 interrupted.
"""

import argparse
import os
import shlex
import sys
from pathlib import Path

from benchmark import __version__
from benchmark.errors import InputError
from benchmark.paths import CACHE, REPORTS, RESULTS

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a fixed workspace


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = parser().parse_args(arguments)
    try:
        return options.function(options)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        where = error.filename or "a file"
        print(
            f"error: {where}: {error.strerror or error}; free space or choose another folder.",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print("interrupted; the same command continues", file=sys.stderr)
        return 130


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="python -m benchmark",
        description="Nuclei segmentation with frozen foundation models, measured fairly.",
        epilog="example: python -m benchmark ablation",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=__version__)
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, function, text, example):
        made = commands.add_parser(
            name,
            help=text,
            description=text,
            epilog=f"example: python -m benchmark {name} {example}".rstrip(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        made.set_defaults(function=function)
        return made

    one = command("run", run, "Run one cell: a method on a fold.", "--method hovernet --fold 2")
    grid(one)
    one.add_argument("--method", required=True, help="method@row,key=value, such as cellvta@small,points=8")
    one.add_argument("--fold", type=int, default=1, help="published split, counted from 1 (default 1)")
    one.add_argument("--seed", type=int, default=0, help="seed (default 0)")

    many = command("ablation", ablation, "Run the missing cells of an experiment, then print its table.", "--folds all")
    grid(many)
    several(many)
    many.add_argument("--stale", choices=("keep", "rerun"), default="keep", help="what to do with stale cells")
    many.add_argument("--shard", default="0/1", help="i/n: run cells i, i+n, … on this machine (default 0/1)")
    many.add_argument("--reports", type=Path, default=REPORTS, help="where the tables go")

    what = command("status", status, "The state of every cell of an experiment, and why.", "--folds all")
    grid(what)
    several(what)

    shown = command("table", table, "Tables and the size plot from finished runs.", "--protocol pannuke")
    shown.add_argument("--results", type=Path, default=RESULTS, help="folder of results")
    shown.add_argument("--reports", type=Path, default=REPORTS, help="where the tables go")
    shown.add_argument("--dataset", help="only this dataset")
    shown.add_argument("--experiment", default="main", help="whose methods get a row (default main)")
    shown.add_argument("--protocol", default="cellvit", help="cellvit, pannuke or all (default cellvit)")

    ready = command(
        "prepare",
        prepare,
        "Convert a dataset once into its cache.",
        "--dataset pannuke --data-root /data/pannuke",
    )
    ready.add_argument("--dataset", default="synthetic", help="pannuke, conic, folder or synthetic")
    ready.add_argument("--data-root", help="folder or archive of the dataset")
    ready.add_argument("--cache", type=Path, default=CACHE, help="where prepared data lie")

    look = command(
        "contact-sheet", contact_sheet, "A picture of prepared images with their outlines.", "--out sheet.png"
    )
    look.add_argument("--dataset", default="synthetic", help="pannuke, conic, folder or synthetic")
    look.add_argument("--data-root", help="folder or archive of the dataset")
    look.add_argument("--cache", type=Path, default=CACHE, help="where prepared data lie")
    look.add_argument("--fold", type=int, default=1, help="published split (default 1)")
    look.add_argument("--side", choices=("train", "val", "test"), default="test", help="side of the split")
    look.add_argument("--count", type=int, default=24, help="number of images (default 24)")
    look.add_argument("--run", type=Path, help="a run folder: its predictions stand below the truth (test side)")
    look.add_argument("--out", type=Path, required=True, help="PNG to write")
    return top


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
    to.add_argument("--backbone", help="weights of published backbones: a local file, hub, or random")
    to.add_argument("--results", type=Path, default=RESULTS, help="folder of results")
    to.add_argument("--cache", type=Path, default=CACHE, help="where prepared data and pretrained weights lie")
    to.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:<i> (default auto)")
    to.add_argument("overrides", nargs="*", metavar="recipe.KEY=VALUE", help="recipe values to replace")


def several(to: argparse.ArgumentParser) -> None:
    """Options that choose a part of the grid."""
    to.add_argument("--methods", nargs="+", help="only these methods")
    to.add_argument("--folds", nargs="+", help="published splits, or all")
    to.add_argument("--seeds", nargs="+", type=int, help="seeds")


def setup(options):
    """The Setup that the options spell."""
    from benchmark.cell import Setup
    from benchmark.config import parse_overrides
    from benchmark.grid import check_results

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
    from benchmark.cell import cells

    folds = options.folds
    if folds == ["all"]:
        folds = "all"
    elif folds:
        try:
            folds = [int(f) for f in folds]
        except ValueError:
            raise InputError(f"FOLDS is '{' '.join(folds)}'; expected numbers such as '1 2', or all.") from None
    return cells(setup(options), options.methods, folds, options.seeds)


def run(options) -> int:
    from benchmark import run as runner
    from benchmark.cell import cells

    (cell,) = cells(setup(options), [options.method], [options.fold], [options.seed])
    runner.main(cell)
    return 0


def ablation(options) -> int:
    from benchmark import provenance
    from benchmark.data.prepare import prepare as convert
    from benchmark.grid import run_missing

    try:
        i, n = (int(v) for v in options.shard.split("/"))
        if not 0 <= i < n:
            raise ValueError
    except ValueError:
        raise InputError(f"--shard is '{options.shard}'; expected i/n with 0 <= i < n, such as 0/4.") from None
    made = chosen_cells(options)
    for fold in sorted({cell.fold for cell in made}):
        convert(made[0].setup.source, options.cache, split=fold)
    command = [sys.executable, "-m", "benchmark", "run", *shared_arguments(options)]
    os.environ[provenance.COMMAND] = shlex.join(["python", "-m", "benchmark", *sys.argv[1:]])
    failures = run_missing(made, command, stale=options.stale == "rerun", shard=(i, n))
    print(written_tables(options, made))
    return 1 if failures else 0


def status(options) -> int:
    from benchmark import grid as cells_grid

    print(cells_grid.status(chosen_cells(options)))
    return 0


def table(options) -> int:
    from benchmark.config import load
    from benchmark.report import tables

    # rows without a run print as missing; the names at full scale depend on the method, so they are left to what ran
    methods = [m if "@" in m else f"{m}@small" for m in load(options.experiment).methods]
    print(
        tables.write(
            options.results,
            options.reports,
            dataset=options.dataset,
            protocol=options.protocol,
            experiment_methods=methods,
        )
    )
    return 0


def written_tables(options, made) -> str:
    """Write the tables of these cells and return the main one."""
    from benchmark.report import tables

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


def prepare(options) -> int:
    from benchmark.data.prepare import prepare as convert
    from benchmark.registry import dataset

    data = convert(dataset(options.dataset, options.data_root), options.cache)
    print(f"{data.name}: splits {', '.join(map(str, data.splits()))}; {len(data.classes)} types; in {options.cache}")
    return 0


def contact_sheet(options) -> int:
    from benchmark.data import contact_sheet as sheet
    from benchmark.data.prepare import prepare as convert
    from benchmark.registry import dataset

    data = convert(dataset(options.dataset, options.data_root), options.cache, split=options.fold)
    subset = data.subset(options.fold, options.side)
    if options.count < 1:
        raise InputError(f"--count is {options.count}; expected at least 1.")
    # evenly over the subset: neighbours are often of one slide
    rows = sorted({round(k * (len(subset) - 1) / max(1, options.count - 1)) for k in range(options.count)})
    predicted = sheet.predictions(options.run, rows, data.mpp) if options.run else None
    sheet.write_sheet([subset[i] for i in rows], options.out, predicted=predicted)
    print(options.out)
    return 0


def shared_arguments(options) -> list[str]:
    """The grid options of this call, spelt again for a cell's own process."""
    words = []
    for name in ("experiment", "dataset", "data_root", "preset", "backbone", "results", "cache", "device"):
        value = getattr(options, name)
        if value is not None:
            words += [f"--{name.replace('_', '-')}", str(value)]
    return [*words, *options.overrides]
