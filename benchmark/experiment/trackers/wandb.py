"""Training logs as runs of Weights & Biases, in the project `benchmark`; WANDB_MODE=offline keeps them in --logdir."""

import time
from pathlib import Path

import wandb

HINT = "runs kept offline are sent by: wandb sync {logdir}/wandb/offline-run-*"


class Writer:
    """A run whose id is the mark, so that a later call goes on with it; see `trackers`."""

    def __init__(self, logdir: Path, name: str, mark: str):
        logdir.mkdir(parents=True, exist_ok=True)
        # wandb names an offline run's files by its id and the second: of two in one second the later replaces the first
        while any((logdir / "wandb").glob(f"*run-{time.strftime('%Y%m%d_%H%M%S')}-{mark}")):
            time.sleep(0.1)
        # of this process neither output nor load is sent: it trains nothing
        settings = wandb.Settings(console="off", silent=True, disable_git=True, x_disable_stats=True)
        self._run = wandb.init(
            project="benchmark",
            name=name,
            dir=str(logdir),
            id=mark,
            resume="allow",
            reinit="create_new",
            settings=settings,
        )

    def write(self, values: dict[str, float], step: int) -> None:
        self._run.log(values, step=step, commit=True)

    def close(self) -> None:
        self._run.finish()
