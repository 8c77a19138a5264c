"""Multi-scale deformable attention in plain PyTorch: every device, every dtype, gradients by autograd.

Two forms of the same sum: `gather_sum` reads the four neighbours of every sample by one `embedding_bag`,
`grid_sample_sum` is the textbook form and the reference that others are tested against. `torch_sum` (backend
"torch") takes the faster. All expect arguments that `deform_attn.ms_deform_attn` has checked.
"""

import torch
import torch.nn.functional as F


def working_dtype(value: torch.Tensor) -> torch.dtype:
    """float64 for float64, else float32: half precision is for storage, never for locations or sums."""
    return torch.float64 if value.dtype == torch.float64 else torch.float32


def torch_sum(
    value: torch.Tensor,
    shapes: list[tuple[int, int]],
    locations: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """The faster of the two forms below, by device and channels per head; arguments as `gather_sum`."""
    # embedding_bag's backward visits every table row alone: on a CPU that pays from about 32 channels on
    narrow = value.device.type == "cpu" and value.shape[-1] < 32
    return (grid_sample_sum if narrow else gather_sum)(value, shapes, locations, weights)


def gather_sum(
    value: torch.Tensor,
    shapes: list[tuple[int, int]],
    locations: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """Weighted bilinear samples as one weighted sum of table rows per query and head.

    Args:
        value: (B, S, M, D).
        shapes: (H, W) of each level, S = sum of H * W.
        locations: (B, Lq, M, L, P, 2) as (x, y), 0..1 over each level.
        weights: (B, Lq, M, L, P).

    Returns:
        (B, Lq, M * D) in value's dtype. A sample counts where -1 < x < W and -1 < y < H in pixels; NaN counts
        as outside.
    """
    batch, length, heads, channels = value.shape
    queries, levels, points = locations.shape[1], len(shapes), locations.shape[4]
    dtype, device = working_dtype(value), value.device
    if value.numel() == 0 or locations.numel() == 0:
        return _empty(value, locations, weights)
    table = value.to(dtype).reshape(batch * length * heads, channels)
    size = torch.tensor([(w, h) for h, w in shapes], dtype=dtype, device=device).view(levels, 1, 2)
    wide = torch.tensor([w for _, w in shapes], device=device).view(levels, 1)
    starts = [0]
    for h, w in shapes[:-1]:
        starts.append(starts[-1] + h * w)
    start = torch.tensor(starts, device=device).view(levels, 1)

    pixel = locations.to(dtype) * size - 0.5
    inside = ((pixel > -1) & (pixel < size)).all(-1)
    # the range is tested in float, before any cast: far or NaN coordinates have no integer
    pixel = torch.where(inside.unsqueeze(-1), pixel, 0.0)
    low = pixel.detach().floor()
    part = pixel - low
    weights = torch.where(inside, weights.to(dtype), 0.0)

    image = torch.arange(batch, device=device).view(batch, 1, 1, 1, 1) * length
    head = torch.arange(heads, device=device).view(1, 1, heads, 1, 1)
    rows, factors = [], []
    for dy in (0, 1):
        for dx in (0, 1):
            x, y = low[..., 0] + dx, low[..., 1] + dy
            held = (x >= 0) & (y >= 0) & (x < size[..., 0]) & (y < size[..., 1])
            row = torch.where(held, y.long() * wide + x.long(), 0) + start
            rows.append((image + row) * heads + head)
            across = part[..., 0] if dx else 1 - part[..., 0]
            down = part[..., 1] if dy else 1 - part[..., 1]
            factors.append(torch.where(held, across * down, 0.0) * weights)
    bags = batch * queries * heads
    rows = torch.stack(rows, -1).view(bags, levels * points * 4)
    factors = torch.stack(factors, -1).view(bags, levels * points * 4)
    out = F.embedding_bag(rows, table, mode="sum", per_sample_weights=factors)
    return out.view(batch, queries, heads * channels).to(value.dtype)


def grid_sample_sum(
    value: torch.Tensor,
    shapes: list[tuple[int, int]],
    locations: torch.Tensor,
    weights: torch.Tensor,
) -> torch.Tensor:
    """The same by one `grid_sample` per level; arguments as `gather_sum`.

    At a location exactly 1 pixel outside, its gradient is that of grid_sample, not zero.
    """
    batch, _, heads, channels = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    if value.numel() == 0 or locations.numel() == 0:
        return _empty(value, locations, weights)
    dtype = working_dtype(value)
    # NaN and far coordinates have no integer: bring them just outside, where every sample is zero
    grids = torch.where((locations > -2) & (locations < 3), 2 * locations.to(dtype) - 1, -5.0)
    samples = []
    for level, part in enumerate(value.to(dtype).split([h * w for h, w in shapes], 1)):
        maps = part.permute(0, 2, 3, 1).reshape(batch * heads, channels, *shapes[level])
        grid = grids[:, :, :, level].transpose(1, 2).reshape(batch * heads, queries, points, 2)
        samples.append(F.grid_sample(maps, grid, "bilinear", "zeros", align_corners=False))
    factors = weights.to(dtype).permute(0, 2, 1, 3, 4).reshape(batch * heads, 1, queries, -1)
    out = (torch.cat(samples, -1) * factors).sum(-1)
    return out.view(batch, heads * channels, queries).transpose(1, 2).contiguous().to(value.dtype)


def _empty(value: torch.Tensor, locations: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Zeros of the result's shape that still depend on every argument, so that backward runs."""
    out = value.new_zeros(value.shape[0], locations.shape[1], value.shape[2] * value.shape[3])
    return out + (value.sum() + locations.sum() + weights.sum()).to(value.dtype) * 0
