"""What training changes from epoch to epoch: all that a checkpoint holds."""

from dataclasses import dataclass, field
from typing import Any

import torch

from benchmark.runtime.timm_alone import ModelEmaV3
from benchmark.training import optim
from benchmark.training.recipe import Recipe

PLAIN = ("phase", "epoch", "best_epoch", "best_bpq", "stale", "log", "seconds", "weights")


@dataclass
class TrainState:
    """A training between two epochs.

    Attributes:
        method: the network, a `methods.base.Method`.
        ema: moving average of its weights, or None.
        optimiser, scaler: the latter is idle but in fp16.
        phase: index of the phase that the optimiser belongs to.
        epoch: epochs that are done, so that it is the next one's number, counted from 0.
        best_epoch: the epoch with the highest validation bPQ, -1 before the first validation.
        best_bpq: its bPQ, None where it has no value.
        stale: validations since then.
        log: a line per epoch, as in log.jsonl.
        seconds: that the epochs took.
        weights: SHA-256 of the stored weights of the best epoch, "" before the first validation.
    """

    method: Any
    ema: ModelEmaV3 | None
    optimiser: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    phase: int = 0
    epoch: int = 0
    best_epoch: int = -1
    best_bpq: float | None = None
    stale: int = 0
    log: list[dict] = field(default_factory=list)
    seconds: float = 0.0
    weights: str = ""

    @classmethod
    def new(cls, method, recipe: Recipe, precision: str, device: torch.device) -> "TrainState":
        """The state before the first epoch. method: on the device."""
        return cls(
            method,
            ModelEmaV3(method, decay=recipe.ema, use_warmup=True) if recipe.ema else None,
            optim.optimiser(method, recipe.optimiser),
            torch.amp.GradScaler(device.type, enabled=precision == "fp16"),
        )

    @property
    def judged(self) -> torch.nn.Module:
        """What is validated and kept: the moving average where there is one."""
        return self.ema.module if self.ema else self.method

    def update_best(self, epoch: int, bpq: float | None) -> bool:
        """Take note of a validation; True where the epoch is the best so far: a tie goes to the later, as published.

        Without a value all epochs are alike, so that the last is kept.
        """
        is_best = self.best_epoch < 0 or (bpq or 0.0) >= (self.best_bpq or 0.0)
        if is_best:
            self.best_epoch, self.best_bpq, self.stale = epoch, bpq, 0
        else:
            self.stale += 1
        return is_best

    def state_dict(self) -> dict:
        """Tensors and plain Python values only."""
        return {
            "method": self.method.state_dict(),
            "ema": self.ema.module.state_dict() if self.ema else {},
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
        } | {name: getattr(self, name) for name in PLAIN}

    def load(self, state: dict) -> None:
        """Go back to what `state_dict` returned, under the same recipe."""
        self.method.load_state_dict(state["method"])
        if self.ema:
            self.ema.module.load_state_dict(state["ema"])
        self.optimiser.load_state_dict(state["optimiser"])
        _laid_out_alike(self.optimiser)
        self.scaler.load_state_dict(state["scaler"])
        for name in PLAIN:
            if name in state:  # checkpoints of earlier code have no hash of the weights
                setattr(self, name, state[name])


def _laid_out_alike(optimiser: torch.optim.Optimizer) -> None:
    """Give an optimiser's state, such as of a checkpoint, the memory layout of its parameters: fused updates go through
    the memory of both, element by element, whatever the layouts."""
    for parameter, own in optimiser.state.items():
        for name, value in own.items():
            if torch.is_tensor(value) and value.shape == parameter.shape and value.stride() != parameter.stride():
                own[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
