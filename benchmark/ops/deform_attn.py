"""Multi-scale deformable attention (Zhu et al., Deformable DETR, ICLR 2021, eq. 3).

`ms_deform_attn` is the operator, `MSDeformAttn` the layer around it, `backends()` lists what runs here.
Imports nothing of the benchmark: it can be used alone.
"""

from collections.abc import Sequence

import torch

from benchmark.ops.autograd import attend
from benchmark.ops.selection import check_backend, check_name

_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def ms_deform_attn(
    value: torch.Tensor,
    spatial_shapes: torch.Tensor | Sequence[tuple[int, int]],
    sampling_locations: torch.Tensor,
    attention_weights: torch.Tensor,
    *,
    backend: str | None = None,
) -> torch.Tensor:
    """Sum over levels and points of weight x bilinear sample, zero outside.

    Args:
        value: (B, S, M, D) float32, float64, bfloat16 or float16; pixels level by level, row by row; M heads of D
            channels.
        spatial_shapes: (H, W) of each of L levels, sum of H * W = S: a sequence of Python integers, or an integer
            tensor (L, 2), which costs a synchronisation on a GPU.
        sampling_locations: (B, Lq, M, L, P, 2) as (x, y), float32 (float64 with a float64 value, where they must be);
            0 and 1 are the outer edges of a level's first and last pixel. A sample counts where -1 < x * W - 0.5 < W,
            and y alike; NaN counts as outside. Half precision is refused: it would move the samples.
        attention_weights: (B, Lq, M, L, P), already normalised; float32 or value's dtype.
        backend: a name from `backends()`; None takes `default_backend`.

    Returns:
        (B, Lq, M * D) in value's dtype; sums are float32 (float64 for float64 values). At integer coordinates the
        gradient of the locations is the right-hand derivative. There is no second derivative: asking for it raises.

    Raises:
        TypeError: an argument is no tensor of such a dtype, or the shapes are no integers.
        ValueError: shapes or devices that do not fit; unknown backend, or one that cannot run here.
    """
    shapes = _check(value, spatial_shapes, sampling_locations, attention_weights)
    if backend is not None:
        check_name(backend)
        if not torch.compiler.is_compiling():
            check_backend(backend, value.device)
    return attend(value, shapes, sampling_locations, attention_weights, backend)


def _check(value, spatial_shapes, sampling_locations, attention_weights) -> tuple[tuple[int, int], ...]:
    """Refuse what does not fit; return the levels' shapes as Python integers."""
    tensors = {
        "value": (value, "(B, S, M, D)"),
        "sampling_locations": (sampling_locations, "(B, Lq, M, L, P, 2)"),
        "attention_weights": (attention_weights, "(B, Lq, M, L, P)"),
    }
    for name, (tensor, expected) in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name} is a {type(tensor).__name__}, expected a tensor {expected}")
        if tensor.layout != torch.strided or tensor.is_nested:
            layout = "nested" if tensor.is_nested else tensor.layout
            raise TypeError(f"{name} is a {layout} tensor, expected a dense one {expected}")
        if tensor.ndim != expected.count(",") + 1:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {expected}")
        if tensor.device != value.device:
            raise ValueError(f"{name} is on {tensor.device}, expected value's device {value.device}")
    _check_dtypes(value.dtype, sampling_locations.dtype, attention_weights.dtype)
    shapes = _shapes(spatial_shapes)
    batch, length, heads, _ = value.shape
    if (total := sum(h * w for h, w in shapes)) != length:
        raise ValueError(f"spatial_shapes {shapes} hold {total} pixels, expected S = {length} as in value")
    queries, points = sampling_locations.shape[1], sampling_locations.shape[4]
    expected = (batch, queries, heads, len(shapes), points)
    if tuple(sampling_locations.shape) != (*expected, 2):
        raise ValueError(f"sampling_locations has shape {tuple(sampling_locations.shape)}, expected {(*expected, 2)}")
    if tuple(attention_weights.shape) != expected:
        raise ValueError(f"attention_weights has shape {tuple(attention_weights.shape)}, expected {expected}")
    return shapes


def _check_dtypes(value: torch.dtype, locations: torch.dtype, weights: torch.dtype) -> None:
    if value not in _DTYPES:
        raise TypeError(f"value has dtype {value}, expected one of {', '.join(map(str, _DTYPES))}")
    exact = torch.float64 if value == torch.float64 else torch.float32
    if locations != exact:
        raise TypeError(f"sampling_locations has dtype {locations}, expected {exact} with a value of {value}")
    if weights not in (exact, value):
        expected = str(exact) if exact == value else f"{exact} or {value}"
        raise TypeError(f"attention_weights has dtype {weights}, expected {expected}")


def _shapes(spatial_shapes) -> tuple[tuple[int, int], ...]:
    if isinstance(spatial_shapes, torch.Tensor):
        if not _integral(spatial_shapes):
            raise TypeError(f"spatial_shapes has dtype {spatial_shapes.dtype}, expected integers (L, 2)")
        if spatial_shapes.is_meta or spatial_shapes.layout != torch.strided:
            raise TypeError("spatial_shapes is a tensor without readable data, expected Python integers (H, W)")
        spatial_shapes = spatial_shapes.tolist()
    try:
        shapes = [(h, w) for h, w in spatial_shapes]
    except (TypeError, ValueError):
        raise ValueError(f"spatial_shapes is {spatial_shapes!r}, expected (H, W) of each level") from None
    if not all(_integral(side) for shape in shapes for side in shape):
        raise TypeError(f"spatial_shapes is {shapes}, expected integers")
    if not shapes or any(side < 1 for shape in shapes for side in shape):
        raise ValueError(f"spatial_shapes is {shapes}, expected at least one level with sides of 1 or more")
    return tuple((int(h), int(w)) for h, w in shapes)


def _integral(number) -> bool:
    if isinstance(number, torch.Tensor):
        return not (number.is_floating_point() or number.is_complex() or number.dtype == torch.bool)
    return hasattr(number, "__index__") and not isinstance(number, bool)
