"""`ablation`: the grid of an experiment."""

import os
import shlex
import sys

from benchmark.commands import _options as shared
from benchmark.runtime.errors import InputError

HELP = "Run the missing cells of an experiment, then print its table."
EXAMPLE = "--folds all"


def arguments(parser) -> None:
    shared.grid(parser)
    shared.several(parser)
    parser.add_argument(
        "--stale",
        choices=("keep", "rerun"),
        default="keep",
        help="stale cells: leave them, or move them aside and run anew",
    )
    parser.add_argument(
        "--devices",
        help="of --launcher local, a cell at a time on each: auto (every GPU, else the processor), or cuda:0,cuda:1; "
        "cpu:2 for two cells at once on the processor (default: --device)",
    )
    parser.add_argument("--shard", default="0/1", help="i/n: run cells i, i+n, … on this machine (default 0/1)")
    shared.reports(parser)
    shared.keep_maps(parser)


def run(options) -> int:
    try:
        i, n = (int(v) for v in options.shard.split("/"))
        if not 0 <= i < n:
            raise ValueError
    except ValueError:
        raise InputError(f"--shard is '{options.shard}'; expected i/n with 0 <= i < n, such as 0/4.") from None
    cells = shared.chosen_cells(options)
    from benchmark.data.store.prepare import prepare
    from benchmark.experiment.launch import pretrain, run_missing
    from benchmark.experiment.launchers import devices
    from benchmark.experiment.launchers.local import Local
    from benchmark.results import provenance
    from benchmark.runtime.distributed import resolve

    resolve(options.device)  # once, before every cell says it
    slots = devices.slots(options.devices, options.device)
    devices.share_threads(len(slots))
    for split in sorted({cell.split for cell in cells}):
        prepare(cells[0].setup.source, options.cache, split=split, verify=False)  # every cell compares the hashes
    os.environ[provenance.COMMAND] = shlex.join(["python", "-m", "benchmark", *sys.argv[1:]])
    if len(slots) > 1:
        pretrain(cells[i::n])  # else the first cell does, and the others wait for it
    stale = options.stale == "rerun"
    failures = run_missing(cells, Local(slots), keep_maps=options.keep_maps, stale=stale, shard=(i, n))
    print(shared.written_tables(options, cells))
    return 1 if failures else 0
