"""`status`: the state of every cell."""

from benchmark import options as shared

HELP = "The state of every cell of an experiment, and why."
EXAMPLE = "--folds all"


def arguments(parser) -> None:
    shared.grid(parser)
    shared.several(parser)


def run(options) -> int:
    from benchmark import grid

    print(grid.status(shared.chosen_cells(options)))
    return 0
