"""CellViT's decoder (Hörst et al., Medical Image Analysis 2024, section 3.2): U-Net skips, a branch per map.

CellVTA's differs in its skips, which come as a pyramid, and in the first upsampling of a branch. The skip
convolutions do not depend on the branch: they run once per forward (published: once per branch).
"""

import torch
from torch import Tensor, nn

OUTPUTS = {"np": "nuclei_binary_map_decoder", "hv": "hv_map_decoder", "tp": "nuclei_type_maps_decoder"}
PARTS = {"bottleneck": "bottleneck_upsampler", "up3": "decoder3_upsampler", "up2": "decoder2_upsampler"}
PARTS |= {"up1": "decoder1_upsampler", "head": "decoder0_header"}


def conv_block(inputs: int, outputs: int) -> nn.Sequential:
    """3 x 3 convolution, batch norm, ReLU."""
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


def deconv_block(inputs: int, outputs: int) -> nn.Sequential:
    """2 x 2 transposed convolution (twice the side), 3 x 3 convolution, batch norm, ReLU."""
    return nn.Sequential(
        nn.ConvTranspose2d(inputs, outputs, 2, 2),
        nn.Conv2d(outputs, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Branch(nn.Module):
    """From /16 to full resolution in four doublings, each joined with its skip.

    Args:
        dim: channels at /16.
        widths: channels of the skips at strides 1, 2, 4, 8 (64, 128, 256, 312 or 512 as published).
        outputs: channels of the logits.
        pyramid: True for CellVTA's first upsampling (with a convolution), False for CellViT's (without).
    """

    def __init__(self, dim: int, widths: tuple[int, int, int, int], outputs: int, pyramid: bool):
        super().__init__()
        w0, w1, w2, w3 = widths
        up = nn.ConvTranspose2d
        self.bottleneck = nn.Sequential(deconv_block(dim, w3)) if pyramid else up(dim, w3, 2, 2)
        self.up3 = nn.Sequential(conv_block(2 * w3, w3), conv_block(w3, w3), conv_block(w3, w3), up(w3, w2, 2, 2))
        self.up2 = nn.Sequential(conv_block(2 * w2, w2), conv_block(w2, w2), up(w2, w1, 2, 2))
        self.up1 = nn.Sequential(conv_block(2 * w1, w1), conv_block(w1, w1), up(w1, w0, 2, 2))
        self.head = nn.Sequential(conv_block(2 * w0, w0), conv_block(w0, w0), nn.Conv2d(w0, outputs, 1))

    def forward(self, skips: list[Tensor], bottom: Tensor) -> Tensor:
        """skips at strides 1, 2, 4, 8 and bottom (B, dim, H / 16, W / 16) to (B, outputs, H, W)."""
        x = self.up3(torch.cat([skips[3], self.bottleneck(bottom)], 1))
        x = self.up2(torch.cat([skips[2], x], 1))
        x = self.up1(torch.cat([skips[1], x], 1))
        return self.head(torch.cat([skips[0], x], 1))


class CellViTDecoder(nn.Module):
    """Skips and branches from an encoder's four maps to the raw maps, such as np, hv and tp.

    Args:
        dim: channels of the encoder's maps.
        outputs: name -> channels of each branch.
        width: scale of all channels, 1.0 as published.
        pyramid: True: the maps have strides 2, 4, 8, 16 (CellVTA); False: all have stride 16 (CellViT).
    """

    def __init__(self, dim: int, outputs: dict[str, int], width: float = 1.0, pyramid: bool = False):
        super().__init__()
        # published: narrow encoders (ViT-S) have narrower skips; CellVTA knows only the wide ones
        narrow = dim < 512 and not pyramid
        w0, w1, w2, bottom = (scaled(c, width) for c in (64, 128, 256, 312 if narrow else 512))
        wide, half = (scaled(c, width) for c in ((256, 128) if narrow else (512, 256)))
        self.skip0 = nn.Sequential(conv_block(3, scaled(32, width)), conv_block(scaled(32, width), w0))
        if pyramid:
            self.skip1, self.skip2, self.skip3 = (
                nn.Sequential(conv_block(dim, c), conv_block(c, c)) for c in (w1, w2, bottom)
            )
        else:
            self.skip1 = nn.Sequential(deconv_block(dim, wide), deconv_block(wide, half), deconv_block(half, w1))
            self.skip2 = nn.Sequential(deconv_block(dim, wide), deconv_block(wide, w2))
            self.skip3 = nn.Sequential(deconv_block(dim, bottom))
        self.branches = nn.ModuleDict(
            {name: Branch(dim, (w0, w1, w2, bottom), n, pyramid) for name, n in outputs.items()}
        )

    def blocks(self) -> list[nn.Module]:
        """The skips and the branches, see `methods.base.Method.blocks`."""
        return [self.skip0, self.skip1, self.skip2, self.skip3, *self.branches.values()]

    def forward(self, images: Tensor, maps: list[Tensor]) -> dict[str, Tensor]:
        """Normalised images (B, 3, H, W) and the encoder's maps, first to last, to logits (B, C, H, W)."""
        z1, z2, z3, z4 = maps
        skips = [self.skip0(images), self.skip1(z1), self.skip2(z2), self.skip3(z3)]
        return {name: branch(skips, z4) for name, branch in self.branches.items()}


def scaled(channels: int, width: float) -> int:
    """channels * width, at least 4 and a multiple of 4 where it is not whole."""
    return channels if width == 1 else max(4, round(channels * width / 4) * 4)


def official_key(key: str) -> str:
    """Key in a published CellViT or CellVTA file of a `CellViTDecoder` key such as "branches.np.up3.0.0.weight".

    Published blocks hold their layers in a member "block"; ours are plain sequences. Branches that no published file
    has, of other representations than HV maps, keep their names.
    """
    words = key.split(".")
    if words[0] == "branches":
        root, rest = [OUTPUTS.get(words[1], words[1]), PARTS[words[2]]], words[3:]
    else:
        root, rest = [words[0].replace("skip", "decoder")], words[1:]
    if len(rest) == 3:
        rest.insert(1, "block")
    return ".".join(root + rest)


def rename(state: dict[str, Tensor], ours: dict[str, str]) -> dict[str, Tensor]:
    """`state` under our keys (`ours`: published -> our key) and in their order; others stay, at the end."""
    out = {key: state[published] for published, key in ours.items() if published in state}
    return out | {key: value for key, value in state.items() if key not in ours}
