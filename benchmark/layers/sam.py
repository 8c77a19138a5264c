"""The image encoder of the Segment Anything Model as CellViT uses it, over timm's modules.

Kirillov et al., "Segment Anything", ICCV 2023; Hörst et al., "CellViT", Medical Image Analysis 2024. Windowed and
global attention with relative positions, which `runtime.timm_alone` keeps on the GPU. For images smaller than 1024 px
CellViT cuts the position embedding, so that pixels keep their distance, where timm resamples it.
"""

from torch import Tensor

from benchmark.runtime.errors import InputError
from benchmark.runtime.timm_alone import VisionTransformerSAM


def side(sam: VisionTransformerSAM) -> int:
    """Largest side in pixels for which there are positions."""
    return sam.pos_embed.shape[1] * sam.patch_embed.patch_size[0]


def features(sam: VisionTransformerSAM, images: Tensor, taps: list[int]) -> tuple[list[Tensor], Tensor]:
    """Raw block outputs as maps, and the mean of the neck's output.

    The published code takes square images only; here the position embedding is cut to the rows and the columns.

    Args:
        images: (B, 3, H, W), sides multiples of 16 up to `side`.
        taps: numbers of blocks, from 1, after which a map is taken.

    Returns:
        maps (B, C, H / 16, W / 16), one per tap; summary (B, channels of the neck).

    Raises:
        InputError: images larger than `side`.
    """
    if max(images.shape[-2:]) > side(sam):
        raise InputError(
            f"Images are {images.shape[-2]} x {images.shape[-1]} pixels; expected sides of at most {side(sam)}, for "
            "which SAM's encoder has positions: predict in tiles (`predict` does)."
        )
    x = sam.patch_embed(images)
    x = sam.norm_pre(sam.patch_drop(sam.pos_drop(x + sam.pos_embed[:, : x.shape[1], : x.shape[2]])))
    maps = []
    for number, block in enumerate(sam.blocks, 1):
        x = block(x)
        if number in taps:
            maps.append(x.permute(0, 3, 1, 2))
    return maps, sam.neck(x.permute(0, 3, 1, 2)).mean((2, 3))


def timm_keys(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """State dict of a published Segment Anything file (its image encoder alone) under timm's keys; others as is."""
    root = "image_encoder."
    if not any(key.startswith(root) for key in state):
        return state
    return {k.removeprefix(root).replace(".mlp.lin", ".mlp.fc"): v for k, v in state.items() if k.startswith(root)}
