"""HoVer-Net's branch: nearest-neighbour upsampling, additive skips and dense units of valid convolutions.

Valid convolutions make the output smaller than the input: no branch sees padding.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def crop(x: Tensor, total: int) -> Tensor:
    """Cut `total` pixels (even) from height and from width of (B, C, H, W), half on each side."""
    half = total // 2
    return x[..., half : x.shape[-2] - half, half : x.shape[-1] - half]


class DenseUnit(nn.Module):
    """BN, ReLU → 1×1 → BN, ReLU → valid k×k in 4 groups; returns [centre of the input, new channels]."""

    def __init__(self, inputs: int, middle: int, growth: int, kernel: int):
        super().__init__()
        self.preact = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, growth, kernel, groups=4, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, inputs + growth, H - kernel + 1, W - kernel + 1)."""
        new = self.conv1(F.relu(self.preact(x), inplace=True))
        new = self.conv2(F.relu(self.bn1(new), inplace=True))
        return torch.cat([crop(x, x.shape[-1] - new.shape[-1]), new], 1)


class DenseUp(nn.Module):
    """Valid k×k, then `depth` dense units, BN, ReLU and a 1×1 that keeps the channels."""

    def __init__(self, inputs: int, outputs: int, middle: int, growth: int, depth: int, kernel: int):
        super().__init__()
        self.enter = nn.Conv2d(inputs, outputs, kernel, bias=False)
        self.units = nn.ModuleList(DenseUnit(outputs + i * growth, middle, growth, kernel) for i in range(depth))
        self.channels = outputs + depth * growth
        self.out = nn.BatchNorm2d(self.channels)
        self.leave = nn.Conv2d(self.channels, self.channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, channels, H - c, W - c) with c = (kernel - 1) (1 + depth)."""
        x = self.enter(x)
        for unit in self.units:
            x = unit(x)
        return self.leave(F.relu(self.out(x), inplace=True))


class Branch(nn.Module):
    """One decoder of HoVer-Net, from the encoder's four maps to a map of logits.

    Args:
        width: channels of the stem; 64 as published.
        outputs: channels of the logits.
        kernel: 3 (fast) or 5 (original).
        depth: dense units at stride 4; half as many at stride 2. 8 as published.
    """

    def __init__(self, width: int, outputs: int, kernel: int, depth: int):
        super().__init__()
        middle, growth = 2 * width, max(width // 2, 4)
        self.crops = crops(kernel, depth)
        self.up3 = DenseUp(16 * width, 4 * width, middle, growth, depth, kernel)
        # the sum needs the skip's channels, 8 and 4 times the width, which depth 8 gives by itself
        self.fit3 = fit(self.up3.channels, 8 * width)
        self.up2 = DenseUp(8 * width, 2 * width, middle, growth, depth // 2, kernel)
        self.fit2 = fit(self.up2.channels, 4 * width)
        self.up1 = nn.Conv2d(4 * width, width, kernel, padding=kernel // 2, bias=False)
        self.bn = nn.BatchNorm2d(width)
        self.head = nn.Conv2d(width, outputs, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Maps at strides 1, 2, 4, 8 of `Encoder` to logits (B, outputs, H - crops[0], W - crops[0])."""
        d0, d1, d2, bottom = maps
        x = self.fit3(self.up3(_twice(bottom).add_(d2)))
        x = self.fit2(self.up2(_twice(x).add_(crop(d1, self.crops[1]))))
        x = self.up1(_twice(x).add_(crop(d0, self.crops[0])))
        return self.head(F.relu(self.bn(x), inplace=True))


def crops(kernel: int, depth: int) -> tuple[int, int]:
    """Pixels in total that a branch loses at strides 1 and 2: (92, 36) for fast, (184, 72) for original."""
    at2 = 2 * (kernel - 1) * (1 + depth)
    return 2 * at2 + 2 * (kernel - 1) * (1 + depth // 2), at2


def fit(inputs: int, outputs: int) -> nn.Module:
    """Identity where the channels agree, else a 1×1 convolution."""
    return nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, bias=False)


def _twice(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest")
