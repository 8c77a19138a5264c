"""`status`: the state of every cell."""

from benchmark.commands import _options as shared

HELP = "The state of every cell of an experiment, and why."
EXAMPLE = "--folds all"


def arguments(parser) -> None:
    shared.grid(parser)
    shared.several(parser)


def run(options) -> int:
    cells = shared.chosen_cells(options, writes=False)
    from benchmark.experiment import launch
    from benchmark.runtime import terminal

    cells[0].setup.source.folds()  # raises where the data are missing or damaged: no cell could run
    print(launch.status(cells, terminal.room()))
    return 0
