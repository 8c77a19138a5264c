"""`track`: training logs into TensorBoard."""

from pathlib import Path

from benchmark.commands import _options as shared

HELP = "Write the training logs of all runs, also of running ones, as TensorBoard events (extra: track)."
EXAMPLE = "--logdir tensorboard --follow 10"


def arguments(parser) -> None:
    shared.results(parser)
    parser.add_argument("--logdir", type=Path, required=True, help="where the events go")
    parser.add_argument(
        "--follow", type=float, metavar="SECONDS", help="look again every so many seconds until stopped"
    )


def run(options) -> int:
    import time

    from benchmark.results.track import Tracker
    from benchmark.runtime.errors import InputError

    try:
        from tensorboard.compat.proto.event_pb2 import Event  # noqa: F401
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise InputError("TensorBoard is not installed; install the extra: pip install -e '.[track]'.") from None
    tracker = Tracker(options.results, lambda name: SummaryWriter(str(options.logdir / name)))
    written = tracker.update()
    print(f"{written} epochs written to {options.logdir}; look: tensorboard --logdir {options.logdir}")
    while options.follow:
        time.sleep(options.follow)
        tracker.update()
    return 0
