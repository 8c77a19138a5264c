"""Vision transformers: timm's, by our names or by timm's own, with weights from a file or the hub.

Only plain ViTs are taken (timm's VisionTransformer): patch tokens on one grid, any number of prefix tokens.
"""

from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from benchmark.errors import InputError, near_miss

# name -> timm architecture, its arguments, and where its published weights are. LayerNorm eps is timm's 1e-6.
BACKBONES: dict[str, dict] = {
    "uni": {
        "timm": "vit_large_patch16_224",
        "arguments": {"init_values": 1e-5},
        "hub": "hf-hub:MahmoodLab/uni",
        "licence": "CC BY-NC-ND 4.0, gated",
        "gated": True,
    },
    # the small ones' side is that of their training crops, so that positions are not resampled there
    "tiny": {
        "timm": "vit_tiny_patch16_224",
        "arguments": {"embed_dim": 128, "depth": 8, "num_heads": 4, "img_size": 128},
    },
    "nano": {
        "timm": "vit_tiny_patch16_224",
        "arguments": {"embed_dim": 32, "depth": 4, "num_heads": 2, "img_size": 64},
    },
}
GATED = {name for name, row in BACKBONES.items() if row.get("gated")}


def build_backbone(name: str, weights: str | Path | None = None, drop_path: float = 0.0) -> VisionTransformer:
    """A ViT without classifier that takes any input whose sides are multiples of its patch.

    Args:
        name: a key of `BACKBONES`, or any timm name of a plain ViT.
        weights: None or "random" (random), "hub" (the published weights, downloaded), or a local file
            (.safetensors, .bin, .pth, .pt) of a state dict with timm's keys.
        drop_path: stochastic depth rate of the last block, rising linearly from 0 at the first.

    Raises:
        InputError: unknown name, not a plain ViT, weights that cannot be had or do not fit.
    """
    row = BACKBONES.get(name, {"timm": name, "arguments": {}, "hub": name})
    if not timm.is_model(row["timm"].split(".")[0]):
        known = [*BACKBONES, *timm.list_models("*vit*")]
        raise InputError(
            f"Unknown backbone '{name}'; expected one of {', '.join(BACKBONES)} or the name of a timm ViT."
            + near_miss(name, known)
        )
    arguments = {"num_classes": 0, "dynamic_img_size": True, "drop_path_rate": drop_path} | row["arguments"]
    try:
        vit = timm.create_model(row["timm"], pretrained=False, **arguments)
    except (TypeError, RuntimeError, AssertionError) as error:
        raise InputError(f"timm cannot build '{name}' as a plain ViT: {error}") from None
    if not isinstance(vit, VisionTransformer):
        raise InputError(
            f"Backbone '{name}' is a {type(vit).__name__}; expected a plain ViT (timm's VisionTransformer)."
        )
    if weights not in (None, "random"):
        state = _from_hub(name, row) if str(weights) == "hub" else _from_file(Path(weights))
        load_weights(vit, state, f"{weights}", name)
    return vit


def available(name: str, weights: str | Path | None) -> tuple[bool, str]:
    """(whether this backbone can be had with these weights, why not); gated ones are not run at random."""
    if weights is None and name in GATED:
        return False, f"the weights of '{name}' are gated: pass a local file, or 'hub' with granted access"
    if weights in (None, "random"):
        return True, ""
    if str(weights) == "hub":
        if name in BACKBONES and "hub" not in BACKBONES[name]:
            return False, f"no weights of '{name}' are published; pass a local file"
        try:
            import huggingface_hub  # noqa: F401
        except ImportError:
            return False, "weights from the hub need the package huggingface_hub"
        return True, ""
    return (True, "") if Path(weights).is_file() else (False, f"weights file {weights} does not exist")


def load_weights(vit: nn.Module, state: dict[str, Tensor], source: str, name: str) -> None:
    """Fill `vit` with `state` (timm's keys; a classifier head is dropped), every key and shape as expected.

    Raises:
        InputError: missing or unexpected keys, or shapes that differ.
    """
    own = vit.state_dict()
    state = {k: v for k, v in state.items() if k in own or not k.startswith(("head.", "fc_norm."))}
    wrong = [
        f"{k} has shape {tuple(state[k].shape)}, expected {tuple(v.shape)}"
        for k, v in own.items()
        if k in state and state[k].shape != v.shape
    ]
    wrong += [f"{k} is missing" for k in own if k not in state]
    wrong += [f"{k} is not part of it" for k in state if k not in own]
    if wrong:
        found = "; ".join(wrong[:3]) + (f" and {len(wrong) - 3} more" if len(wrong) > 3 else "")
        raise InputError(f"Weights {source} do not fit backbone '{name}' ({found}); pass a file of that model.")
    vit.load_state_dict(state)


def _from_file(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"Weights file {path} does not exist; expected a .safetensors, .bin or .pth file.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # pickle, zip and safetensors each have their own classes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"Weights file {path} cannot be read as tensors: {reason}") from None
    for wrapper in ("state_dict", "model_state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"Weights file {path} holds no state dict; expected tensors by name.")
    return state


def _from_hub(name: str, row: dict) -> dict[str, Tensor]:
    usable, reason = available(name, "hub")
    if not usable:
        raise InputError(f"Cannot load '{name}': {reason}.")
    try:
        return timm.create_model(
            row["hub"], pretrained=True, num_classes=0, dynamic_img_size=True, **row["arguments"]
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


def features(vit: VisionTransformer, images: Tensor, taps: list[int]) -> tuple[list[Tensor], Tensor]:
    """Raw block outputs as maps, and the normalised summary vector.

    Args:
        images: as in `embed`.
        taps: numbers of blocks, from 1, after which a map is taken.

    Returns:
        maps (B, C, H / 16, W / 16), one per tap; summary (B, C).
    """
    tokens, grid = embed(vit, images)
    maps = []
    for number, block in enumerate(vit.blocks, 1):
        tokens = block(tokens)
        if number in taps:
            maps.append(to_map(tokens[:, vit.num_prefix_tokens :], grid))
    return maps, summary(vit, tokens)


def summary(vit: VisionTransformer, tokens: Tensor) -> Tensor:
    """(B, C): the class token after the final LayerNorm; the mean of the patch tokens where there is none."""
    if vit.cls_token is not None:
        return vit.norm(tokens[:, :1])[:, 0]
    return vit.norm(tokens[:, vit.num_prefix_tokens :]).mean(1)


def to_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, h * w, C) to (B, C, h, w)."""
    return tokens.transpose(1, 2).unflatten(2, grid)


def quarters(vit: VisionTransformer, name: str = "the backbone") -> list[int]:
    """Numbers (from 1) of the blocks that end each quarter. Raises InputError: depth no multiple of 4."""
    depth = len(vit.blocks)
    if depth % 4:
        raise InputError(f"The depth of {name} is {depth} blocks; expected a multiple of 4.")
    return [depth * k // 4 for k in (1, 2, 3, 4)]
