"""A network's outputs as its loss compares them with the targets."""

import torch

from benchmark.layers.image_ops import centre

ABSENT = -1e4  # logit of a class that an image's data set lacks: its softmax is 0 in float32


def comparable(outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor], crop: int) -> dict[str, torch.Tensor]:
    """Outputs in float32 (losses' sums over pixels overflow half precision), as large as the targets (an input side
    that the crop is no multiple of gives larger maps), without a say on what the targets do not name."""
    outputs = {k: centre(v, *[min(s, crop) for s in v.shape[-2:]]) for k, v in outputs.items()}
    return named_only({k: v.float() for k, v in outputs.items()}, batch)


def named_only(outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Outputs whose type logits "tp" (B, C + 1, H, W) have no say on classes that an image's data set lacks.

    There they are so low that softmax makes 0 of them, and have no gradient: the loss compares background and the
    classes of the set alone. Nothing changes without batch["named"] (B, C + 1) bool, which images of several sets have.
    """
    if "named" not in batch or "tp" not in outputs:
        return outputs
    absent = ~batch["named"][:, :, None, None]
    return outputs | {"tp": outputs["tp"].masked_fill(absent, ABSENT)}
