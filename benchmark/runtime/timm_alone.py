"""What is taken from timm, which is imported here alone, without wandb and with one of its functions replaced.

timm.utils imports wandb wherever that is installed: seconds, memory and another's code in every training, also where
nobody asked for a tracker. While timm is imported, wandb counts as absent, for which timm is prepared.

`vision_transformer_sam.get_rel_pos` makes indices on the CPU for a table on the GPU: each block of SAM's encoder then
waits for the GPU, and no CUDA graph can be captured of it. `relative_positions` takes its place, with the same values.
"""

import functools
import sys

import torch
import torch.nn.functional as F

_hidden = "wandb" not in sys.modules
if _hidden:
    sys.modules["wandb"] = None  # type: ignore[assignment]
try:
    import timm
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    from timm.layers import DropPath, PatchEmbed, SwiGLUPacked
    from timm.models import vision_transformer_sam
    from timm.models.vision_transformer import VisionTransformer
    from timm.models.vision_transformer_sam import VisionTransformerSAM
    from timm.utils import ModelEmaV3
finally:
    if _hidden:
        del sys.modules["wandb"]


@functools.wraps(vision_transformer_sam.get_rel_pos)  # which keeps timm's own as __wrapped__
def relative_positions(q_size: int, k_size: int, rel_pos: torch.Tensor) -> torch.Tensor:
    """The entry of a table of relative positions for each query and key along one axis, as timm computes it.

    Args:
        q_size, k_size: positions of queries and of keys.
        rel_pos: (L, C); resampled where L is not 2 max(q_size, k_size) - 1.

    Returns:
        (q_size, k_size, C), on the device of `rel_pos`.
    """
    longest = 2 * max(q_size, k_size) - 1
    if len(rel_pos) != longest:
        rel_pos = F.interpolate(rel_pos.T[None], size=longest, mode="linear")[0].T
    # of unequal sizes the shorter axis is stretched to the other; fractions are cut off after the sum, as timm does
    queries, keys = (torch.arange(n, dtype=torch.float32, device=rel_pos.device) for n in (q_size, k_size))
    queries, keys = queries * max(k_size / q_size, 1.0), keys * max(q_size / k_size, 1.0)
    offset = (k_size - 1) * max(q_size / k_size, 1.0)
    return rel_pos[(queries[:, None] - keys[None, :] + offset).long()]


vision_transformer_sam.get_rel_pos = relative_positions

__all__ = [
    "IMAGENET_DEFAULT_MEAN",
    "IMAGENET_DEFAULT_STD",
    "DropPath",
    "ModelEmaV3",
    "PatchEmbed",
    "SwiGLUPacked",
    "VisionTransformer",
    "VisionTransformerSAM",
    "timm",
]
