"""HoVer-Net's encoder of pre-activation residual stages (He et al. 2016; Graham et al. 2019).

Three ways in which it is not torchvision's ResNet: no pooling after the stem, normalisation before the
convolutions of every unit but the first, and padding as TensorFlow's "same": asymmetric at stride 2.
"""

import contextlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def same_pad(x: Tensor, kernel: int, stride: int) -> Tensor:
    """Zero-pad (B, C, H, W) as TensorFlow's "same" does: side becomes ceil(side / stride), odd at the end."""
    pads = []
    for side in (x.shape[-1], x.shape[-2]):
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads) if any(pads) else x


class SameConv(nn.Conv2d):
    """Convolution without bias, padded by `same_pad`."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1):
        # a symmetric pad is the same thing where the stride is 1, and saves a copy
        symmetric = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding=symmetric, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, ceil(H / stride), ceil(W / stride))."""
        if self.stride[0] > 1:
            x = same_pad(x, self.kernel_size[0], self.stride[0])
        return super().forward(x)


class Unit(nn.Module):
    """[BN, ReLU] → 1×1 → BN, ReLU → 3×3 (stride) → BN, ReLU → 1×1: the residual without the shortcut."""

    def __init__(self, inputs: int, middle: int, outputs: int, stride: int = 1, preact: bool = True):
        super().__init__()
        self.preact = nn.BatchNorm2d(inputs) if preact else None
        self.conv1 = nn.Conv2d(inputs, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = SameConv(middle, middle, 3, stride)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        if self.preact is not None:
            x = F.relu(self.preact(x), inplace=True)
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        return self.conv3(x)


class Stage(nn.Module):
    """`depth` units with identity shortcuts (a strided 1×1 at the first), then BN and ReLU."""

    def __init__(self, inputs: int, middle: int, outputs: int, depth: int, stride: int):
        super().__init__()
        first = Unit(inputs, middle, outputs, stride, preact=False)
        self.units = nn.ModuleList([first, *(Unit(outputs, middle, outputs) for _ in range(depth - 1))])
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.out = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor, frozen: bool = False) -> Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride); frozen: no gradient in residuals."""
        shortcut = self.shortcut(x)
        for unit in self.units:
            with torch.no_grad() if frozen else contextlib.nullcontext():
                residual = unit(x)
            x = shortcut = shortcut + residual
        return F.relu(self.out(x), inplace=True)


class Encoder(nn.Module):
    """Stem 7×7 and four stages at strides 1, 2, 4, 8: Preact-ResNet50 for depths 3, 4, 6, 3 and width 64.

    Args:
        width: channels of the stem; stages have 4, 8, 16, 32 times as many.
        depths: units per stage.
        padded: "same" padding of the stem; False loses 3 pixels on each side.
    """

    def __init__(self, width: int, depths: tuple[int, int, int, int], padded: bool):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 7, padding=3 if padded else 0, bias=False)
        self.stem_bn = nn.BatchNorm2d(width)
        self.channels = [width * 4 * 2**i for i in range(4)]
        self.stages = nn.ModuleList()
        inputs = width
        for i, (outputs, depth) in enumerate(zip(self.channels, depths)):
            self.stages.append(Stage(inputs, width * 2**i, outputs, depth, stride=1 if i == 0 else 2))
            inputs = outputs
        self.bottleneck = nn.Conv2d(self.channels[3], self.channels[2], 1, bias=False)
        self.frozen = False

    def freeze(self, frozen: bool) -> None:
        """Freeze the residual units of stage 0 and all of stages 1 to 3, as HoVer-Net's first phase does.

        The stem, the shortcut and last normalisation of stage 0 and the bottleneck keep training; running
        statistics of the frozen part keep following the data.
        """
        self.frozen = frozen
        self.requires_grad_(True)
        for part in (self.stages[0].units, *self.stages[1:]):
            part.requires_grad_(not frozen)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to four maps at strides 1, 2, 4, 8; the last as wide as the third."""
        x = F.relu(self.stem_bn(self.stem(images)), inplace=True)
        maps = [self.stages[0](x, self.frozen)]
        with torch.no_grad() if self.frozen else contextlib.nullcontext():
            for stage in self.stages[1:]:
                maps.append(stage(maps[-1]))
        return [*maps[:3], self.bottleneck(maps[3])]
