"""`ablation`: the grid of an experiment."""

import os
import shlex
import sys

from benchmark.commands import _options as shared
from benchmark.runtime.errors import InputError

HELP = "Run the missing cells of an experiment, then print its table."
EXAMPLE = "--folds all"
LAUNCHERS = ("local", "slurm", "ray")


def arguments(parser) -> None:
    shared.grid(parser)
    shared.several(parser)
    shared.stale(parser)
    parser.add_argument("--launcher", choices=LAUNCHERS, default="local", help="what starts the cells (default local)")
    parser.add_argument(
        "--devices",
        help="of the launcher local, a cell at a time on each: auto (every GPU, else the processor), or cuda:0,cuda:1; "
        "cpu:2 for two cells at once on the processor (default: --device)",
    )
    parser.add_argument(
        "--slurm", help="of the launcher slurm: options of sbatch, such as 'partition=gpu time=4:00:00 gpus_per_node=1'"
    )
    parser.add_argument("--detach", action="store_true", help="of the launcher slurm: submit and do not wait")
    parser.add_argument("--ray", help="of the launcher ray: address of a cluster (default: one of this machine alone)")
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
    _check_launcher(options)
    cells = shared.chosen_cells(options)
    from benchmark.data.store.prepare import prepare
    from benchmark.experiment.launch import due, pretrain, run_missing
    from benchmark.experiment.launchers import devices
    from benchmark.experiment.network_check import check_backbone, check_networks
    from benchmark.results import provenance

    stale = options.stale == "rerun"
    check_backbone(cells)
    early = due(cells[i::n], stale)
    check_networks(early)
    launcher, at_once = _launcher(options)
    devices.share_threads(at_once)
    for split in sorted({cell.split for cell in cells}):
        prepare(cells[0].setup.source, options.cache, split=split, verify=False)  # every cell compares the hashes
    known = {str(cell.spec) for cell in early}
    # that these are due, only the data as they are now could show
    check_networks([cell for cell in due(cells[i::n], stale) if str(cell.spec) not in known])
    os.environ[provenance.COMMAND] = shlex.join(["python", "-m", "benchmark", *sys.argv[1:]])
    # before the cells: no other waits for the first, whose time is its own alone
    pretrain(cells[i::n], launcher.threads, stale)
    failures = run_missing(cells, launcher, keep_maps=options.keep_maps, stale=stale, shard=(i, n))
    if not options.detach:
        print(shared.written_tables(options, cells))
    return 1 if failures else 0


def _check_launcher(options) -> None:
    """Raises InputError for an option of another launcher than the chosen one."""
    owners = {"devices": "local", "slurm": "slurm", "detach": "slurm", "ray": "ray"}
    for name, owner in owners.items():
        if getattr(options, name) and options.launcher != owner:
            raise InputError(
                f"--{name} is of --launcher {owner}, and --launcher is {options.launcher}; give one of the two."
            )


def _launcher(options):
    """(launcher, cells that it runs at once on this machine)."""
    from benchmark.experiment.launchers import devices, local
    from benchmark.runtime.locks import check_locks

    if options.launcher == "local":
        from benchmark.runtime.distributed import resolve

        resolve(options.device)  # once, before every cell says it
        slots = devices.slots(options.devices, options.device)
        if options.shard != "0/1":
            check_locks(options.results)  # other machines may share it
        return local.Local(slots), len(slots)
    check_locks(options.results)
    check_locks(options.cache)
    if options.launcher == "slurm":
        from benchmark.experiment.launchers import slurm

        return slurm.Slurm(slurm.parse(options.slurm), options.results.resolve(), options.detach), 1
    from benchmark.experiment.launchers import ray

    return ray.Ray(options.ray), 1
