"""CellViT on any plain ViT, and two arms of the CellVTA paper's comparison: decoder-only, full fine-tuning.

Hörst et al., "CellViT: Vision Transformers for precise cell segmentation and classification", Medical Image
Analysis 2024. The arms are the same class with another `tune`; their authors published no code for them, so
they are defined here: the CellViT decoder on the raw outputs of the plain ViT.
"""

import torch
from torch import Tensor, nn

from benchmark.errors import InputError
from benchmark.layers import decoder as parts
from benchmark.layers.decoder import HVDecoder
from benchmark.layers.objective import cellvit_loss
from benchmark.layers.vit import available, build_backbone, features, quarters
from benchmark.methods.base import Method, Phase, check_scale
from benchmark.postproc import cellvit as maps
from benchmark.registry import METHODS

UNFREEZE = 25 / 130  # the published schedule: ViT frozen for 25 of 130 epochs
# the published loss functions' quirks, off in the matched recipe
NO_QUIRKS = {"double_softmax": False, "cross_msge": False}
SMALL = {"backbone": "tiny", "width": 0.125} | NO_QUIRKS
DEBUG = {"backbone": "nano", "width": 0.0625} | NO_QUIRKS
# PanNuke; the exponential decay is the one that ran (the configuration's 0.85 is never read)
RECIPE = {
    "epochs": 130,
    "batch": 16,
    "crop": 256,
    "optimiser": {"name": "adamw", "lr": 3e-4, "betas": (0.85, 0.95), "weight_decay": 1e-4},
    "schedule": {"name": "exponential", "warmup": 0.0, "gamma": 0.95},
    "precision": "fp16",
    "clip": 0.0,
    "augment": "cellvit",
    "sampling": {"strategy": "cell+tissue", "gamma": 0.85, "factors": "pannuke"},
}


@METHODS.register_module(name="cellvit")
class CellViT(Method):
    """A ViT whose raw outputs after each quarter of depth feed CellViT's decoder; tissue from class token.

    Row `paper` has the published losses' quirks, `matched` the same model without them.

    Args:
        classes, tissues: as in `Method`; 0 leaves the type branch or the tissue head out.
        backbone: a name that `layers.vit.build_backbone` takes; its depth must be a multiple of 4.
        tune: "decoder" freezes the ViT, "full" trains all, "staged" is "decoder" for the first 25/130 of the
            epochs and then "full", as published.
        width: scale of the decoder's channels, 1.0 as published.
        drop_path: of the ViT's last block, rising linearly from 0; also while the ViT is frozen.
        double_softmax, cross_msge: True as published, see `layers.losses`.
        weights: of the backbone: None, "random", "hub" or a local file.

    Raises:
        InputError: unknown backbone or tune, weights that do not fit.
    """

    presets = {"paper": {}, "matched": NO_QUIRKS, "small": SMALL, "debug": DEBUG}
    published = {"paper": RECIPE}
    reference = "Hörst et al. 2024, CellViT"
    licence = "Apache-2.0 (this implementation)"

    def __init__(
        self,
        classes: int,
        tissues: int,
        *,
        backbone: str = "uni",
        tune: str = "staged",
        width: float = 1.0,
        drop_path: float = 0.0,
        double_softmax: bool = True,
        cross_msge: bool = True,
        weights: str | None = None,
    ):
        super().__init__()
        check_scale("cellvit", width=width, drop_path=drop_path)
        self.double_softmax, self.cross_msge = double_softmax, cross_msge
        self.vit = build_backbone(backbone, weights, drop_path)
        self.taps = quarters(self.vit, f"backbone '{backbone}'")
        self.decoder = HVDecoder(self.vit.embed_dim, classes, width)
        self.tissue_head = nn.Linear(self.vit.embed_dim, tissues) if tissues else None
        self.tune = tune
        self.set_tune(tune)

    @classmethod
    def supports(cls, arguments: dict) -> tuple[bool, str]:
        return available(arguments["backbone"], arguments.get("weights"))

    def set_tune(self, tune: str) -> None:
        if tune not in ("staged", "decoder", "full"):
            raise InputError(f"cellvit has no tune '{tune}'; it has staged, decoder, full.")
        self.requires_grad_(True)
        for name, parameter in self.vit.named_parameters():
            # without a tissue head nothing reads the final norm
            idle = self.tissue_head is None and name.startswith("norm.")
            parameter.requires_grad_(tune == "full" and not idle)

    def phases(self, published: bool) -> list[Phase]:
        if self.tune == "staged":
            return [Phase(0.0, "decoder"), Phase(UNFREEZE, "full")]
        return [Phase(0.0, self.tune)]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.normalise(images)
        frozen = not any(p.requires_grad for p in self.vit.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            pyramid, summary = features(self.vit, x, self.taps)
        out = self.decoder(x, pyramid)
        if self.tissue_head is not None:
            out["tissue"] = self.tissue_head(summary)
        return out

    def loss(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return cellvit_loss(outputs, batch, double_softmax=self.double_softmax, cross_msge=self.cross_msge)

    targets = staticmethod(maps.targets)
    ideal = staticmethod(maps.ideal)
    decode = staticmethod(maps.decode)

    def adapt(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Published CellViT keys ("encoder.blocks.0.norm1.weight", "decoder0.0.block.0.weight") to ours."""
        return parts.rename(state, {official_key(key): key for key in self.state_dict()})


@METHODS.register_module(name="decoder_only")
class DecoderOnly(CellViT):
    """`cellvit` with tune=decoder: the ViT stays frozen."""

    presets = {row: {"tune": "decoder"} | values for row, values in CellViT.presets.items()}
    published = {}
    fixed = frozenset({"tune"})
    reference = "Yang et al. 2025, decoder-only arm (defined here)"


@METHODS.register_module(name="full_finetune")
class FullFinetune(CellViT):
    """`cellvit` with tune=full: the ViT trains from the first epoch."""

    presets = {row: {"tune": "full"} | values for row, values in CellViT.presets.items()}
    published = {}
    fixed = frozenset({"tune"})
    reference = "Yang et al. 2025, full fine-tuning arm (defined here)"


def official_key(key: str) -> str:
    """Key in a published CellViT file of a key of ours: its encoder holds the tissue head too."""
    root, _, rest = key.partition(".")
    if root == "decoder":
        return parts.official_key(rest)
    return f"encoder.head.{rest}" if root == "tissue_head" else f"encoder.{rest}"
