"""Plain cross-attention where CellVTA has the deformable one: every query sees every token.

The comparison that shows what sampling a few points is worth. Heads and value width are those of the layer it
replaces, and fixed sine positions (Vaswani et al., "Attention Is All You Need", NeurIPS 2017, section 3.5, for x and y)
stand in for the reference points, without which a query would not know where it is.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.ops.constants import constant


def reference_points(grids: Sequence[tuple[int, int]], device: torch.device | None = None) -> Tensor:
    """Pixel centres of the grids one after another, as (x, y) in 0..1: float32 (1, sum of h * w, 1, 2)."""
    points = []
    for h, w in grids:
        y = (torch.arange(h, dtype=torch.float32, device=device) + 0.5) / h
        x = (torch.arange(w, dtype=torch.float32, device=device) + 0.5) / w
        y, x = torch.meshgrid(y, x, indexing="ij")
        points.append(torch.stack([x.flatten(), y.flatten()], -1))
    return torch.cat(points)[None, :, None]


def sine_positions(points: Tensor, grid: tuple[int, int], dim: int) -> Tensor:
    """Sines and cosines of x and y, counted in cells of `grid`; wavelengths from 2 pi to 10000 * 2 pi cells.

    Args:
        points: (1, N, 2) as (x, y) in 0..1.
        grid: (h, w).
        dim: a multiple of 4.

    Returns:
        float32 (1, N, dim): sines then cosines of x, then the same of y.
    """
    wave = 10000 ** (-torch.arange(dim // 4, dtype=torch.float32, device=points.device) / (dim // 4))
    cells = constant((grid[1], grid[0]), points, torch.float32)
    angle = (points.float() * cells)[..., None] * wave
    return torch.stack([angle.sin(), angle.cos()], -2).flatten(-3)


class GlobalAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017) with the call of `ops.MSDeformAttn`.

    The scores of all pairs are not stored where torch has a fused kernel (GPU in half precision, CPU). Stored, they
    take 4 * heads * 21 n^2 bytes per image and layer for a ViT grid of n tokens and CellVTA's pyramid of 21 n: 44 MB
    at 256 px (n = 256), 11 GB at 1024 px; the arithmetic grows with n^2 in any case.

    Args:
        dim: channels of queries and features, a multiple of 4.
        heads: number of heads.
        ratio: width of queries, keys and values relative to `dim`.

    Raises:
        ValueError: dim * ratio is no multiple of heads, or dim none of 4.
    """

    def __init__(self, dim: int, heads: int = 8, ratio: float = 1.0):
        super().__init__()
        width = int(dim * ratio)
        if width < heads or width % heads:
            raise ValueError(f"dim * ratio is {width}, expected a multiple of heads = {heads}")
        if dim % 4:
            raise ValueError(f"dim is {dim}, expected a multiple of 4")
        self.dim, self.heads = dim, heads
        self.query_proj, self.key_proj, self.value_proj = (nn.Linear(dim, width) for _ in range(3))
        self.output_proj = nn.Linear(width, dim)

    def forward(
        self, query: Tensor, reference: Tensor, features: Tensor, spatial_shapes: Sequence[tuple[int, int]]
    ) -> Tensor:
        """Attend.

        Args:
            query: (B, Lq, dim).
            reference: (1, Lq, 1, 2) centres of the queries, (x, y) in 0..1.
            features: (B, S, dim), levels one after another.
            spatial_shapes: (H, W) of each level; positions are counted in cells of the last.

        Returns:
            (B, Lq, dim).
        """
        cells = spatial_shapes[-1]
        where = sine_positions(reference[:, :, 0], cells, self.dim)
        there = sine_positions(reference_points(spatial_shapes, features.device)[:, :, 0], cells, self.dim)
        parts = (
            self.query_proj(query + where.to(query.dtype)),
            self.key_proj(features + there.to(features.dtype)),
            self.value_proj(features),
        )
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        return self.output_proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
