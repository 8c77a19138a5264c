"""Floating-point operations of a forward pass, counted by torch on shapes alone: no memory, no weights, no device.

Convention: a multiply-add is 2 operations. Counted are the operators that torch.utils.flop_counter knows (convolutions,
matrix products, attention) plus the sampling of the deformable attention, which no matrix product contains:
`deformable`. Normalisations, activations, interpolation and the decoding are left out.
"""

from contextlib import contextmanager

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmark.methods import registry
from benchmark.ops import MSDeformAttn


def on_meta(spec: str | registry.Spec, classes: int, tissues: int, preset: str | None = None):
    """A method in evaluation mode whose tensors have shapes and no contents."""
    with torch.device("meta"):
        return registry.build(spec, classes, tissues, preset).eval()


def deformable(batch: int, queries: int, heads: int, levels: int, points: int, channels: int) -> int:
    """Operations of one deformable attention's sampling: per sample and channel, 4 neighbours times a weight, summed.

    The bilinear weight times the attention weight is one number per neighbour and shared by all channels of a head;
    computing it is not counted.
    """
    return 2 * 4 * batch * queries * heads * levels * points * channels


def count(method, height: int, width: int, *, tiled: bool = True) -> dict[str, int]:
    """Operations for one image.

    Args:
        method: from `on_meta`, or any method on the meta device.
        height, width: of the image, px.
        tiled: count `predict`, which pads and tiles so that every pixel is covered; False: one forward pass, whose
            input has exactly these sides.

    Returns:
        "torch": operators that torch's counter knows; "deformable": the sampling of the deformable attention.
    """
    image = torch.empty(1, 3, height, width, device="meta")
    with torch.no_grad(), _sampling(method) as sampled, FlopCounterMode(display=False) as counter:
        method.predict(image) if tiled else method(image)
    return {"torch": int(counter.get_total_flops()), "deformable": sum(sampled)}


def per_image(spec: registry.Spec, classes: int, tissues: int, height: int, width: int) -> float | None:
    """GFLOPs (1e9 operations) to predict one image of height x width px; None for a method that has no network.

    A method whose forward pass needs values, not only shapes, cannot be counted this way: whatever torch raises then
    is raised here.
    """
    method = on_meta(spec, classes, tissues)
    total = sum(count(method, height, width).values())
    return total / 1e9 if total else None


@contextmanager
def _sampling(method: nn.Module):
    """A list that receives the sampling operations of every deformable attention while the context is open."""
    counts: list[int] = []

    def seen(layer: MSDeformAttn, inputs, output) -> None:
        batch, queries, _ = inputs[0].shape
        channels = layer.value_proj.out_features // layer.heads
        counts.append(deformable(batch, queries, layer.heads, layer.levels, layer.points, channels))

    hooks = [m.register_forward_hook(seen) for m in method.modules() if isinstance(m, MSDeformAttn)]
    try:
        yield counts
    finally:
        for hook in hooks:
            hook.remove()
