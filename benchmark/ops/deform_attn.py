"""Multi-scale deformable attention (Zhu et al., Deformable DETR, ICLR 2021, eq. 3).

`ms_deform_attn` is the operator, `MSDeformAttn` the layer around it, `backends()` says what runs here.
Imports nothing of the benchmark: it can be used alone.
"""

import math
from collections.abc import Sequence

import torch
from torch import nn

from benchmark.ops.fallback import grid_sample_sum, torch_sum

_BACKENDS = {"torch": torch_sum, "reference": grid_sample_sum}
_ABSENT = {
    "cuda": "not built in this version; the 'torch' backend runs on CUDA devices",
    "cpu": "not built in this version; the 'torch' backend runs on CPUs",
}


def backends() -> dict[str, tuple[bool, str]]:
    """Name -> (works here, why not)."""
    return {name: (True, "") for name in _BACKENDS} | {name: (False, why) for name, why in _ABSENT.items()}


def default_backend(device: torch.device | str = "cpu") -> str:
    """Name of the backend that `ms_deform_attn` takes on `device` when none is asked for."""
    return "torch"


def ms_deform_attn(
    value: torch.Tensor,
    spatial_shapes: torch.Tensor | Sequence[tuple[int, int]],
    sampling_locations: torch.Tensor,
    attention_weights: torch.Tensor,
    *,
    backend: str | None = None,
) -> torch.Tensor:
    """Sum over levels and points of weight x bilinear sample.

    Args:
        value: (B, S, M, D) floating; pixels level by level, row by row; M heads of D channels.
        spatial_shapes: (H, W) of each of L levels, sum of H * W = S: a sequence, or an integer tensor (L, 2).
        sampling_locations: (B, Lq, M, L, P, 2) as (x, y); 0 and 1 are the outer edges of a level's first
            and last pixel. Outside is zero; NaN counts as outside. Half precision ruins them: keep float32.
        attention_weights: (B, Lq, M, L, P), already normalised.
        backend: a name from `backends()`; None takes `default_backend`.

    Returns:
        (B, Lq, M * D) in value's dtype; locations and sums are float32 (float64 for float64 values).

    Raises:
        TypeError: an argument is no floating tensor, or the shapes are no integers.
        ValueError: shapes or devices that do not fit; unknown or unavailable backend.
    """
    shapes = _check(value, spatial_shapes, sampling_locations, attention_weights)
    name = backend or default_backend(value.device)
    if name in _ABSENT:
        raise ValueError(f"backend '{name}' is unavailable: {_ABSENT[name]}")
    if name not in _BACKENDS:
        raise ValueError(f"backend is '{name}', expected one of {', '.join(backends())}")
    return _BACKENDS[name](value, shapes, sampling_locations, attention_weights)


def _check(value, spatial_shapes, sampling_locations, attention_weights) -> list[tuple[int, int]]:
    """Refuse what does not fit; return the levels' shapes as Python integers."""
    tensors = {
        "value": (value, "(B, S, M, D)"),
        "sampling_locations": (sampling_locations, "(B, Lq, M, L, P, 2)"),
        "attention_weights": (attention_weights, "(B, Lq, M, L, P)"),
    }
    for name, (tensor, expected) in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name} is a {type(tensor).__name__}, expected a tensor {expected}")
        if not tensor.is_floating_point():
            raise TypeError(f"{name} has dtype {tensor.dtype}, expected a floating dtype")
        if tensor.ndim != expected.count(",") + 1:
            raise ValueError(f"{name} has shape {tuple(tensor.shape)}, expected {expected}")
        if tensor.device != value.device:
            raise ValueError(f"{name} is on {tensor.device}, expected value's device {value.device}")
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


def _shapes(spatial_shapes) -> list[tuple[int, int]]:
    if isinstance(spatial_shapes, torch.Tensor):
        if spatial_shapes.is_floating_point():
            raise TypeError(f"spatial_shapes has dtype {spatial_shapes.dtype}, expected integers (L, 2)")
        spatial_shapes = spatial_shapes.tolist()
    try:
        shapes = [(h, w) for h, w in spatial_shapes]
    except (TypeError, ValueError):
        raise ValueError(f"spatial_shapes is {spatial_shapes!r}, expected (H, W) of each level") from None
    if not all(hasattr(side, "__index__") for shape in shapes for side in shape):
        raise TypeError(f"spatial_shapes is {shapes}, expected integers")
    if not shapes or any(side < 1 for shape in shapes for side in shape):
        raise ValueError(f"spatial_shapes is {shapes}, expected at least one level with sides of 1 or more")
    return [(int(h), int(w)) for h, w in shapes]


class MSDeformAttn(nn.Module):
    """Deformable attention from queries to multi-scale features (Deformable DETR, section 4.1).

    Args:
        dim: channels of queries and features.
        heads, levels, points: M, L and P of `ms_deform_attn`.
        ratio: width of the values relative to `dim` (ViT-Adapter's deform ratio).
        backend: as in `ms_deform_attn`.

    Raises:
        ValueError: dim * ratio is no multiple of heads.
    """

    def __init__(self, dim: int, heads: int = 8, levels: int = 1, points: int = 4, ratio: float = 1.0, backend=None):
        super().__init__()
        width = int(dim * ratio)
        if width < heads or width % heads:
            raise ValueError(f"dim * ratio is {width}, expected a multiple of heads = {heads}")
        self.heads, self.levels, self.points, self.backend = heads, levels, points, backend
        self.sampling_offsets = nn.Linear(dim, heads * levels * points * 2)
        self.attention_weights = nn.Linear(dim, heads * levels * points)
        self.value_proj = nn.Linear(dim, width)
        self.output_proj = nn.Linear(width, dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start of Deformable DETR: offsets and weights do not depend on the query yet."""
        nn.init.zeros_(self.sampling_offsets.weight)
        self.reset_offsets()
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for layer in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def reset_offsets(self) -> None:
        """Each head looks along its own direction, its k-th point k pixels away."""
        angle = torch.arange(self.heads, dtype=torch.float32) * (2 * math.pi / self.heads)
        grid = torch.stack([angle.cos(), angle.sin()], -1)
        grid = grid / grid.abs().amax(-1, keepdim=True)
        steps = torch.arange(1, self.points + 1, dtype=torch.float32).view(1, 1, -1, 1)
        grid = grid.view(self.heads, 1, 1, 2) * steps.expand(1, self.levels, -1, 1)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(grid.flatten())

    def forward(
        self,
        query: torch.Tensor,
        reference: torch.Tensor,
        features: torch.Tensor,
        spatial_shapes: Sequence[tuple[int, int]],
    ) -> torch.Tensor:
        """Attend.

        Args:
            query: (B, Lq, dim).
            reference: (1 or B, Lq, 1 or L, 2) float points (x, y) in 0..1.
            features: (B, S, dim), levels one after another.
            spatial_shapes: (H, W) of each level.

        Returns:
            (B, Lq, dim).
        """
        batch, queries, _ = query.shape
        value = self.value_proj(features).view(batch, features.shape[1], self.heads, -1)
        # whatever autocast made of the projections, locations and the softmax are float32
        exact = torch.float64 if query.dtype == torch.float64 else torch.float32
        offsets = self.sampling_offsets(query).to(exact)
        offsets = offsets.view(batch, queries, self.heads, self.levels, self.points, 2)
        weights = self.attention_weights(query).to(exact).view(batch, queries, self.heads, -1).softmax(-1)
        weights = weights.view(batch, queries, self.heads, self.levels, self.points)
        size = torch.tensor([(w, h) for h, w in spatial_shapes], dtype=exact, device=query.device)
        locations = reference.to(exact)[:, :, None, :, None, :] + offsets / size[None, None, None, :, None, :]
        out = ms_deform_attn(value, spatial_shapes, locations, weights, backend=self.backend)
        return self.output_proj(out)
