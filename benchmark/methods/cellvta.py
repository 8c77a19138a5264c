"""CellVTA: a frozen pathology ViT, an adapter with a high-resolution pyramid, and CellViT's branches.

Yang et al., "CellVTA: Enhancing Vision Foundation Models for Accurate Cell Segmentation and Classification"
(2025).
"""

from torch import Tensor, nn

from benchmark.errors import InputError
from benchmark.layers import decoder as parts
from benchmark.layers.adapter import ViTAdapter
from benchmark.layers.decoder import HVDecoder, scaled
from benchmark.layers.objective import cellvit_loss
from benchmark.layers.vit import available, build_backbone
from benchmark.methods.base import Method, check_scale
from benchmark.postproc import cellvit as maps
from benchmark.registry import METHODS

FROZEN = ("cls_token", "pos_embed", "reg_token", "patch_embed.", "norm_pre.", "blocks.")
TUNES = ("adapter", "adapter+full", "full")
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
}


@METHODS.register_module(name="cellvta")
class CellVTA(Method):
    """See the module. Row `paper` is the published model with its quirks, `matched` the same without them;
    `small` and `debug` have the published architecture on a small ViT, without them.

    Args:
        classes, tissues: as in `Method`; 0 leaves the type branch or the tissue head out.
        backbone: a name that `layers.vit.build_backbone` takes; its depth must be a multiple of 4.
        tune: "adapter" trains all but the ViT's embedding and blocks (its last norm trains, as published);
            "full" or "adapter+full" trains everything.
        interactions, points, heads, deform_ratio, extra_extractors, injector, extractor, vit_features: see
            `layers.adapter.ViTAdapter`.
        width: scale of the decoder's and the spatial prior's channels, 1.0 as published.
        drop_path: of the ViT's last block (rising linearly from 0, frozen or not) and of every extractor.
        cls_in_vit: False as published: the class token skips the ViT, so the tissue head is blind.
        offset_grid: False as published: later initialisation wipes out the sampling offsets' directions.
        double_softmax, cross_msge: True as published, see `layers.losses`.
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
    reference = "Yang et al. 2025, CellVTA"
    licence = "Apache-2.0 (this implementation)"

    def __init__(
        self,
        classes: int,
        tissues: int,
        *,
        backbone: str = "uni",
        tune: str = "adapter",
        interactions: int = 4,
        points: int = 4,
        heads: int = 8,
        deform_ratio: float = 0.5,
        extra_extractors: int = 2,
        injector: bool = True,
        extractor: bool = True,
        vit_features: bool = True,
        width: float = 1.0,
        drop_path: float = 0.4,
        cls_in_vit: bool = False,
        offset_grid: bool = False,
        double_softmax: bool = True,
        cross_msge: bool = True,
        weights: str | None = None,
    ):
        super().__init__()
        check_scale("cellvta", width=width, drop_path=drop_path, points=points)
        self.double_softmax, self.cross_msge = double_softmax, cross_msge
        self.vit = build_backbone(backbone, weights, drop_path)
        dim = self.vit.embed_dim
        try:
            self.adapter = ViTAdapter(
                dim,
                len(self.vit.blocks),
                width=scaled(64, width),
                interactions=interactions,
                points=points,
                heads=heads,
                deform_ratio=deform_ratio,
                extra_extractors=extra_extractors,
                drop_path=drop_path,
                cls_in_vit=cls_in_vit,
                injector=injector,
                extractor=extractor,
                vit_features=vit_features,
                offset_grid=offset_grid,
            )
        except ValueError as error:
            raise InputError(f"cellvta on '{backbone}': {error}.") from None
        self.decoder = HVDecoder(dim, classes, width, pyramid=True)
        self.tissue_head = nn.Linear(dim, tissues) if tissues else None
        if self.tissue_head is not None:
            nn.init.trunc_normal_(self.tissue_head.weight, std=0.02)
            nn.init.zeros_(self.tissue_head.bias)
        self.set_tune(tune)

    @classmethod
    def supports(cls, arguments: dict) -> tuple[bool, str]:
        return available(arguments["backbone"], arguments.get("weights"))

    def set_tune(self, tune: str) -> None:
        if tune not in TUNES:
            raise InputError(f"cellvta has no tune '{tune}'; it has {', '.join(TUNES)}.")
        self.tune = tune
        self.requires_grad_(True)
        blind = not self.adapter.cls_in_vit
        for name, parameter in self.vit.named_parameters():
            # without a tissue head nothing reads the summary, nor a class token that skips the ViT
            idle = not self.tissue_head and (name.startswith("norm.") or (blind and name == "cls_token"))
            parameter.requires_grad_(not idle and (tune != "adapter" or not name.startswith(FROZEN)))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x = self.normalise(images)
        pyramid, summary = self.adapter(self.vit, x)
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
        """Published CellVTA keys ("encoder.spm.stem.0.weight", "decoder0.0.block.0.weight") to ours."""
        return parts.rename(state, {official_key(key): key for key in self.state_dict()})


def official_key(key: str) -> str:
    """Key in a published CellVTA file of a key of ours: its encoder holds ViT, adapter and tissue head."""
    root, _, rest = key.partition(".")
    if root == "decoder":
        return parts.official_key(rest)
    return f"encoder.head.{rest}" if root == "tissue_head" else f"encoder.{rest}"
