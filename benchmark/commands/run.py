"""`run`: one cell."""

from benchmark.commands import _options as shared

HELP = "Run one cell: a method on a fold."
EXAMPLE = "--method hovernet --fold 2"


def arguments(parser) -> None:
    shared.grid(parser)
    parser.add_argument("--method", required=True, help="method@row,key=value, such as cellvta@small,points=8")
    parser.add_argument("--fold", type=int, default=1, help="published split, counted from 1 (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed (default 0)")
    shared.keep_maps(parser)


def run(options) -> int:
    from benchmark.experiment import run as runner
    from benchmark.experiment.grid import cells

    (cell,) = cells(shared.setup(options), [options.method], [options.fold], [options.seed])
    runner.main(cell, keep_maps=options.keep_maps)
    return 0
