"""Losses of the HV family: CellViT, CellVTA and HoVer-Net train with sums of these.

Pure functions: logits in, a scalar float32 tensor out (float32 under autocast too), finite with finite
gradients also where a batch holds no nucleus. `weight` is a (B,) float or bool mask of the images that take
part (untyped images take none in type losses); with nobody left the loss is 0, still in the graph.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

# of the focal Tversky losses: weights of misses and of false alarms, exponent, smoothing
ALPHA, BETA, GAMMA, SMOOTH = 0.7, 0.3, 4 / 3, 1e-6


def onehot(labels: Tensor, classes: int) -> Tensor:
    """(B, H, W) integer labels in 0..classes-1 to float32 (B, classes, H, W)."""
    return F.one_hot(labels.long(), classes).movedim(-1, 1).float()


def focal_tversky(
    logits: Tensor, onehot: Tensor, *, double_softmax: bool = False, weight: Tensor | None = None
) -> Tensor:
    """Focal Tversky loss (1 - TI)^gamma over all channels together (Abraham & Khan 2019, eq. 2-4).

    TI = (TP + smooth) / (TP + alpha FN + beta FP + smooth). With two channels flattened together a
    miss in one is a false alarm in the other, so that FP = FN and only alpha + beta matters.

    Args:
        logits: (B, C, H, W).
        onehot: float (B, C, H, W).
        double_softmax: the published CellViT and CellVTA code applies softmax to probabilities: a perfect
            prediction then keeps a loss of about 0.17. True reproduces it.
    """
    return _tversky(logits, onehot, (0, 1, 2, 3), double_softmax, weight)


def mc_focal_tversky(
    logits: Tensor, onehot: Tensor, *, double_softmax: bool = False, weight: Tensor | None = None
) -> Tensor:
    """`focal_tversky` per class, over all images and pixels of the batch, summed over classes."""
    return _tversky(logits, onehot, (0, 2, 3), double_softmax, weight).sum()


def dice(logits: Tensor, onehot: Tensor, smooth: float = 1e-3, weight: Tensor | None = None) -> Tensor:
    """Sum over classes, background included, of 1 - (2 I + smooth) / (P + T + smooth), over the whole batch.

    Args:
        logits: (B, C, H, W).
        onehot: float (B, C, H, W).
    """
    part = _participation(logits, weight)
    p, t = logits.float().softmax(1) * part, onehot * part
    axes = (0, 2, 3)
    ratio = (2 * (p * t).sum(axes) + smooth) / (p.sum(axes) + t.sum(axes) + smooth)
    return (1 - ratio).sum()


def xentropy(logits: Tensor, onehot: Tensor, weight: Tensor | None = None) -> Tensor:
    """Mean over pixels of the cross-entropy, probabilities renormalised and clipped to [1e-7, 1 - 1e-7].

    Args:
        logits: (B, C, H, W).
        onehot: float (B, C, H, W).
    """
    part = _participation(logits, weight)
    p = logits.float().softmax(1)
    p = (p / p.sum(1, keepdim=True)).clamp(1e-7, 1 - 1e-7)
    pixels = part.sum() * logits.shape[-2] * logits.shape[-1]
    return -(onehot * p.log() * part).sum() / pixels.clamp(min=1)


def mse(pred: Tensor, true: Tensor) -> Tensor:
    """Mean squared error over all pixels and channels of (B, 2, H, W) HV maps."""
    return F.mse_loss(pred.float(), true.float())


def msge(pred: Tensor, true: Tensor, focus: Tensor, cross: bool = False) -> Tensor:
    """Mean squared error of the HV maps' gradients inside nuclei (Graham et al. 2019, eq. 4).

    Args:
        pred: (B, 2, H, W), channel 0 the horizontal map, 1 the vertical map.
        true: float (B, 2, H, W).
        focus: (B, H, W), non-zero inside nuclei.
        cross: compare d(horizontal)/dy and d(vertical)/dx, as the published PyTorch code of HoVer-Net,
            CellViT and CellVTA does, instead of d(horizontal)/dx and d(vertical)/dy, as the paper has it.
    """
    steps = torch.arange(-2, 3, dtype=torch.float32, device=pred.device)
    rows, columns = torch.meshgrid(steps, steps, indexing="ij")
    square = rows**2 + columns**2 + 1e-15
    kernels = (rows / square, columns / square) if cross else (columns / square, rows / square)
    with torch.autocast(pred.device.type, enabled=False):
        # the difference is taken first: the filter is linear
        slope = F.conv2d(pred.float() - true.float(), torch.stack(kernels)[:, None], padding=2, groups=2)
    focus = (focus > 0).float()[:, None].expand_as(slope)
    return (slope**2 * focus).sum() / (focus.sum() + 1e-8)


def _participation(logits: Tensor, weight: Tensor | None) -> Tensor:
    """float32 (B, 1, 1, 1) of the images that take part."""
    if weight is None:
        return torch.ones(len(logits), 1, 1, 1, device=logits.device)
    if weight.shape != (len(logits),):
        raise ValueError(f"weight has shape {tuple(weight.shape)}, expected ({len(logits)},): one per image")
    return weight.float().view(-1, 1, 1, 1)


def _tversky(
    logits: Tensor, onehot: Tensor, axes: tuple[int, ...], double_softmax: bool, weight: Tensor | None
) -> Tensor:
    """(1 - TI)^gamma, summed over `axes` before the ratio: a scalar, or (C,) where the classes stay apart."""
    part = _participation(logits, weight)
    p = logits.float().softmax(1)
    if double_softmax:
        p = p.softmax(1)
    p, t = p * part, onehot * part
    tp, fn, fp = (p * t).sum(axes), ((part - p) * t).sum(axes), (p * (part - t)).sum(axes)
    index = (tp + SMOOTH) / (tp + ALPHA * fn + BETA * fp + SMOOTH)
    # rounding may lift the index above 1, whose power is NaN
    return (1 - index).clamp(min=0) ** GAMMA
