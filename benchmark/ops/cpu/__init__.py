"""Backend "cpu": a C kernel. Bits do not depend on the number of threads: one thread owns what it writes."""

import ctypes
import functools

import torch
import torch.nn.functional as F

from benchmark.ops.cpu import build

Shapes = tuple[tuple[int, int], ...]

_POINTERS = "table locations weights grad_output output grad_table grad_locations grad_weights shapes".split()
_NUMBERS = "batch length heads channels queries levels points image head row run".split()
_RUN = 128  # queries that one thread takes at a time in the forward pass


class _Problem(ctypes.Structure):
    """`Problem` of kernel.c."""

    _fields_ = [(name, ctypes.c_void_p) for name in _POINTERS] + [(name, ctypes.c_int64) for name in _NUMBERS]


@functools.cache
def usable() -> tuple[bool, str]:
    """(True, "") when the kernel compiles and runs here, else (False, why not)."""
    try:
        build.library(torch.float32)
    except RuntimeError as error:
        return False, str(error)
    return True, ""


def forward(value: torch.Tensor, shapes: Shapes, locations: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """As `ms_deform_attn`, arguments checked; any strides. Returns (B, Lq, M * D) in value's dtype."""
    dtype = _exact(value)
    table, at_pixels = _table(value, locations, dtype)
    problem, kept = _problem(table, at_pixels, shapes, locations, weights, dtype)
    out = table.new_empty(value.shape[0], locations.shape[1], value.shape[2], table.shape[3])
    problem.output = out.data_ptr()
    _launch(problem, dtype, backward=False)
    del kept
    return out[..., : value.shape[3]].flatten(2).to(value.dtype).contiguous()  # one head's padding stays in a view


def backward(
    grad_output: torch.Tensor,
    value: torch.Tensor,
    shapes: Shapes,
    locations: torch.Tensor,
    weights: torch.Tensor,
    deterministic: bool = True,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of value, locations and weights, each in its tensor's dtype; always deterministic."""
    dtype, channels = _exact(value), value.shape[3]
    table, at_pixels = _table(value, locations, dtype)
    problem, kept = _problem(table, at_pixels, shapes, locations, weights, dtype)
    grad = grad_output.reshape(*locations.shape[:3], channels).to(dtype)
    grad = F.pad(grad, (0, table.shape[3] - channels)) if table.shape[3] > channels else grad
    grad = grad.contiguous()
    grads = torch.empty_like(table), *(table.new_empty(t.shape) for t in (locations, weights))
    problem.grad_output = grad.data_ptr()
    problem.grad_table, problem.grad_locations, problem.grad_weights = (g.data_ptr() for g in grads)
    _launch(problem, dtype, backward=True)
    del kept
    grad_value = grads[0][..., :channels] if at_pixels else grads[0][..., :channels].transpose(1, 2)
    return (
        grad_value.to(value.dtype).contiguous(),
        grads[1].to(locations.dtype),
        grads[2].to(weights.dtype),
    )


def _exact(value: torch.Tensor) -> torch.dtype:
    return torch.float64 if value.dtype == torch.float64 else torch.float32


def _table(value: torch.Tensor, locations: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, bool]:
    """Rows for the kernel, and whether they lie as in value, (B, S, M, D), or head by head, (B, M, S, D).

    Channels are padded to whole vectors of 64 bytes. A head's rows are brought together when there are more samples
    than rows: that pays for the copy, and neighbours then share pages and do not compete for the same cache sets.
    """
    if value.shape[1] >= 2**31:
        raise ValueError(f"value has {value.shape[1]} pixels per image, expected fewer than 2**31 on the cpu backend")
    channels, lanes = value.shape[3], 64 // dtype.itemsize
    samples = locations.shape[1] * locations.shape[3] * locations.shape[4]
    at_pixels = channels % lanes == 0 and samples < value.shape[1]
    table = value if at_pixels else value.transpose(1, 2)
    table = table.to(dtype)
    if channels % lanes:
        table = F.pad(table, (0, -channels % lanes))
    return table.contiguous(), at_pixels


def _problem(table, at_pixels: bool, shapes: Shapes, locations, weights, dtype: torch.dtype) -> tuple[_Problem, tuple]:
    """The kernel's arguments, and what must live until it returns."""
    locations, weights = locations.to(dtype).contiguous(), weights.to(dtype).contiguous()
    sides = (ctypes.c_int64 * (2 * len(shapes)))(*(side for shape in shapes for side in shape))
    image, first, second, _ = table.stride()
    batch, queries, heads, levels, points = weights.shape
    problem = _Problem(
        table=table.data_ptr(),
        locations=locations.data_ptr(),
        weights=weights.data_ptr(),
        shapes=ctypes.addressof(sides),
        batch=batch,
        length=table.shape[1 if at_pixels else 2],
        heads=heads,
        channels=table.shape[3],
        queries=queries,
        levels=levels,
        points=points,
        image=image,
        head=second if at_pixels else first,
        row=first if at_pixels else second,
        run=_RUN,
    )
    return problem, (table, locations, weights, sides)


def _launch(problem: _Problem, dtype: torch.dtype, backward: bool) -> None:
    call = build.library(dtype).ms_deform_attn
    if call(ctypes.byref(problem), int(backward), torch.get_num_threads(), build.team()):
        raise MemoryError("ms_deform_attn: no memory for a block of samples")
