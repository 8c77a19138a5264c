"""The layer around `ms_deform_attn`: projections, offsets and weights from queries."""

import math
from collections.abc import Sequence

import torch
from torch import nn

from benchmark.ops.constants import constant
from benchmark.ops.deform_attn import ms_deform_attn


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
        size = constant(tuple((w, h) for h, w in spatial_shapes), query, exact)
        locations = reference.to(exact)[:, :, None, :, None, :] + offsets / size[None, None, None, :, None, :]
        out = ms_deform_attn(value, spatial_shapes, locations, weights, backend=self.backend)
        return self.output_proj(out)
