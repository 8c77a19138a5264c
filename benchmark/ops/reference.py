"""Backend "reference": the textbook form by one `grid_sample` per level. For tests, not for speed."""

import torch
import torch.nn.functional as F

Shapes = tuple[tuple[int, int], ...]


def forward(value: torch.Tensor, shapes: Shapes, locations: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """As `ms_deform_attn`, arguments checked. Returns (B, Lq, M * D) in value's dtype.

    Differentiable by autograd. At a location exactly 1 pixel outside, its gradient is that of grid_sample, not zero.
    """
    batch, _, heads, channels = value.shape
    queries, points = locations.shape[1], locations.shape[4]
    dtype = torch.float64 if value.dtype == torch.float64 else torch.float32
    # NaN and far coordinates have no integer: bring them just outside, where every sample is zero
    near = (locations > -2) & (locations < 3)
    grids = (2 * locations.to(dtype) - 1).masked_fill(~near, -5.0)
    samples = []
    for level, part in enumerate(value.to(dtype).split([h * w for h, w in shapes], 1)):
        maps = part.permute(0, 2, 3, 1).reshape(batch * heads, channels, *shapes[level])
        grid = grids[:, :, :, level].transpose(1, 2).reshape(batch * heads, queries, points, 2)
        samples.append(F.grid_sample(maps, grid, "bilinear", "zeros", align_corners=False))
    factors = weights.to(dtype).permute(0, 2, 1, 3, 4).reshape(batch * heads, 1, queries, -1)
    out = (torch.cat(samples, -1) * factors).sum(-1)
    return out.view(batch, heads * channels, queries).transpose(1, 2).contiguous().to(value.dtype)


def backward(
    grad_output: torch.Tensor,
    value: torch.Tensor,
    shapes: Shapes,
    locations: torch.Tensor,
    weights: torch.Tensor,
    deterministic: bool = True,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Gradients of value, locations and weights by autograd of `forward`."""
    with torch.enable_grad():
        inputs = [t.detach().requires_grad_() for t in (value, locations, weights)]
        out = forward(inputs[0], shapes, inputs[1], inputs[2])
        return torch.autograd.grad(out, inputs, grad_output)
