"""Training logs as TensorBoard events below --logdir."""

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

HINT = "look: tensorboard --logdir {logdir}"


class Writer:
    """A folder of events; see `trackers`."""

    def __init__(self, logdir: Path, name: str, mark: str):
        self._events = SummaryWriter(str(logdir / name))

    def write(self, values: dict[str, float], step: int) -> None:
        for tag, value in values.items():
            self._events.add_scalar(tag, value, step)
        self._events.flush()

    def close(self) -> None:
        self._events.close()
