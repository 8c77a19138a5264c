"""`reproduce`: the figures of a paper, from its official weights or from training, beside the published ones."""

import os
import shlex
import sys
from pathlib import Path

from benchmark.commands import _options as shared
from benchmark.runtime.errors import InputError

HELP = "Reproduce a paper's figures from its official files of weights, or list what can be reproduced."
EXAMPLE = "cellvta-pannuke --data-root /data/pannuke --weights /weights"
NAMED = 3  # what is missing, in the one sentence at the end; the table of files names all


def arguments(parser) -> None:
    parser.add_argument(
        "paper", nargs="?", default="list", help="a paper that `list` shows, a .toml file of one, or list (default)"
    )
    parser.add_argument("--data-root", help=shared.DATA_ROOT)
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="folder with official files, known by their content"
    )
    parser.add_argument("--train", action="store_true", help="train with the published recipe instead, seed 0")
    shared.stale(parser)
    parser.add_argument("--folds", nargs="+", type=int, help="only these published splits")
    parser.add_argument("--backbone", help="with --train: weights of published encoders, as for `run`")
    shared.results(parser)
    shared.cache_and_weights(parser)
    shared.device(parser)
    shared.overrides(parser, "values that decide no result, such as recipe.eval_batch")
    parser.epilog = (
        "exit code: 0 every figure is within its tolerance, 1 one is outside, 2 none is, and something is missing, "
        f"failed or has no verdict\n\n{parser.epilog}"
    )


def run(options) -> int:
    from benchmark.report.papers import paper as papers
    from benchmark.runtime import distributed

    _check_options(options)
    if options.paper == "list":
        print("\n".join(_described(papers.find(name), options) for name in papers.names()))
        return 0
    if distributed.processes() > 1:
        raise InputError("reproduce works in one process; start it without torchrun, or `evaluate` with it first.")
    paper = papers.find(options.paper)
    splits = _splits(options, paper)
    if not options.train and options.weights is None:
        raise InputError(
            f"reproduce {paper.name} needs --weights (WEIGHTS=), a folder with its official files, or --train "
            "(TRAIN=1); `reproduce list` says where they are published."
        )
    lacking, done = (_trained if options.train else _evaluated)(options, paper, splits)
    return _compared(paper, splits, done, lacking)


def _check_options(options) -> None:
    """Raises InputError for options that would be left without effect."""
    if options.train and options.weights is not None:
        raise InputError(
            "--train (TRAIN=1) trains the paper's networks and reads no official files; leave out --weights (WEIGHTS=) "
            "or --train."
        )
    if options.backbone is not None and not options.train:
        raise InputError(
            "--backbone (BACKBONE=) is for --train (TRAIN=1): official files hold their encoders; leave it out."
        )


def _splits(options, paper) -> tuple[int, ...]:
    """The splits asked for."""
    for split in options.folds or ():
        if split not in paper.splits:
            known = ", ".join(map(str, paper.splits))
            raise InputError(f"FOLDS={split}: {paper.name} has figures of the splits {known}; choose among these.")
    return tuple(dict.fromkeys(options.folds or paper.splits))


def _setup(options, paper, experiment: str, backbone: str | None):
    """The Setup of a paper's cells, and the check that no option makes them cells of another recipe."""
    values = {"dataset": paper.dataset, "preset": "paper", "experiment": experiment, "backbone": backbone}
    return shared.setup(options, **values)


def _candidates(options, paper, splits):
    """Every file in the folder of weights, see `experiment.official.search`; of unknown split, on the first split."""
    from benchmark.experiment import official

    wanted = official.Wanted(paper.method, tuple(paper.rows), paper.splits, splits[0], paper.magnification)
    return official.search(options.weights, _setup(options, paper, "main", "random"), wanted)


def _checked(cells) -> None:
    """Raises InputError where an override decides the result: it would be another recipe's than the paper's."""
    for cell in cells:
        if words := [key for key in cell.settings if key != "weights"]:
            raise InputError(
                f"{', '.join(words)} decides the result, which would not be the published recipe's; leave it out, or "
                "use `evaluate` or `run`."
            )


def _evaluated(options, paper, splits) -> tuple[list[str], list]:
    """Evaluate the official files that are there.

    Returns:
        (in words what is missing, the folders of the results)
    """
    from benchmark.experiment import run as runner
    from benchmark.report.papers.files import files_table, lacking
    from benchmark.report.render.terminal import shown
    from benchmark.runtime import terminal

    candidates = _candidates(options, paper, splits)
    used = [one for one in candidates if one.cell and one.split in (None, *splits)]
    cells = [one.cell for one in used]
    _checked(cells)
    present = [(one.row, one.split, one.path.name) for one in candidates if one.cell]
    unused = [(one.path.name, one.why) for one in candidates if not one.cell]
    print(shown(files_table(paper, present, unused), terminal.room()))
    sys.stdout.flush()
    missing = lacking(paper, splits, present, options.weights)
    _prepare(cells)
    done = []
    for n, cell in enumerate(cells, 1):
        print(f"\n=== file {n}/{len(cells)}: {cell.run}", file=sys.stderr, flush=True)
        try:
            runner.main(cell)
            done.append(cell.folder)
        except InputError as error:
            missing.append(f"{cell.run} could not be evaluated ({error})")
    return missing, done


def _trained(options, paper, splits) -> tuple[list[str], list]:
    """Train what is missing with the published recipe; as `_evaluated`. A failed training leaves no folder."""
    from benchmark.experiment.grid import cells as grid
    from benchmark.experiment.launch import due, run_missing
    from benchmark.experiment.network_check import check_backbone, check_networks
    from benchmark.experiment.state import state_of
    from benchmark.results import provenance

    setup = _setup(options, paper, "published", options.backbone)
    cells = grid(setup, [f"{paper.method}@{row}" for row in paper.rows], list(splits), [0])
    _checked(cells)
    check_backbone(cells)
    check_networks(due(cells, options.stale == "rerun"))
    _prepare(cells)
    os.environ[provenance.COMMAND] = shlex.join(["python", "-m", "benchmark", *sys.argv[1:]])
    run_missing(cells, stale=options.stale == "rerun")
    states = [(cell, state_of(cell)) for cell in cells]
    missing = [f"{cell.run} is {state.name} ({state.why})" for cell, state in states if state.name != "done"]
    return missing, [cell.folder for cell, state in states if state.name == "done"]


def _prepare(cells) -> None:
    """Prepare the data of all cells, once: what is wrong with them is said before any cell."""
    from benchmark.data.store.prepare import prepare

    for split in sorted({cell.split for cell in cells}):
        prepare(
            cells[0].setup.source, cells[0].setup.cache, split=split, verify=False
        )  # every cell compares the hashes


def _compared(paper, splits: tuple[int, ...], done, missing: list[str]) -> int:
    """Print the comparison; the exit code.

    Args:
        splits: those asked for. done: folders of the results. missing: in words, what is.

    Raises:
        InputError: no figure is outside, and something is missing or has no verdict.
    """
    from benchmark.report.papers.compare import comparison_table, figures, without_mean
    from benchmark.report.render.terminal import shown
    from benchmark.results.collect import finished
    from benchmark.runtime import terminal

    runs = [finished(folder.path) for folder in done]
    measured = figures(paper, runs)
    print(shown(comparison_table(paper, measured), terminal.room()))
    if set(splits) == set(paper.splits):
        missing = [*missing, *without_mean(paper, runs)]
    if any(figure.within is False for figure in measured):
        for one in missing:
            print(f"missing: {one}", file=sys.stderr)
        return 1
    reasons = dict.fromkeys(" ".join(figure.why.split()) for figure in measured if figure.why)
    lacks = missing[:NAMED]
    if len(missing) > NAMED:
        lacks.append(f"{len(missing) - NAMED} more, in the table of files above")
    lacks += [f"without a verdict: {reason}" for reason in reasons]
    if lacks:
        raise InputError(f"{paper.name} is not reproduced in full: {'; '.join(lacks)}.")
    return 0


def _described(paper, options) -> str:
    """Name, title and files of a paper; with a folder of weights, which of them are there."""
    from benchmark.report.papers.files import files_table
    from benchmark.report.render.terminal import shown
    from benchmark.runtime import terminal

    present, others = [], []
    if options.weights is not None:
        candidates = _candidates(options, paper, paper.splits)
        present = [(one.row, one.split, one.path.name) for one in candidates if one.cell]
        others = [(one.path.name, one.why) for one in candidates if not one.cell]
    table = files_table(paper, present, others, searched=options.weights is not None)
    return shown(table, terminal.room())
