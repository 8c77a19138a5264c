"""The process group: one process, or several under torchrun."""

import datetime
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist

from benchmark.runtime.errors import InputError


@dataclass(frozen=True)
class World:
    """The process group as seen from this process.

    Attributes:
        rank: of this process, from 0.
        size: number of processes.
        device: of this process.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def local(self) -> int:
        """Processes on this machine."""
        return _variable("LOCAL_WORLD_SIZE", 1) if self.size > 1 else 1

    @property
    def first(self) -> bool:
        return self.rank == 0

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()

    def gather(self, value) -> list:
        """Values of all ranks, in order of rank, on every rank (CPU objects)."""
        if self.size == 1:
            return [value]
        values = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def gather_first(self, value) -> list:
        """Values of all ranks, in order of rank, on the first rank; [] on the others (CPU objects)."""
        if self.size == 1:
            return [value]
        values: list | None = [None] * self.size if self.first else None
        dist.gather_object(value, values, dst=0)
        return values or []

    def share_first(self, value):
        """The first rank's value, on every rank (a CPU object)."""
        if self.size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def share_buffers(self, module: torch.nn.Module) -> None:
        """Give every rank the first one's buffers (batch-norm statistics), so that all ranks evaluate one model."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, 0)


def processes() -> int:
    """How many processes torchrun started, 1 without it. Raises InputError for a WORLD_SIZE that is no number."""
    return _variable("WORLD_SIZE", 1)


def _variable(name: str, default: int) -> int:
    """A variable of torchrun's; an empty one counts as not set."""
    text = os.environ.get(name) or str(default)
    if not text.isdecimal():
        raise InputError(
            f"{name} is {text!r} in the environment; expected a whole number, as torchrun sets it: unset it."
        )
    return int(text)


def start(device: str) -> World:
    """Join the process group when torchrun started this process.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:<i>".

    Raises:
        InputError: `device` is a GPU and there is none, or fewer than this machine has processes.
    """
    size, rank = processes(), _variable("RANK", 0)
    here = _variable("LOCAL_WORLD_SIZE", 1) if size > 1 else 1
    if here > 1 and device.startswith("cuda:"):
        raise InputError(
            f"--device {device} was asked for, but torchrun started {here} processes on this machine, which cannot "
            "share a GPU; use --device cuda, and each takes one."
        )
    chosen = resolve(device)
    if size > 1:
        if chosen == "cuda":
            if here > torch.cuda.device_count():
                raise InputError(
                    f"torchrun started {here} processes on this machine, which has {torch.cuda.device_count()} GPUs; "
                    "set --nproc_per_node to their number, or use --device cpu."
                )
            chosen = f"cuda:{os.environ.get('LOCAL_RANK', 0)}"
        backend = "nccl" if chosen.startswith("cuda") else "gloo"
        dist.init_process_group(backend, timeout=datetime.timedelta(hours=4))
    where = torch.device(chosen)
    if where.type == "cuda":  # by its number: torch chooses no GPU by the word alone
        where = torch.device("cuda", torch.cuda.current_device() if where.index is None else where.index)
        torch.cuda.set_device(where)
    return World(rank, size, where)


def stop(world: World) -> None:
    """Leave the process group."""
    if world.size > 1:
        dist.destroy_process_group()


def resolve(device: str, option: str = "--device") -> str:
    """ "auto" becomes "cuda" where there is one, else "cpu". Raises InputError for a device that is not here.

    "mps", Apple's GPU, is taken where it is named: nothing here has been run on one.

    Args:
        option: what the device was named with, for sentences.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise InputError(f"{option} is '{device}'; expected auto, cpu, cuda, cuda:<number> or mps.") from error
    if kind not in ("cpu", "cuda", "mps"):
        raise InputError(f"{option} is '{device}'; expected auto, cpu, cuda, cuda:<number> or mps.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise InputError(
            f"{option} is mps, and torch {torch.__version__} sees no GPU of Apple here; expected auto, cpu, cuda or "
            "cuda:<number>."
        )
    index = torch.device(device).index or 0
    if kind == "cuda" and torch.cuda.is_available() and index >= torch.cuda.device_count():
        raise InputError(f"{option} {device} was asked for, but there are {torch.cuda.device_count()}, counted from 0.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(
            f"{option} {device} was asked for, but torch {torch.__version__} sees no CUDA device here; use "
            f"{option} cpu, or auto, or give it a driver and a torch that fit each other (`python -m benchmark doctor` "
            "says what is here)."
        )
    return device
