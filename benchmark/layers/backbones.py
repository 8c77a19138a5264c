"""The encoders that have a name here: architecture, normalisation, where the published weights are, licence.

Keys of a row:
    timm: timm's architecture; "hipt" is `layers.hipt.HIPT`, names in samvit_* are `layers.sam`.
    arguments: of its constructor. Without a norm layer among them, LayerNorm's eps is timm's 1e-6.
    mean, std: of the images, per channel; absent where the published segmentation models feed 0.5 and 0.5, whatever
        the encoder was pretrained with (UNI: ImageNet's).
    hub: where timm finds the published weights; absent where there are none on the hub.
    licence, gated: of these weights; gated ones have to be asked for.
"""

from functools import partial

from torch import nn

from benchmark.runtime.timm_alone import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD, SwiGLUPacked

IMAGENET = {"mean": IMAGENET_DEFAULT_MEAN, "std": IMAGENET_DEFAULT_STD}
# a gated linear unit: the hidden width counts both halves
SWIGLU = {"mlp_layer": SwiGLUPacked, "act_layer": nn.SiLU}
SAM = {"norm_layer": partial(nn.LayerNorm, eps=1e-6)}  # timm's SAM would take 1e-5

BACKBONES: dict[str, dict] = {
    # plain ViTs trained on pathology
    "uni": {
        "timm": "vit_large_patch16_224",
        "arguments": {"init_values": 1e-5},
        "hub": "hf-hub:MahmoodLab/uni",
        "licence": "CC BY-NC-ND 4.0, gated",
        "gated": True,
    },
    "uni2": {
        "timm": "vit_giant_patch14_224",
        "arguments": {"embed_dim": 1536, "depth": 24, "num_heads": 24, "mlp_ratio": 2.66667 * 2}
        | {"init_values": 1e-5, "reg_tokens": 8, "no_embed_class": True}
        | SWIGLU,
        **IMAGENET,
        "hub": "hf-hub:MahmoodLab/UNI2-h",
        "licence": "CC BY-NC-ND 4.0, gated",
        "gated": True,
    },
    "virchow": {
        "timm": "vit_huge_patch14_224",
        "arguments": {"mlp_ratio": 5.3375, "init_values": 1e-5, "global_pool": ""} | SWIGLU,
        **IMAGENET,
        "hub": "hf-hub:paige-ai/Virchow",
        "licence": "Apache-2.0, gated",
        "gated": True,
    },
    "virchow2": {
        "timm": "vit_huge_patch14_224",
        "arguments": {"mlp_ratio": 5.3375, "init_values": 1e-5, "global_pool": "", "reg_tokens": 4} | SWIGLU,
        **IMAGENET,
        "hub": "hf-hub:paige-ai/Virchow2",
        "licence": "CC BY-NC-ND 4.0, gated",
        "gated": True,
    },
    "h_optimus_0": {
        "timm": "vit_giant_patch14_reg4_dinov2",
        "arguments": {"img_size": 224, "init_values": 1e-5},
        "mean": (0.707223, 0.578729, 0.703617),
        "std": (0.211883, 0.230117, 0.177517),
        "hub": "hf-hub:bioptimus/H-optimus-0",
        "licence": "Apache-2.0, gated",
        "gated": True,
    },
    # a plain ViT trained on photographs
    "dinov2_l": {
        "timm": "vit_large_patch14_dinov2",
        "arguments": {"img_size": 518},
        **IMAGENET,
        "hub": "hf-hub:timm/vit_large_patch14_dinov2.lvd142m",
        "licence": "Apache-2.0",
    },
    # the encoders of the published CellViT models
    "vit256": {"timm": "hipt", "arguments": {}, "licence": "Apache-2.0 with Commons Clause"},
    "sam_b": {
        "timm": "samvit_base_patch16",
        "arguments": SAM,
        "hub": "hf-hub:timm/samvit_base_patch16.sa1b",
        "licence": "Apache-2.0",
    },
    "sam_l": {
        "timm": "samvit_large_patch16",
        "arguments": SAM,
        "hub": "hf-hub:timm/samvit_large_patch16.sa1b",
        "licence": "Apache-2.0",
    },
    "sam_h": {
        "timm": "samvit_huge_patch16",
        "arguments": SAM,
        "hub": "hf-hub:timm/samvit_huge_patch16.sa1b",
        "licence": "Apache-2.0",
    },
    # small ones without published weights, for laptops and tests
    # the ViTs' side is that of their training crops, so that positions are not resampled there
    "tiny": {
        "timm": "vit_tiny_patch16_224",
        "arguments": {"embed_dim": 128, "depth": 8, "num_heads": 4, "img_size": 128},
    },
    "nano": {
        "timm": "vit_tiny_patch16_224",
        "arguments": {"embed_dim": 32, "depth": 4, "num_heads": 2, "img_size": 64},
    },
    "sam_nano": {
        "timm": "samvit_base_patch16",
        "arguments": {"embed_dim": 32, "depth": 4, "num_heads": 2, "img_size": 512}
        | {"global_attn_indexes": (1, 3), "window_size": 5, "neck_chans": 16}
        | SAM,
    },
}
GATED = {name for name, row in BACKBONES.items() if row.get("gated")}


def is_sam(name: str) -> bool:
    """Whether `name` (a key of `BACKBONES` or a timm name) is an encoder of the Segment Anything Model."""
    return BACKBONES.get(name, {"timm": name})["timm"].startswith("samvit_")
