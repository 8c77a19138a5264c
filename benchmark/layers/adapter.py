"""The adapter of CellVTA: a convolutional pyramid that talks to a ViT through deformable attention.

After ViT-Adapter (Chen et al., ICLR 2023, sections 3.2-3.4), with CellVTA's changes: the pyramid has strides
2, 4, 8 and 16 instead of 4, 8, 16 and 32, and the class token goes around the ViT. The ViT itself is not part
of the module: it is passed to `forward`, so that a frozen backbone stays one object with timm's own keys.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.layers.cellvit_decoder import scaled
from benchmark.layers.global_attention import GlobalAttention, reference_points
from benchmark.layers.image_ops import enlarged
from benchmark.layers.vit import embed, summary, to_map
from benchmark.ops import MSDeformAttn
from benchmark.runtime.timm_alone import DropPath, VisionTransformer

Grid = tuple[int, int]
ATTENTIONS = ("deformable", "global")
# channels from which the ViT's first map is laid out anew before it is drawn 8 times larger: on a CPU the bilinear
# kernel copies a transposed view's result. 1 x 1024 x 16 x 16, 2 threads of a busy machine, one call: 1.43 s without,
# 0.29 s with; 8 x 128 x 8 x 8, 1 thread, with the sum that follows: 1.3 times as long with it (best of 7 in turns)
WIDE = 512


@dataclass(frozen=True)
class AdapterConfig:
    """Settings of `ViTAdapter` and its blocks; the defaults are CellVTA's as published.

    Attributes:
        interactions: exchanges between the pyramid and the ViT; must divide the ViT's depth.
        attention: "deformable" as published, or "global": exact attention over all tokens (`GlobalAttention`).
        points: sampling points per head and level; without meaning for global attention.
        heads: of the attention.
        deform_ratio: width of the attention's values relative to the ViT's.
        extra_extractors: extractors that the last exchange has beside its own.
        injector: False leaves the injectors out.
        extractor: False leaves all extractors out: the maps are the spatial prior and the ViT's maps, which never meet.
        vit_features: False leaves the ViT's maps out: the maps are the pyramid alone.
        spatial_prior: False puts `PatchPrior` in place of the convolutional pyramid.
        adapter_width: factor on the channels inside: 64 in the spatial prior's stem, dim / 4 in the ConvFFNs.
        drop_path: stochastic depth rate of every ConvFFN, and of the ViT's last block where a method builds both.
        cls_in_vit: False as published: the class token skips every ViT block. True keeps it among the tokens.
        offset_grid: False as published: the sampling offsets start at zero, their linear layers at truncated normal
            0.02. True starts each head along its own direction, as Deformable DETR does.
    """

    interactions: int = 4
    attention: str = "deformable"
    points: int = 4
    heads: int = 8
    deform_ratio: float = 0.5
    extra_extractors: int = 2
    injector: bool = True
    extractor: bool = True
    vit_features: bool = True
    spatial_prior: bool = True
    adapter_width: float = 1.0
    drop_path: float = 0.4
    cls_in_vit: bool = False
    offset_grid: bool = False

    def attend(self, dim: int, levels: int) -> nn.Module:
        """The attention of one block, from `dim` channels to a pyramid of `levels` grids."""
        if self.attention == "global":
            return GlobalAttention(dim, self.heads, self.deform_ratio)
        return MSDeformAttn(dim, self.heads, levels, self.points, self.deform_ratio)


class SpatialPrior(nn.Module):
    """Convolutional pyramid of the image. width: the stem's channels (64 as published); dim: the outputs'."""

    def __init__(self, width: int, dim: int):
        super().__init__()
        self.stem = nn.Sequential(
            *_conv_bn(3, width, 1),
            *_conv_bn(width, width, 1),
            *_conv_bn(width, width, 1),
            nn.Conv2d(width, width, 3, 2, 1, bias=False),  # published: no normalisation after this one
        )
        self.conv2 = nn.Sequential(*_conv_bn(width, width, 1), *_conv_bn(width, 2 * width, 2))
        self.conv3 = nn.Sequential(*_conv_bn(2 * width, 2 * width, 1), *_conv_bn(2 * width, 4 * width, 2))
        self.conv4 = nn.Sequential(*_conv_bn(4 * width, 4 * width, 1), *_conv_bn(4 * width, 4 * width, 2))
        self.fc1 = nn.Conv2d(width, dim, 1)
        self.fc2 = nn.Conv2d(2 * width, dim, 1)
        self.fc3 = nn.Conv2d(4 * width, dim, 1)
        self.fc4 = nn.Conv2d(4 * width, dim, 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) to maps of dim channels at strides 2, 4, 8, 16."""
        c1 = self.stem(images)
        c2 = self.conv2(c1)
        c3 = self.conv3(c2)
        c4 = self.conv4(c3)
        return [self.fc1(c1), self.fc2(c2), self.fc3(c3), self.fc4(c4)]


class PatchPrior(nn.Module):
    """The pyramid without an image: the ViT's own patch embedding, drawn larger.

    What is left of the spatial prior when its convolutions are taken away: as many tokens at the same strides and
    nothing in them that the ViT has not seen. No parameters; the map at stride 2 is what `up` makes of stride 4.
    """

    def forward(self, tokens: Tensor, grid: Grid) -> list[Tensor]:
        """Embedded patches (B, h * w, dim), position included, to maps at strides 4, 8, 16, bilinear."""
        patches = to_map(tokens, grid)
        larger = [enlarged(patches, factor) for factor in (4, 2)]
        return [*larger, patches]


class DWConv(nn.Module):
    """One depthwise 3 x 3 convolution over the three grids of a token pyramid."""

    def __init__(self, dim: int):
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 3, 1, 1, groups=dim)

    def forward(self, tokens: Tensor, grids: list[Grid]) -> Tensor:
        """(B, sum of h * w, dim), grids in the tokens' order; same shape."""
        parts = tokens.split([h * w for h, w in grids], 1)
        maps = [self.dwconv(to_map(part, grid)) for part, grid in zip(parts, grids)]
        return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], 1)


class ConvFFN(nn.Module):
    """Linear, depthwise convolution, GELU, linear (ViT-Adapter, section 3.4)."""

    def __init__(self, dim: int, hidden: int):
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.dwconv = DWConv(hidden)
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, tokens: Tensor, grids: list[Grid]) -> Tensor:
        """(B, N, dim) to (B, N, dim)."""
        return self.fc2(F.gelu(self.dwconv(self.fc1(tokens), grids)))


class Injector(nn.Module):
    """Pyramid into ViT tokens: x + gamma * attention(norm(x), norm(c)); gamma starts at 1e-5."""

    def __init__(self, dim: int, config: AdapterConfig):
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), 1e-5))
        self.query_norm = nn.LayerNorm(dim, eps=1e-6)
        self.feat_norm = nn.LayerNorm(dim, eps=1e-6)
        self.attn = config.attend(dim, 3)

    def forward(self, x: Tensor, c: Tensor, reference: Tensor, grids: list[Grid]) -> Tensor:
        """x: (B, n, dim); c: (B, 21 n, dim); reference: (1, n, 1, 2); grids: of c. Returns (B, n, dim)."""
        return x + self.gamma * self.attn(self.query_norm(x), reference, self.feat_norm(c), grids)


class Extractor(nn.Module):
    """ViT tokens into the pyramid: c + attention(norm(c), norm(x)), then a ConvFFN."""

    def __init__(self, dim: int, config: AdapterConfig):
        super().__init__()
        self.query_norm = nn.LayerNorm(dim, eps=1e-6)
        self.feat_norm = nn.LayerNorm(dim, eps=1e-6)
        self.attn = config.attend(dim, 1)
        self.ffn = ConvFFN(dim, max(1, int(dim * 0.25 * config.adapter_width)))
        self.ffn_norm = nn.LayerNorm(dim, eps=1e-6)
        self.drop_path = DropPath(config.drop_path) if config.drop_path else nn.Identity()

    def forward(self, c: Tensor, x: Tensor, reference: Tensor, grids: list[Grid]) -> Tensor:
        """c: (B, 21 n, dim); x: (B, n, dim); reference: (1, 21 n, 1, 2); grids: of c. Returns c's shape."""
        c = c + self.attn(self.query_norm(c), reference, self.feat_norm(x), [grids[-1]])
        return c + self.drop_path(self.ffn(self.ffn_norm(c), grids))


class Interaction(nn.Module):
    """One exchange: injector, a stretch of ViT blocks (not held here), extractors; either may be absent.

    Args:
        dim: width of the ViT.
        config: which parts there are, and their settings.
        extra: number of extractors beside the first.
    """

    def __init__(self, dim: int, config: AdapterConfig, extra: int):
        super().__init__()
        self.injector = Injector(dim, config) if config.injector else None
        self.extractor = Extractor(dim, config) if config.extractor else None
        extras = [Extractor(dim, config) for _ in range(extra if config.extractor else 0)]
        self.extra_extractors = nn.ModuleList(extras) if extras else None


class Fusion(nn.Module):
    """Pyramid tokens, ViT features and the map at stride 2 to the four maps of the decoder; no parameters of its own.

    A module for `ViTAdapter.blocks`: the largest maps of the network are made here, by operations that are all memory.
    """

    def forward(
        self,
        up: nn.Module,
        norms: tuple[nn.Module, ...],
        pyramid: list[Tensor],
        c: Tensor,
        outs: list[Tensor],
        grids: list[Grid],
    ) -> list[Tensor]:
        """up: stride 4 to 2; norms: of the four maps; pyramid: maps at strides (2,) 4, 8, 16, of which only one at
        stride 2 is read; c: (B, 21 n, dim); outs: of the ViT (B, dim, h, w), or none; grids: of c. Returns (B, dim,
        H / s, W / s) at strides s = 2, 4, 8, 16."""
        maps = [to_map(part, g) for part, g in zip(c.split([a * b for a, b in grids], 1), grids)]
        # the largest map is summed in place: no gradient needs its terms
        finest = up(maps[0])
        maps.insert(0, finest.add_(pyramid[0]) if len(pyramid) == 4 else finest)
        for k, out in enumerate(outs):
            if k == 0 and out.shape[1] >= WIDE and not out.is_cuda:
                out = out.contiguous()
            if k < 3:
                out = enlarged(out, 2 ** (3 - k))
            maps[k] = maps[k].add_(out) if k == 0 else maps[k] + out
        return [norm(m) for norm, m in zip(norms, maps)]


class ViTAdapter(nn.Module):
    """The pyramid, the interactions and the four fused maps.

    Args:
        dim, depth: width and number of blocks of the ViT.
        config: see `AdapterConfig`.
        width: factor on the channels of the spatial prior alone, beside `config.adapter_width`; 1.0 as published (64
            in its stem).

    Raises:
        ValueError: interactions does not divide depth, 4 does not, heads do not fit, fewer than 0 extra extractors,
            or an attention that does not exist.
    """

    def __init__(self, dim: int, depth: int, config: AdapterConfig = AdapterConfig(), width: float = 1.0):
        super().__init__()
        interactions = config.interactions
        if depth % 4 or interactions < 1 or depth % interactions:
            raise ValueError(f"interactions is {interactions}; it must divide the depth {depth}, and so must 4")
        if config.extra_extractors < 0:
            raise ValueError(f"extra_extractors is {config.extra_extractors}; expected at least 0")
        if config.attention not in ATTENTIONS:
            raise ValueError(f"attention is '{config.attention}'; expected {' or '.join(ATTENTIONS)}")
        self.cls_in_vit, self.vit_features = config.cls_in_vit, config.vit_features
        self.taps = {depth * k // 4 for k in (1, 2, 3, 4)}
        self.level_embed = nn.Parameter(torch.randn(3, dim))
        stem = scaled(64, width * config.adapter_width)
        self.spm = SpatialPrior(stem, dim) if config.spatial_prior else PatchPrior()
        extra = [0] * (interactions - 1) + [config.extra_extractors]
        self.interactions = nn.ModuleList(Interaction(dim, config, count) for count in extra)
        self.up = nn.ConvTranspose2d(dim, dim, 2, 2)
        self.norm1, self.norm2, self.norm3, self.norm4 = (nn.BatchNorm2d(dim) for _ in range(4))
        self.fusion = Fusion()
        self.reset_parameters(config.offset_grid)

    def blocks(self) -> list[nn.Module]:
        """The pyramid, the injectors, the extractors and the fusion, see `methods.base.Method.blocks`."""
        parts = [self.spm, self.fusion]
        for exchange in self.interactions:
            parts += [exchange.injector, exchange.extractor, *(exchange.extra_extractors or [])]
        return [part for part in parts if part is not None]

    def reset_parameters(self, offset_grid: bool) -> None:
        """Convolutions He-normal (fan-out), linear layers truncated normal 0.02 without bias."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                fan_out = math.prod(module.kernel_size) * module.out_channels / module.groups
                nn.init.normal_(module.weight, 0.0, math.sqrt(2 / fan_out))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        if offset_grid:
            for module in self.modules():
                if isinstance(module, MSDeformAttn):
                    module.reset_offsets()

    def forward(self, vit: VisionTransformer, images: Tensor) -> tuple[list[Tensor], Tensor]:
        """Run `vit` with the adapter around it.

        Args:
            vit: of the constructor's width and depth.
            images: (B, 3, H, W) normalised, sides multiples of 16.

        Returns:
            maps (B, dim, H / s, W / s) at strides s = 2, 4, 8, 16; summary (B, dim) for the tissue head.
        """
        x, (h, w) = embed(vit, images)
        grids = [(4 * h, 4 * w), (2 * h, 2 * w), (h, w)]
        here = reference_points([(h, w)], x.device)
        everywhere = reference_points(grids, x.device)
        prefix, x = x[:, : vit.num_prefix_tokens], x[:, vit.num_prefix_tokens :]
        pyramid = self.spm(images) if isinstance(self.spm, SpatialPrior) else self.spm(x, (h, w))
        c = [m.flatten(2).transpose(1, 2) + self.level_embed[k] for k, m in enumerate(pyramid[-3:])]
        c = torch.cat(c, 1)

        count, outs = prefix.shape[1] if self.cls_in_vit else 0, []
        stretch = len(vit.blocks) // len(self.interactions)
        for k, exchange in enumerate(self.interactions):
            if exchange.injector is not None:
                x = exchange.injector(x, c, here, grids)
            tokens = torch.cat([prefix, x], 1) if self.cls_in_vit else x
            for number in range(k * stretch, (k + 1) * stretch):
                tokens = vit.blocks[number](tokens)
                if number + 1 in self.taps and self.vit_features:
                    outs.append(to_map(tokens[:, count:], (h, w)))
            x = tokens[:, count:]
            prefix = tokens[:, :count] if self.cls_in_vit else prefix
            for extractor in [exchange.extractor, *(exchange.extra_extractors or [])]:
                if extractor is not None:
                    c = extractor(c, x, everywhere, grids)

        norms = (self.norm1, self.norm2, self.norm3, self.norm4)
        maps = self.fusion(self.up, norms, pyramid, c, outs, grids)
        return maps, summary(vit, torch.cat([prefix, x], 1))


def _conv_bn(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    return [
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]
