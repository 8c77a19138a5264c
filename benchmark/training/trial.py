"""A trial of a network's passes before training, as `recipe.compile` and `recipe.graph` make it."""

import contextlib
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from benchmark.runtime.precision import autocast
from benchmark.training import buffers

_TORCH = Path(torch.__file__).parent


@contextlib.contextmanager
def without_trace(method: torch.nn.Module, device: torch.device) -> Iterator[None]:
    """A network in training mode; on leaving, mode, buffers and random numbers are as before, gradients None."""
    was_training = method.training
    method.train()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []), buffers.kept(method):
            yield
    finally:
        method.train(was_training)
        method.zero_grad(set_to_none=True)


def squares(outputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """A loss that needs no targets and has a gradient for every output."""
    return torch.stack([values.float().square().mean() for values in outputs.values()]).sum()


def passes(
    method: torch.nn.Module,
    images: torch.Tensor,
    precision: str,
    keep: bool,
    loss: Callable[[dict[str, torch.Tensor]], torch.Tensor] = squares,
) -> None:
    """A forward and a backward pass over images (B, 3, H, W). precision, keep: as for `runtime.precision.autocast`."""
    with autocast(precision, images.device, keep):
        outputs = method(images)
    loss(outputs).backward()


def reason(error: BaseException) -> str:
    """An error in one line: its class, the first line of its message, and the innermost place outside torch."""
    lines = str(error).strip().splitlines() or [""]
    frames = [one for one in traceback.extract_tb(error.__traceback__) if _TORCH not in Path(one.filename).parents]
    place = f", at {'/'.join(Path(frames[-1].filename).parts[-2:])}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}: {lines[0][:200]}{place}"
