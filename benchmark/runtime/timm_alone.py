"""What is taken from timm, which is imported here alone, and without wandb.

timm.utils imports wandb wherever that is installed: seconds, memory and another's code in every training, also where
nobody asked for a tracker. While timm is imported, wandb counts as absent, for which timm is prepared.
"""

import sys

_hidden = "wandb" not in sys.modules
if _hidden:
    sys.modules["wandb"] = None  # type: ignore[assignment]
try:
    import timm
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    from timm.layers import DropPath, PatchEmbed, SwiGLUPacked
    from timm.models.vision_transformer import VisionTransformer
    from timm.models.vision_transformer_sam import VisionTransformerSAM
    from timm.utils import ModelEmaV3
finally:
    if _hidden:
        del sys.modules["wandb"]

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
