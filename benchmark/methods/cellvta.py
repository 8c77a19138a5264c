"""CellVTA: a frozen pathology ViT, an adapter with a high-resolution pyramid, and CellViT's branches.

Yang et al., "CellVTA: Enhancing Vision Foundation Models for Accurate Cell Segmentation and Classification"
(2025).
"""

from torch import Tensor, nn

from benchmark.layers import cellvit_decoder as parts
from benchmark.layers.adapter import AdapterConfig, ViTAdapter
from benchmark.layers.cellvit_decoder import CellViTDecoder
from benchmark.layers.cellvit_loss import LossConfig, cellvit_loss
from benchmark.layers.instance_maps import raw_maps
from benchmark.layers.lora import add_lora, is_lora
from benchmark.layers.vit import available, build_backbone
from benchmark.methods.base import Method, check_scale
from benchmark.methods.registry import METHODS
from benchmark.representations.base import Representation
from benchmark.representations.named import representation
from benchmark.runtime.errors import InputError

FROZEN = ("cls_token", "pos_embed", "reg_token", "patch_embed.", "norm_pre.", "blocks.")
TUNES = ("adapter", "lora", "adapter+full", "full")
# the published code's quirks, each a switch (defaults reproduce them), and drop path in the frozen ViT; all off here
NO_QUIRKS = {
    "cls_in_vit": True,
    "offset_grid": True,
    "double_softmax": False,
    "cross_msge": False,
    "drop_path": 0.0,
}
# PanNuke; the exponential decay is the one that ran (the configuration's 0.85 is never read)
RECIPE = {
    "epochs": 100,
    "batch": 8,
    "crop": 256,
    "optimiser": {"name": "adamw", "lr": 3e-4, "betas": (0.85, 0.95), "weight_decay": 1e-4},
    "schedule": {"name": "exponential", "warmup": 0.0, "gamma": 0.95},
    "precision": "fp32",
    "clip": 0.0,
    "augment": "cellvta",
    "sampling": {"strategy": "cell+tissue", "gamma": 0.85, "factors": "pannuke"},
    "keep": "best",
    "monitor": "raw",
}
# x40 tiles of the patches; the validation fifth is drawn from the tiles, so that it overlaps the training
CONIC = {
    "epochs": 50,
    "eval_every": 5,
    "tiling": "conic40",
    "validation": "random_tiles",
    "sampling": {"strategy": "random"},
}


@METHODS.register_module(name="cellvta")
class CellVTA(Method):
    """See the module. Row `paper` is the published model with its quirks, `matched` the same without them;
    `small` and `debug` have the published architecture on a small ViT, without them.

    Args:
        classes, tissues: as in `Method`; 0 leaves the type branch or the tissue head out.
        backbone: a name that `layers.vit.build_backbone` takes; its depth must be a multiple of 4.
        tune: "adapter" trains all but the ViT's embedding and blocks (its last norm trains, as published); "lora"
            adds to that low-rank updates of the ViT's attention; "full" or "adapter+full" trains everything.
        lora_rank: rank of these updates (`layers.lora`; alpha 16); without meaning for another tune.
        adapter: the adapter's settings. Their `drop_path` is also that of the ViT's last block (rising linearly from
            0, frozen or not); without `cls_in_vit`, as published, the tissue head is blind.
        width: scale of the decoder's and the spatial prior's channels, 1.0 as published.
        losses: quirks of the published losses.
        instances: how nuclei become maps, see `representations`; "hv" as published.
        weights: of the backbone: None, "random", "hub" or a local file.

    Raises:
        InputError: unknown backbone or tune, weights that do not fit, interactions or heads that do not.
    """

    presets = {
        "paper": {},
        "matched": NO_QUIRKS,
        "small": {"backbone": "tiny", "width": 0.125, "heads": 4, "deform_ratio": 0.25} | NO_QUIRKS,
        "debug": {"backbone": "nano", "width": 0.0625, "heads": 2, "points": 2} | NO_QUIRKS,
    }
    published = {"paper": RECIPE}
    published_on = {"conic": {"paper": CONIC}}
    neutral = {"instances": "hv"}
    reference = "Yang et al. 2025, CellVTA"
    licence = "Apache-2.0 (this implementation)"

    def __init__(
        self,
        classes: int,
        tissues: int,
        *,
        backbone: str = "uni",
        tune: str = "adapter",
        lora_rank: int = 8,
        adapter: AdapterConfig = AdapterConfig(),
        width: float = 1.0,
        losses: LossConfig = LossConfig(),
        instances: str = "hv",
        weights: str | None = None,
    ):
        super().__init__()
        self.representation = representation(instances)
        narrowest = min(width, adapter.adapter_width)
        check_scale("cellvta", width=narrowest, drop_path=adapter.drop_path, points=adapter.points)
        self.losses = losses
        self.vit = build_backbone(backbone, weights, adapter.drop_path)
        dim = self.vit.embed_dim
        try:
            self.adapter = ViTAdapter(dim, len(self.vit.blocks), adapter, width)
        except ValueError as error:
            raise InputError(f"cellvta on '{backbone}': {error}.") from None
        self.decoder = CellViTDecoder(dim, self.representation.branches(classes), width, pyramid=True)
        self.tissue_head = nn.Linear(dim, tissues) if tissues else None
        if self.tissue_head is not None:
            nn.init.trunc_normal_(self.tissue_head.weight, std=0.02)
            nn.init.zeros_(self.tissue_head.bias)
        if tune == "lora":
            _add_lora(self.vit, lora_rank)
        self.set_tune(tune)

    @classmethod
    def representation_of(cls, arguments: dict) -> Representation:
        return representation(arguments["instances"])

    @classmethod
    def supports(cls, arguments: dict) -> tuple[bool, str]:
        return available(arguments["backbone"], arguments.get("weights"))

    def set_tune(self, tune: str) -> None:
        if tune == "decoder":
            raise InputError("cellvta has no tune 'decoder': a frozen ViT without adapter is the method decoder_only.")
        if tune not in TUNES:
            raise InputError(f"cellvta has no tune '{tune}'; it has {', '.join(TUNES)}.")
        if tune == "lora" and not any(is_lora(name) for name, _ in self.vit.named_parameters()):
            raise InputError("This cellvta was built without low-rank updates; build it with tune=lora.")
        self.tune = tune
        self.requires_grad_(True)
        blind = not self.adapter.cls_in_vit
        for name, parameter in self.vit.named_parameters():
            # without a tissue head nothing reads the summary, nor a class token that skips the ViT
            idle = not self.tissue_head and (name.startswith("norm.") or (blind and name == "cls_token"))
            free = not name.startswith(FROZEN) or (tune == "lora" and is_lora(name))
            parameter.requires_grad_(not idle and (free or tune in ("full", "adapter+full")))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.normalise(images)
        pyramid, summary = self.adapter(self.vit, x)
        out = raw_maps(self.representation.name, self.decoder(x, pyramid), self.training)
        if self.tissue_head is not None:
            out["tissue"] = self.tissue_head(summary)
        return out

    def loss(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return cellvit_loss(outputs, batch, self.losses, self.representation.name)

    def blocks(self) -> list[nn.Module]:
        return [*self.vit.blocks, *self.adapter.blocks(), *self.decoder.blocks()]

    def adapt(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Published CellVTA keys ("encoder.spm.stem.0.weight", "decoder0.0.block.0.weight") to ours."""
        return parts.rename(state, {official_key(key): key for key in self.state_dict()})


def _add_lora(vit: nn.Module, rank: int) -> None:
    try:
        add_lora(vit, rank)
    except ValueError as error:
        raise InputError(f"cellvta's tune=lora, lora_rank={rank}: {error}.") from None


def official_key(key: str) -> str:
    """Key in a published CellVTA file of a key of ours: its encoder holds ViT, adapter and tissue head."""
    root, _, rest = key.partition(".")
    if root == "decoder":
        return parts.official_key(rest)
    return f"encoder.head.{rest}" if root == "tissue_head" else f"encoder.{rest}"
