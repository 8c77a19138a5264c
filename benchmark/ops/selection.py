"""Which implementations of the op there are, which run here, and which one is taken."""

import functools
import os
import warnings
from types import ModuleType

import torch

from benchmark.ops import cpu, fallback, reference

VARIABLE = "BENCHMARK_OP_BACKEND"  # environment: the backend of all calls that name none
NAMES = ("cuda", "cpu", "torch", "reference")


def backends() -> dict[str, tuple[bool, str]]:
    """Name -> (works here, why not). Asking for the cpu backend compiles it, once per machine (about a second)."""
    return {
        "cuda": _cuda_usable(None),
        "cpu": cpu.usable(),
        "torch": (True, ""),
        "reference": (True, ""),
    }


def default_backend(device: torch.device | str = "cpu") -> str:
    """Name of the backend that `ms_deform_attn` takes on `device` when none is asked for.

    That of BENCHMARK_OP_BACKEND if it is set; else cuda on CUDA devices, cpu on CPUs, and torch everywhere else and
    where those do not run, which is warned of once per process.

    Raises:
        ValueError: BENCHMARK_OP_BACKEND is no backend, or one that cannot run on `device`.
    """
    device = torch.device(device)
    if chosen := os.environ.get(VARIABLE):
        check_backend(chosen, device, f"{VARIABLE} is")
        return chosen
    best = {"cuda": "cuda", "cpu": "cpu"}.get(device.type, "torch")
    works, why = _works(best, device)
    if not works:
        warn_once(best, why)
    return best if works else "torch"


def check_backend(name: str, device: torch.device, who: str = "backend is") -> None:
    """Raise ValueError unless backend `name` exists and runs on `device`."""
    check_name(name, who)
    works, why = _works(name, device)
    if not works:
        raise ValueError(f"{who} '{name}', which cannot run on {device}: {why}")


def check_name(name: str, who: str = "backend is") -> None:
    """Raise ValueError unless there is a backend `name`."""
    if name not in NAMES:
        raise ValueError(f"{who} '{name}', expected one of {', '.join(NAMES)}")


def implementation(name: str) -> ModuleType:
    """The module of a backend: forward(value, shapes, locations, weights) and backward(grad_output, …)."""
    if name == "cuda":
        from benchmark.ops import cuda

        return cuda
    return {"cpu": cpu, "torch": fallback, "reference": reference}[name]


def _works(name: str, device: torch.device) -> tuple[bool, str]:
    if name in ("torch", "reference"):
        return True, ""
    if device.type == "meta":  # shapes only: nothing is run
        return True, ""
    if device.type != name:
        return False, f"it takes tensors on {name} only"
    return _cuda_usable(device) if name == "cuda" else cpu.usable()


@functools.cache
def _cuda_usable(device: torch.device | None) -> tuple[bool, str]:
    try:
        return implementation("cuda").usable(device)
    except ImportError as error:
        return False, f"it cannot be imported: {error}"


@functools.cache
def warn_once(name: str, why: str) -> None:
    warnings.warn(
        f"deformable attention: the '{name}' backend cannot run here, the slower 'torch' backend takes over. {why}",
        RuntimeWarning,
        stacklevel=4,
    )
