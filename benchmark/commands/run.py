"""`run`: one cell."""

import argparse

from benchmark.commands import _options as shared
from benchmark.runtime.errors import InputError

HELP = "Run one cell: a method on a fold."
EXAMPLE = "--method hovernet --fold 2"


def arguments(parser) -> None:
    shared.grid(parser)
    shared.method(parser, "method@row,key=value,recipe.key=value, such as cellvta@small,points=8")
    shared.fold(parser)
    parser.add_argument("--seed", type=int, default=0, help="seed (default 0)")
    shared.keep_maps(parser)
    parser.add_argument("--request", help=argparse.SUPPRESS)  # of the grid: the whole cell as JSON, in place of options


def run(options) -> int:
    if not options.request:
        if not options.method:
            raise InputError("--method is missing; for example: --method hovernet.")
        setup = shared.setup(options)
    from benchmark.experiment import run as runner
    from benchmark.experiment.network_check import check_backbone, check_networks
    from benchmark.experiment.request import Request

    if options.request:  # of a grid, which has checked the networks
        request = Request.from_text(options.request)
    else:
        request = Request(setup, options.method, options.fold, options.seed, options.keep_maps)
        check_backbone([request.cell()])
        check_networks([request.cell()])
    runner.main(request.cell(), keep_maps=request.keep_maps)
    return 0
