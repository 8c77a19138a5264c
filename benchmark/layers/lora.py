"""Low-rank updates of a ViT's attention (Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022).

The layers keep their own weights under their own keys, so that a backbone's file loads as before; the updates are
additional tensors named `lora_a` and `lora_b` beside them.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LoRALinear(nn.Linear):
    """A linear layer with weight W + alpha / rank * B A in place of W (section 4.1), of which A and B train.

    Args:
        base: the layer whose weight and bias are shared, not copied.
        rank: r of section 4.1.
        alpha: the update is scaled by alpha / rank.
        parts: how many equal stretches of the output have a pair (A, B) of their own: 3 for fused q, k and v.

    A (parts, rank, inputs) starts normal with standard deviation inputs^-1/2, B (parts, outputs / parts, rank) at
    zero, so that the layer starts as `base`.
    """

    def __init__(self, base: nn.Linear, rank: int, alpha: float, parts: int = 1):
        nn.Module.__init__(self)  # nn.Linear's constructor would draw a weight that is thrown away
        self.in_features, self.out_features = base.in_features, base.out_features
        self.weight, self.bias = base.weight, base.bias
        self.parts, self.scale = parts, alpha / rank
        like = {"device": base.weight.device, "dtype": base.weight.dtype}
        self.lora_a = nn.Parameter(torch.randn(parts, rank, base.in_features, **like) / math.sqrt(base.in_features))
        self.lora_b = nn.Parameter(torch.zeros(parts, base.out_features // parts, rank, **like))

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) to (..., outputs)."""
        low = F.linear(x, self.lora_a.flatten(0, 1)).unflatten(-1, (self.parts, -1))
        update = torch.einsum("...pr,por->...po", low, self.lora_b).flatten(-2)
        return F.linear(x, self.weight, self.bias) + self.scale * update


def add_lora(vit: nn.Module, rank: int = 8, alpha: float = 16.0) -> None:
    """Add low-rank updates to every attention of `vit`, in place; afterwards only they are trainable in it.

    q, k and v, which timm fuses into one layer `qkv`, get a pair of matrices each, the projection `proj` another.
    Backbone weights are to be loaded before: a state dict with updates has more keys.

    Args:
        vit: a ViT whose attention modules hold linear layers `qkv` and `proj` (timm's plain ViTs and SAM's).
        rank, alpha: see `LoRALinear`.

    Raises:
        ValueError: a rank below 1, an alpha that is not positive, no attention found, or updates are there already.
    """
    if rank < 1 or alpha <= 0:
        raise ValueError(f"rank is {rank} and alpha {alpha}; expected a rank of at least 1 and an alpha above 0")
    attentions = [module for module in vit.modules() if _is_attention(module)]
    if not attentions:
        raise ValueError(f"{type(vit).__name__} has no attention with linear layers 'qkv' and 'proj'")
    if any(isinstance(m.qkv, LoRALinear) for m in attentions):
        raise ValueError(f"{type(vit).__name__} has low-rank updates already")
    vit.requires_grad_(False)
    for attention in attentions:
        attention.qkv = LoRALinear(attention.qkv, rank, alpha, parts=3)
        attention.proj = LoRALinear(attention.proj, rank, alpha)


def _is_attention(module: nn.Module) -> bool:
    return all(isinstance(getattr(module, name, None), nn.Linear) for name in ("qkv", "proj"))


def is_lora(name: str) -> bool:
    """Whether a parameter's name (as in `named_parameters`) is that of a low-rank update."""
    return name.rpartition(".")[2] in ("lora_a", "lora_b")
