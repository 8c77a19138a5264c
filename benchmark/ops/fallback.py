"""Backend "torch": public PyTorch functions only, so it runs on every device; gradients written out, deterministic.

Both passes are weighted sums of table rows (`embedding_bag`): of value's rows for every query and head, and, after
sorting the samples' corners by the row they touch, of grad_output's rows for every row of value.

A corner outside the image has a share of zero and the nearest pixel's row, of which a finite number times the share is
nothing. Where the sums show that a number was not finite, they are formed again with such corners `apart`: at a row of
zeros behind the table. On other devices than a CPU they always are, since a look at the sums would wait for the device.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

Shapes = tuple[tuple[int, int], ...]
_CHUNK_CPU, _CHUNK = 1 << 18, 1 << 26  # elements gathered at a time; on a CPU they stay in its cache
_SPREAD = 1 << 13  # rows of grad_value that take the corners outside, where those are kept apart, and are thrown away


def forward(value: torch.Tensor, shapes: Shapes, locations: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """As `ms_deform_attn`, arguments checked. Returns (B, Lq, M * D) in value's dtype."""
    batch, queries, heads = weights.shape[:3]
    dtype, bags = _exact(value), batch * queries * heads
    table = value.to(dtype).reshape(-1, value.shape[3])
    for apart in _attempts(table):
        x, y, rows = _corners(value, shapes, locations.to(dtype), apart)
        down = [y.factors[j] * weights for j in (0, 1)]
        factors = torch.stack([down[j] * x.factors[i] for j in (0, 1) for i in (0, 1)], -1).view(bags, -1)
        some = _with_zeros(table, apart)
        out = F.embedding_bag(rows.view(bags, -1), some, mode="sum", per_sample_weights=factors)
        if not apart and _surely_finite(out):
            break
    return out.view(batch, queries, -1).to(value.dtype)


def backward(
    grad_output: torch.Tensor,
    value: torch.Tensor,
    shapes: Shapes,
    locations: torch.Tensor,
    weights: torch.Tensor,
    deterministic: bool = True,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of value, locations and weights, each in its tensor's dtype; always deterministic."""
    batch, queries, heads = weights.shape[:3]
    bags, dtype = batch * queries * heads, _exact(value)
    table = value.to(dtype).reshape(-1, value.shape[3])
    grad = grad_output.to(dtype).reshape(bags, -1)
    weights_exact = weights.to(dtype)
    for apart in _attempts(table):
        x, y, rows = _corners(value, shapes, locations.to(dtype), apart)
        rows = rows.view(bags, -1)
        dots = _dots(_with_zeros(table, apart), rows, grad)
        if apart:  # also where grad is not finite
            dots = dots.masked_fill(rows == len(table), 0)
        elif _surely_finite(dots):
            break

    d = dots.view(*weights.shape, 2, 2).unbind(-2)
    d = [row.unbind(-1) for row in d]
    along = [x.factors[0] * d[j][0] + x.factors[1] * d[j][1] for j in (0, 1)]
    slope = [x.slopes[0] * d[j][0] + x.slopes[1] * d[j][1] for j in (0, 1)]
    grad_weights = y.factors[0] * along[0] + y.factors[1] * along[1]
    grad_x = (y.factors[0] * slope[0] + y.factors[1] * slope[1]) * weights_exact
    grad_y = (y.slopes[0] * along[0] + y.slopes[1] * along[1]) * weights_exact
    grad_locations = torch.stack([grad_x, grad_y], -1)

    down = [y.factors[j] * weights_exact for j in (0, 1)]
    factors = torch.stack([down[j] * x.factors[i] for j in (0, 1) for i in (0, 1)], -1).flatten()
    grad_value = _scatter(_spread(rows, len(table)) if apart else rows, factors, grad, len(table), apart)
    return (
        grad_value.view(value.shape).to(value.dtype),
        grad_locations.to(locations.dtype),
        grad_weights.to(weights.dtype),
    )


def _exact(value: torch.Tensor) -> torch.dtype:
    """float64 for float64, else float32: half precision is for storage, never for locations or sums."""
    return torch.float64 if value.dtype == torch.float64 else torch.float32


def _attempts(table: torch.Tensor) -> tuple[bool, ...]:
    """Values of `apart` to try one after the other."""
    return (False, True) if table.device.type == "cpu" else (True,)


def _surely_finite(sums: torch.Tensor) -> bool:
    """Whether no element is infinite or NaN; False also where they are so large that their sum is."""
    return math.isfinite(sums.sum().item())


def _with_zeros(table: torch.Tensor, apart: bool) -> torch.Tensor:
    """The table, and a row of zeros behind it where corners outside are kept apart."""
    return torch.cat([table, table.new_zeros(1, table.shape[1])]) if apart else table


@dataclass
class _Axis:
    """Along x or y, of a sample's lower and upper neighbour: index, whether it lies inside the image and the sample
    too, share of the sample, derivative of that share."""

    indices: tuple[torch.Tensor, torch.Tensor]
    held: tuple[torch.Tensor, torch.Tensor]
    factors: tuple[torch.Tensor, torch.Tensor]
    slopes: tuple[torch.Tensor, torch.Tensor]


def _axis(location: torch.Tensor, side: torch.Tensor, index: torch.dtype) -> _Axis:
    pixel = location * side - 0.5
    # the range is tested in float, before any cast: far or NaN coordinates have no integer
    inside = (pixel > -1) & (pixel < side)
    pixel = torch.where(inside, pixel, 0.0)
    low = pixel.floor()
    part = pixel - low
    held = inside & (low >= 0), inside & (low + 1 < side)
    share = held[0].to(pixel.dtype), held[1].to(pixel.dtype)
    return _Axis(
        # a neighbour outside has a share of zero, and the index of one inside
        indices=(low.clamp(min=0).to(index), torch.minimum(low + 1, side - 1).to(index)),
        held=held,
        factors=(share[0] * (1 - part), share[1] * part),
        slopes=(share[0] * -side, share[1] * side),
    )


def _corners(
    value: torch.Tensor, shapes: Shapes, locations: torch.Tensor, apart: bool
) -> tuple[_Axis, _Axis, torch.Tensor]:
    """Both axes (B, Lq, M, L, P), and the corners' rows (B, Lq, M, L, P, 4) in value as a table of B * S * M rows.

    Corners outside have the row behind the last where they are kept `apart`, else that of the nearest pixel.
    """
    batch, length, heads, _ = value.shape
    index = torch.int32 if batch * length * heads + _SPREAD < 2**31 else torch.int64

    def per_level(numbers: list[int], dtype: torch.dtype) -> torch.Tensor:
        # filled in place: copying a list to a GPU waits until the GPU has nothing else to do
        return torch.cat([torch.full((1, 1), number, dtype=dtype, device=value.device) for number in numbers])

    x = _axis(locations[..., 0], per_level([w for _, w in shapes], locations.dtype), index)
    y = _axis(locations[..., 1], per_level([h for h, _ in shapes], locations.dtype), index)
    starts = [0]
    for h, w in shapes[:-1]:
        starts.append(starts[-1] + h * w)
    image = torch.arange(batch, dtype=index, device=value.device).view(batch, 1, 1, 1, 1) * (length * heads)
    head = torch.arange(heads, dtype=index, device=value.device).view(1, 1, heads, 1, 1)
    first = image + head + per_level(starts, index) * heads
    line = per_level([w for _, w in shapes], index) * heads
    lines = [y.indices[j] * line + first for j in (0, 1)]
    places = [x.indices[i] * heads for i in (0, 1)]
    rows = [lines[j] + places[i] for j in (0, 1) for i in (0, 1)]
    if apart:
        held = [y.held[j] & x.held[i] for j in (0, 1) for i in (0, 1)]
        rows = [row.masked_fill(~inside, batch * length * heads) for row, inside in zip(rows, held)]
    return x, y, torch.stack(rows, -1)


def _dots(table: torch.Tensor, rows: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    """(bags, K): of every row that a bag names with the bag's row of grad."""
    chunk = _CHUNK_CPU if table.device.type == "cpu" else _CHUNK
    bags = max(1, chunk // max(1, rows.shape[1] * table.shape[1]))
    out = []
    for some, right in zip(rows.split(bags), grad.split(bags)):
        left = table.index_select(0, some.flatten()).view(*some.shape, -1)
        out.append((left * right.unsqueeze(1)).sum(-1))
    return torch.cat(out)


def _spread(rows: torch.Tensor, length: int) -> torch.Tensor:
    """The row `length`, of all corners outside, as one of the `_SPREAD` from there on.

    On a GPU a row is summed by one thread per channel: of a tenth of 1.5 million corners, in 30 ms. They cannot be left
    out of the sums either: the last bag of `embedding_bag` holds all that follows there, whatever the last offset is
    (https://github.com/pytorch/pytorch/issues/76885), and their number is not known without waiting for the device.
    """
    further = torch.arange(len(rows), dtype=rows.dtype, device=rows.device).remainder(_SPREAD) + length
    return torch.where(rows == length, further.unsqueeze(1), rows)


def _scatter(rows: torch.Tensor, factors: torch.Tensor, grad: torch.Tensor, length: int, spread: bool) -> torch.Tensor:
    """(length, D): for every row, the sum of factor x grad of the bags that name it, in the order of the bags."""
    ordered, order = rows.flatten().sort(stable=True)
    named = length + spread * min(_SPREAD, len(rows))
    first = torch.searchsorted(ordered, torch.arange(named, dtype=rows.dtype, device=rows.device))
    bags = order // rows.shape[1]
    return F.embedding_bag(bags, grad, first, mode="sum", per_sample_weights=factors[order])[:length]
