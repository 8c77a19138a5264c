"""`track`: training logs into TensorBoard, Weights & Biases or MLflow."""

from pathlib import Path

from benchmark.commands import _options as shared
from benchmark.experiment import trackers

HELP = "Write the training logs of all runs, also of running ones, for TensorBoard, W&B or MLflow (extras)."
EXAMPLE = "--logdir tensorboard --follow 10"


def arguments(parser) -> None:
    shared.results(parser)
    parser.add_argument("--logdir", type=Path, required=True, help="where the events, or files of runs, go")
    parser.add_argument(
        "--to",
        choices=tuple(trackers.EXTRAS),
        default="tensorboard",
        help="tool (default tensorboard); wandb heeds WANDB_MODE, mlflow MLFLOW_TRACKING_URI",
    )
    parser.add_argument(
        "--follow", type=float, metavar="SECONDS", help="look again every so many seconds until stopped"
    )


def run(options) -> int:
    import functools
    import time

    from benchmark.results.track import Tracker
    from benchmark.runtime.errors import InputError

    tool = trackers.tool(options.to)
    kept = options.logdir / f"written-{options.to}.json"
    tracker = Tracker(options.results, functools.partial(tool.Writer, options.logdir), kept)
    if not options.follow and not options.results.is_dir():
        raise InputError(f"'{options.results}' is no folder of results; correct --results, or wait with --follow 30.")
    try:
        count = tracker.update()
        print(f"{count} epochs written to {options.logdir}; {tool.HINT.format(logdir=options.logdir)}", flush=True)
        while options.follow:
            time.sleep(options.follow)
            tracker.update()
    finally:
        tracker.close()
    return int(tracker.failed)
