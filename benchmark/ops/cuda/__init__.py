"""Deformable attention on NVIDIA GPUs, from CUDA C++ that is compiled on first use: no toolkit, no build step.

The kernels (`*.cu`) are compiled for the device at hand by NVRTC, which torch's wheels bring, and kept in
`kernel_cache`. Arguments are those that `benchmark.ops.ms_deform_attn` has checked.
"""

import torch

from benchmark.ops.cuda import plan

__all__ = ["backward", "forward", "usable"]


def usable(device: torch.device | str | int | None = None) -> tuple[bool, str]:
    """(whether the kernels run on `device`, why not); None: the current CUDA device. Compiles nothing."""
    if torch.version.hip:
        return False, "this torch is built for ROCm"
    if not torch.cuda.is_available():
        return False, "torch sees no CUDA device"
    from benchmark.ops.cuda import driver

    try:
        driver.gpu(_index(device))
    except (OSError, RuntimeError, ValueError) as error:
        return False, str(error)
    return True, ""


def forward(
    value: torch.Tensor, shapes: list[tuple[int, int]], locations: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """Weighted sum of bilinear samples.

    Args:
        value: (B, S, M, D) on a CUDA device; float64, float32, bfloat16 or float16.
        shapes: (H, W) of each of L levels, at most 32; S = sum of H * W.
        locations: (B, Lq, M, L, P, 2) as (x, y), 0..1 over each level; used as float32 (float64 for float64 values).
        weights: (B, Lq, M, L, P); used likewise.

    Returns:
        (B, Lq, M * D) in value's dtype; sums are float32 (float64).

    Raises:
        ValueError: more than 32 levels, or S, Lq or L * P of 2**31 or more.
        OSError, RuntimeError: as `driver.Gpu`, nvrtc.CompileError included.
    """
    with torch.cuda.device(value.device):
        return plan.forward(_gpu(value), value, shapes, locations, weights)


def backward(
    grad_output: torch.Tensor,
    value: torch.Tensor,
    shapes: list[tuple[int, int]],
    locations: torch.Tensor,
    weights: torch.Tensor,
    deterministic: bool,
    scatter: bool | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of value, locations and weights, each in the dtype of its tensor; sums are float32 (float64).

    Args:
        grad_output: (B, Lq, M * D); the rest as `forward`.
        deterministic: the same bits every time on the same kind of device: no atomics.
        scatter: without `deterministic`, whether grad_value is summed by atomics; None takes them only where a pixel
            is read less than twice and the corners of a level are too many for shared memory: sorting is faster.

    Raises:
        ValueError: as `forward`, or scatter together with deterministic.
    """
    if deterministic and scatter:
        raise ValueError("scatter is True with deterministic, expected one of them: atomics add in an open order")
    if deterministic:
        scatter = False
    with torch.cuda.device(value.device):
        return plan.backward(_gpu(value), grad_output, value, shapes, locations, weights, scatter)


def _gpu(value: torch.Tensor):
    from benchmark.ops.cuda import driver

    return driver.gpu(_index(value.device))


def _index(device: torch.device | str | int | None) -> int:
    if isinstance(device, int):
        return device
    index = torch.device("cuda" if device is None else device).index
    return torch.cuda.current_device() if index is None else index
