"""Vision transformers: timm's, by our names or by timm's own, with weights from a file or the hub.

Plain ViTs (timm's VisionTransformer: patch tokens on one grid, any number of prefix tokens) and, for CellViT, SAM's
encoders.
"""

from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from benchmark.layers import sam
from benchmark.layers.backbones import BACKBONES, GATED, SAM, is_sam
from benchmark.layers.hipt import HIPT
from benchmark.layers.weights_file import load_weights, read_file
from benchmark.runtime.errors import InputError, near_miss
from benchmark.runtime.timm_alone import PatchEmbed, VisionTransformer, VisionTransformerSAM, timm

# parameters that feed the summary vector alone
SUMMARY = ("norm.", "fc_norm.", "attn_pool.", "neck.")


def build_backbone(name: str, weights: str | Path | None = None, drop_path: float = 0.0) -> VisionTransformer:
    """`build_encoder` for plain ViTs alone. Raises InputError for SAM's encoders too."""
    if is_sam(name):
        raise InputError(f"Backbone '{name}' is an encoder of SAM; expected a plain ViT (timm's VisionTransformer).")
    return build_encoder(name, weights, drop_path)


def build_encoder(
    name: str, weights: str | Path | None = None, drop_path: float = 0.0
) -> VisionTransformer | VisionTransformerSAM:
    """A ViT without classifier that takes any input whose sides are multiples of its patch.

    Args:
        name: a key of `BACKBONES`, or any timm name of a plain ViT or of SAM's.
        weights: None or "random" (random), "hub" (the published weights, downloaded), or a local file
            (.safetensors, .bin, .pth, .pt) of a state dict with timm's keys, or of Segment Anything or HIPT.
        drop_path: stochastic depth rate of the last block, rising linearly from 0 at the first.

    Raises:
        InputError: unknown name, another architecture, weights that cannot be had or do not fit.
    """
    row = _row(name)
    if row["timm"] != "hipt" and not timm.is_model(row["timm"].split(".")[0]):
        known = [*BACKBONES, *timm.list_models("*vit*")]
        raise InputError(
            f"Unknown backbone '{name}'; expected one of {', '.join(BACKBONES)} or the name of a timm ViT."
            + near_miss(name, known)
        )
    arguments = {"num_classes": 0, "drop_path_rate": drop_path} | row["arguments"]
    try:
        if row["timm"] == "hipt":
            vit = HIPT(dynamic_img_size=True, **arguments)
        else:
            vit = timm.create_model(row["timm"], pretrained=False, **_sizes(name), **arguments)
    except (TypeError, RuntimeError, AssertionError) as error:
        raise InputError(f"timm cannot build '{name}' as a plain ViT: {error}") from None
    if not isinstance(vit, VisionTransformer | VisionTransformerSAM):
        raise InputError(
            f"Backbone '{name}' is a {type(vit).__name__}; expected a plain ViT (timm's VisionTransformer)."
        )
    if type(vit.patch_embed) is not PatchEmbed or vit.pos_embed is None:
        raise InputError(f"Backbone '{name}' has no plain patch and position embedding; expected a plain ViT.")
    if weights not in (None, "random"):
        state = _from_hub(name, row) if str(weights) == "hub" else read_file(Path(weights))
        load_weights(vit, sam.timm_keys(state) if is_sam(name) else state, f"{weights}", name)
    return vit


def available(name: str, weights: str | Path | None) -> tuple[bool, str]:
    """(whether this backbone can be had with these weights, why not).

    Where weights are published, None is no choice: such a backbone is run at random only when asked to.
    """
    if weights is None and name in GATED:
        return False, f"the weights of '{name}' are gated: choose BACKBONE=<file>, or BACKBONE=hub with granted access"
    if weights is None and "licence" in BACKBONES.get(name, {}):
        hub = " BACKBONE=hub," if "hub" in BACKBONES[name] else ""
        return False, f"no weights given for '{name}': choose{hub} BACKBONE=<file> or BACKBONE=random"
    if weights in (None, "random"):
        return True, ""
    if str(weights) == "hub":
        if name in BACKBONES and "hub" not in BACKBONES[name]:
            return False, f"the hub has no weights of '{name}'; name a local file, BACKBONE=<file>"
        try:
            import huggingface_hub  # noqa: F401
        except ImportError:
            return False, "weights from the hub need the package huggingface_hub"
        return True, ""
    return (True, "") if Path(weights).is_file() else (False, f"weights file {weights} does not exist")


def normalisation(name: str, encoder: VisionTransformer | VisionTransformerSAM) -> tuple[tuple, tuple]:
    """(mean, std) per channel of the images that backbone `name`, built as `encoder`, is fed with.

    Those of its row in `BACKBONES`; for timm's own names those that timm holds for the model.
    """
    half = (0.5, 0.5, 0.5)
    row = BACKBONES[name] if name in BACKBONES else encoder.pretrained_cfg
    return tuple(row.get("mean", half)), tuple(row.get("std", half))


def _row(name: str) -> dict:
    return BACKBONES.get(name, {"timm": name, "arguments": SAM if is_sam(name) else {}, "hub": name})


def _sizes(name: str) -> dict:
    """Arguments with which timm's model takes images of any size; SAM's encoders need none."""
    return {} if is_sam(name) else {"dynamic_img_size": True}


def _from_hub(name: str, row: dict) -> dict[str, Tensor]:
    usable, reason = available(name, "hub")
    if not usable:
        raise InputError(f"Cannot load '{name}': {reason}.")
    try:
        return timm.create_model(
            row["hub"], pretrained=True, num_classes=0, **_sizes(name), **row["arguments"]
        ).state_dict()
    except Exception as error:  # no network, no permission, no such file: each has its own class
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"The weights of '{name}' cannot be had from the hub ({reason}); ask for access or pass a file."
        ) from None


def embed(vit: VisionTransformer, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Tokens before the first block, and the grid of the patch tokens.

    Args:
        images: (B, 3, H, W), sides multiples of 16. Where the patch is not 16 pixels the images are resized
            so that one token still stands for 16 x 16 pixels.

    Returns:
        (B, prefix + h * w, C) and (h, w) = (H / 16, W / 16).
    """
    grid = (images.shape[-2] // 16, images.shape[-1] // 16)
    patch = vit.patch_embed.patch_size
    if tuple(patch) != (16, 16):
        size = (grid[0] * patch[0], grid[1] * patch[1])
        images = F.interpolate(images, size=size, mode="bicubic", align_corners=False, antialias=True)
    tokens = vit._pos_embed(vit.patch_embed(images))
    return vit.norm_pre(vit.patch_drop(tokens)), grid


def features(
    vit: VisionTransformer | VisionTransformerSAM, images: Tensor, taps: list[int]
) -> tuple[list[Tensor], Tensor]:
    """Raw block outputs as maps, and the normalised summary vector.

    Args:
        images: as in `embed`.
        taps: numbers of blocks, from 1, after which a map is taken.

    Returns:
        maps (B, C, H / 16, W / 16), one per tap; summary (B, vit.num_features).
    """
    if isinstance(vit, VisionTransformerSAM):
        return sam.features(vit, images, taps)
    tokens, grid = embed(vit, images)
    maps = []
    for number, block in enumerate(vit.blocks, 1):
        tokens = block(tokens)
        if number in taps:
            maps.append(to_map(tokens[:, vit.num_prefix_tokens :], grid))
    return maps, summary(vit, tokens)


def summary(vit: VisionTransformer, tokens: Tensor) -> Tensor:
    """(B, C): the class token after the final LayerNorm; without one the mean of the patch tokens or what timm pools.

    Where the model has a class token, it is taken whatever the model was classified by.
    """
    if vit.attn_pool is not None or not isinstance(vit.fc_norm, nn.Identity):
        return vit.forward_head(vit.norm(tokens), pre_logits=True)
    if vit.cls_token is not None:
        return vit.norm(tokens[:, :1])[:, 0]
    return vit.norm(tokens[:, vit.num_prefix_tokens :]).mean(1)


def to_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, h * w, C) to (B, C, h, w)."""
    return tokens.transpose(1, 2).unflatten(2, grid)


def quarters(vit: VisionTransformer | VisionTransformerSAM, name: str = "the backbone") -> list[int]:
    """Numbers (from 1) of the blocks with which each quarter of the depth is reached. Raises InputError: depth < 4."""
    depth = len(vit.blocks)
    if depth < 4:
        raise InputError(f"The depth of {name} is {depth} blocks; expected at least 4.")
    return [-(-depth * k // 4) for k in (1, 2, 3, 4)]
