"""CellViT with its published encoders and on any plain ViT, and two arms of the CellVTA paper's comparison.

Hörst et al., "CellViT: Vision Transformers for precise cell segmentation and classification", Medical Image
Analysis 2024. The published models have the encoders of HIPT (row `vit256`) and of the Segment Anything Model
(`sam_b`, `sam_l`, `sam_h`). On other ViTs (`uni`, `virchow2`, ...) it is the same decoder on the raw outputs of the
plain ViT, which is also what the two arms (decoder-only, full fine-tuning) are: the same class with another `tune`.
Nobody published code for these, so they are defined here.
"""

import torch
from torch import Tensor, nn

from benchmark.layers import cellvit_decoder as parts
from benchmark.layers import sam
from benchmark.layers.cellvit_decoder import CellViTDecoder
from benchmark.layers.cellvit_loss import LossConfig, cellvit_loss
from benchmark.layers.instance_maps import raw_maps
from benchmark.layers.lora import add_lora, is_lora
from benchmark.layers.vit import SUMMARY, available, build_encoder, features, normalisation, quarters
from benchmark.methods.base import Method, Phase, check_scale
from benchmark.methods.registry import METHODS
from benchmark.representations.base import Representation
from benchmark.representations.named import representation
from benchmark.runtime.errors import InputError
from benchmark.runtime.timm_alone import VisionTransformerSAM

TUNES = ("staged", "decoder", "full", "lora")
PUBLISHED = ("vit256", "sam_b", "sam_l", "sam_h")
FOUNDATION = ("uni", "uni2", "virchow", "virchow2", "h_optimus_0", "dinov2_l")
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
    "keep": "last",  # the published evaluation reads latest_checkpoint, not model_best
    "monitor": "raw",
}


@METHODS.register_module(name="cellvit")
class CellViT(Method):
    """A ViT whose raw outputs after each quarter of depth feed CellViT's decoder; tissue from its summary vector.

    Rows `vit256`, `sam_b`, `sam_l` and `sam_h` are the published models, with the published losses' quirks; the
    other names of encoders are rows too. `paper` is `uni`, and `matched` the same without the quirks.

    Args:
        classes, tissues: as in `Method`; 0 leaves the type branch or the tissue head out.
        backbone: a name that `layers.vit.build_encoder` takes. Its row says how images are normalised.
        tune: "decoder" freezes the encoder, "full" trains all, "staged" is "decoder" for the first 25/130 of the
            epochs and then "full", as published; "lora" trains low-rank updates of the encoder's attention.
        width: scale of the decoder's channels, 1.0 as published.
        drop_path: of the encoder's last block, rising linearly from 0; also while the encoder is frozen.
        losses: quirks of the published losses.
        lora_rank: of the updates with tune=lora, see `layers.lora`.
        instances: how nuclei become maps, see `representations`; "hv" as published.
        weights: of the backbone: None, "random", "hub" or a local file.

    Raises:
        InputError: unknown backbone or tune, weights that do not fit, a rank below 1.
    """

    presets = (
        {"paper": {}, "matched": NO_QUIRKS, "small": SMALL, "debug": DEBUG}
        | {name: {"backbone": name} for name in PUBLISHED}
        | {name: {"backbone": name} for name in FOUNDATION}
    )
    # the published models' recipe; `paper` and `uni` take it over
    published = {row: RECIPE for row in ("paper", "uni", *PUBLISHED)}
    neutral = {"instances": "hv"}
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
        losses: LossConfig = LossConfig(),
        lora_rank: int = 8,
        instances: str = "hv",
        weights: str | None = None,
    ):
        super().__init__()
        self.representation = representation(instances)
        check_scale("cellvit", width=width, drop_path=drop_path)
        self.losses = losses
        self.vit = build_encoder(backbone, weights, drop_path)
        self.taps = quarters(self.vit, f"backbone '{backbone}'")
        self.mean, self.std = normalisation(backbone, self.vit)
        if self.is_sam:
            self.tile = sam.side(self.vit)
        self.decoder = CellViTDecoder(self.vit.embed_dim, self.representation.branches(classes), width)
        self.tissue_head = nn.Linear(self.vit.num_features, tissues) if tissues else None
        if tune == "lora":
            try:
                add_lora(self.vit, lora_rank)
            except ValueError as error:
                raise InputError(f"cellvit with tune=lora on '{backbone}': {error}.") from None
        self.tune = tune
        self.set_tune(tune)

    @property
    def is_sam(self) -> bool:
        return isinstance(self.vit, VisionTransformerSAM)

    @classmethod
    def representation_of(cls, arguments: dict) -> Representation:
        return representation(arguments["instances"])

    @classmethod
    def supports(cls, arguments: dict) -> tuple[bool, str]:
        return available(arguments["backbone"], arguments.get("weights"))

    def set_tune(self, tune: str) -> None:
        if tune not in TUNES:
            raise InputError(f"cellvit has no tune '{tune}'; it has {', '.join(TUNES)}.")
        if tune == "lora" and not any(is_lora(name) for name, _ in self.vit.named_parameters()):
            raise InputError("This cellvit was built without low-rank updates; build it with tune=lora.")
        self.requires_grad_(True)
        for name, parameter in self.vit.named_parameters():
            # without a tissue head nothing reads the summary
            idle = self.tissue_head is None and name.startswith(SUMMARY)
            parameter.requires_grad_((tune == "full" and not idle) or (tune == "lora" and is_lora(name)))

    def phases(self, published: bool) -> list[Phase]:
        if self.tune == "staged":
            return [Phase(0.0, "decoder"), Phase(UNFREEZE, "full")]
        return [Phase(0.0, self.tune)]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.normalise(images)
        frozen = not any(p.requires_grad for p in self.vit.parameters())
        with torch.set_grad_enabled(torch.is_grad_enabled() and not frozen):
            pyramid, summary = features(self.vit, x, self.taps)
        out = raw_maps(self.representation.name, self.decoder(x, pyramid), self.training)
        if self.tissue_head is not None:
            out["tissue"] = self.tissue_head(summary)
        return out

    def loss(self, outputs: dict[str, Tensor], batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return cellvit_loss(outputs, batch, self.losses, self.representation.name)

    def blocks(self) -> list[nn.Module]:
        return [*self.vit.blocks, *self.decoder.blocks()]

    def adapt(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Published CellViT keys ("encoder.blocks.0.norm1.weight", "decoder0.0.block.0.weight") to ours."""
        return parts.rename(state, {official_key(key, self.is_sam): key for key in self.state_dict()})


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


def official_key(key: str, is_sam: bool) -> str:
    """Key in a published CellViT file of a key of ours; the tissue head is part of its encoder but with SAM."""
    root, _, rest = key.partition(".")
    if root == "decoder":
        return parts.official_key(rest)
    if root == "tissue_head":
        return f"classifier_head.{rest}" if is_sam else f"encoder.head.{rest}"
    if is_sam:
        rest = rest.replace(".mlp.fc", ".mlp.lin")
    return f"encoder.{rest}"
