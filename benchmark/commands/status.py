"""`status`: the state of every cell."""

from benchmark.commands import _options as shared

HELP = "The state of every cell of an experiment, and why."
EXAMPLE = "--folds all"


def arguments(parser) -> None:
    shared.grid(parser)
    shared.several(parser)


def run(options) -> int:
    from benchmark.experiment import launch

    print(launch.status(shared.chosen_cells(options, writes=False)))
    return 0
