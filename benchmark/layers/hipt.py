"""HIPT's ViT-S/16, trained on 256 px patches of pathology slides: the encoder of CellViT-256.

Chen et al., "Scaling Vision Transformers to Gigapixel Images via Hierarchical Self-Supervised Learning", CVPR
2022. A timm ViT but for the resampling of its position embedding, which is DINO's.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmark.runtime.timm_alone import VisionTransformer


class HIPT(VisionTransformer):
    """ViT-S/16 with a position embedding for 14 x 14 tokens; arguments as of timm's VisionTransformer."""

    def __init__(self, **arguments):
        super().__init__(**{"patch_size": 16, "embed_dim": 384, "depth": 12, "num_heads": 6} | arguments)

    def _pos_embed(self, x: Tensor) -> Tensor:
        """Patch tokens (B, h, w, C) to (B, 1 + h * w, C), class token first, positions added to all."""
        positions = resample(self.pos_embed, self.patch_embed.grid_size, (x.shape[1], x.shape[2]))
        tokens = torch.cat([self.cls_token.expand(len(x), -1, -1), x.flatten(1, 2)], 1)
        return self.pos_drop(tokens + positions)


def resample(positions: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """Position embedding (1, 1 + old, C) of a class token and a grid, for a `new` grid: (1, 1 + new, C).

    Bicubic without antialiasing, at the scale of (new + 0.1) / old rather than new / old, as DINO has it; unchanged
    for a square grid of the old number of tokens.
    """
    if new[0] == new[1] and new[0] * new[1] == old[0] * old[1]:
        return positions
    grid = positions[:, 1:].transpose(1, 2).unflatten(2, old)
    scale = [(n + 0.1) / o for n, o in zip(new, old)]
    grid = F.interpolate(grid, scale_factor=scale, mode="bicubic")
    return torch.cat([positions[:, :1], grid.flatten(2).transpose(1, 2)], 1)
