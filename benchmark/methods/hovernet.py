"""HoVer-Net: one encoder, three dense branches (nucleus, distances, type), outputs smaller than inputs.

Graham et al. 2019, "HoVer-Net: Simultaneous segmentation and classification of nuclei in multi-tissue
histology images", Medical Image Analysis 58, and the two modes of its published PyTorch code: `original` (270
to 80 pixels, 5×5) and `fast` (256 to 164 pixels, 3×3; the one used for PanNuke).

Where it differs from the publication, on purpose:
- with rim_targets=false (small and matched rows) every nucleus of the crop has distances, from what the crop
  holds of it. True as published: they come from the whole patch, and are 0 for fewer than 30 pixels in the crop
  and within 2 pixels of the patch's top or left edge;
- the encoder starts at random unless `weights` names a file with the published ImageNet weights.
"""

from pathlib import Path
from typing import ClassVar

import torch
from torch import nn

from benchmark.layers import losses
from benchmark.layers.hovernet_branch import Branch, crops
from benchmark.layers.hovernet_encoder import Encoder
from benchmark.layers.hovernet_keys import adapt
from benchmark.layers.image_ops import centre
from benchmark.layers.weights_file import read_file
from benchmark.methods import registry
from benchmark.methods.base import Method, Phase
from benchmark.representations.hv import HoVerNetHV
from benchmark.runtime.errors import InputError, near_miss

ENCODERS = {"resnet50": (3, 4, 6, 3), "resnet23": (1, 2, 2, 2), "resnet14": (1, 1, 1, 1)}
PRETRAINED = "resnet50"  # of these, the one whose ImageNet weights are published
MODES = {"fast": {"kernel": 3, "stem": 0, "tile": 256}, "original": {"kernel": 5, "stem": 6, "tile": 270}}
TUNES = ("decoder", "full")
NO_QUIRKS = {"cross_msge": False, "rim_targets": False}

# two phases of 50 epochs (see `phases`); crop is the supervised side: 256 - 92 and 270 - 190 pixels
RECIPE = {
    "epochs": 100,
    "batch": 16,
    "crop": 164,
    "crop_at": "centre",
    "optimiser": {"name": "adam", "lr": 1e-4, "betas": (0.9, 0.999), "weight_decay": 0.0},
    "schedule": {"name": "step", "gamma": 0.1},
    "precision": "fp32",
    "clip": 0.0,
    "augment": "hovernet",
    "sampling": {"strategy": "random"},
    "keep": "last",
    "monitor": "raw",
}


@registry.METHODS.register_module(name="hovernet")
class HoVerNet(Method):
    """HoVer-Net in either published mode and any width.

    Args:
        classes: nucleus types without background; 0 = no type branch.
        tissues: not used; HoVer-Net has no tissue head.
        mode: "fast" or "original".
        width: channels relative to the published 64 of the stem; 64 × width must be a multiple of 8.
        encoder: "resnet50" as published, or the shallower "resnet23", "resnet14".
        dense: dense units at stride 4, half as many at stride 2; 8 as published. Fewer lose fewer pixels.
        tune: "full", or "decoder": HoVer-Net's first phase, which fixes the residual units of the first stage
            and all of the other stages; the stem, the first stage's shortcut and last normalisation and the
            bottleneck train with the decoders, and running statistics keep following the data, as published.
        tile: largest input side when predicting; None = the published 256 or 270.
        cross_msge: True as published, see `layers.losses`; small presets have the paper's formula.
        rim_targets: True as published: which distances the rim of a centred crop has, see the module.
        weights: local file with an encoder or a whole network in the published layout, or None.
    """

    presets: ClassVar[dict[str, dict]] = {
        "debug": {"width": 0.125, "encoder": "resnet14", "dense": 2, "tile": 512} | NO_QUIRKS,
        "small": {"width": 0.125, "encoder": "resnet23", "dense": 2, "tile": 512} | NO_QUIRKS,
        "paper": {},
        "matched": NO_QUIRKS,
        "fast": {},
        "original": {"mode": "original"},
    }
    published: ClassVar[dict[str, dict]] = {
        "debug": {"optimiser": RECIPE["optimiser"], "schedule": RECIPE["schedule"]},  # the phases, for tests
        "paper": RECIPE,
        "fast": RECIPE,
        "original": RECIPE | {"crop": 80},
    }
    reference = "Graham et al., Medical Image Analysis 58 (2019)"
    licence = "Apache-2.0 (this implementation)"
    mean = (0.0, 0.0, 0.0)
    std = (1.0, 1.0, 1.0)
    multiple = 8
    representation = HoVerNetHV()

    def __init__(
        self,
        classes: int,
        tissues: int = 0,
        *,
        mode: str = "fast",
        width: float = 1.0,
        encoder: str = "resnet50",
        dense: int = 8,
        tune: str = "full",
        tile: int | None = None,
        cross_msge: bool = True,
        rim_targets: bool = True,
        weights: str | Path | None = None,
    ):
        super().__init__()
        _one_of("mode", mode, MODES)
        _one_of("encoder", encoder, ENCODERS)
        channels = round(64 * width)
        if channels < 8 or channels % 8 or channels != 64 * width:
            raise InputError(f"hovernet's width is {width}; 64 × width must be a multiple of 8, such as 0.125 or 0.5.")
        if not isinstance(dense, int) or dense < 2 or dense % 2:
            raise InputError(f"hovernet's dense is {dense}; expected an even number of at least 2.")
        self.cross_msge, self.patch_targets = cross_msge, rim_targets
        kernel, self.stem_loss = MODES[mode]["kernel"], MODES[mode]["stem"]
        self.margin = (crops(kernel, dense)[0] + self.stem_loss) // 2
        self.tile = MODES[mode]["tile"] if tile is None else tile
        if (
            not isinstance(self.tile, int)
            or self.tile <= 2 * self.margin
            or (self.tile - self.stem_loss) % self.multiple
        ):
            raise InputError(
                f"hovernet's tile is {tile}; expected more than {2 * self.margin} and {self.stem_loss} "
                f"above a multiple of {self.multiple}, such as {self.input_side(2 * self.margin)}."
            )
        self.encoder = Encoder(channels, ENCODERS[encoder], padded=mode == "fast")
        heads = ({"tp": classes + 1} if classes else {}) | self.representation.channels()
        self.branches = nn.ModuleDict({k: Branch(channels, n, kernel, dense) for k, n in heads.items()})
        self._initialise()
        if weights is not None:
            self._load(Path(weights))
        self.tune = tune
        self.set_tune(tune)

    @classmethod
    def backbone_of(cls, arguments: dict) -> str | None:
        """None: the encoder is not a ViT."""
        return None

    @classmethod
    def encoder_of(cls, arguments: dict) -> str | None:
        """Name of the convolutional encoder."""
        return arguments["encoder"]

    @classmethod
    def supports(cls, arguments: dict) -> tuple[bool, str]:
        """The published encoder starts from ImageNet weights, which are not bundled: at random only when asked to."""
        weights = arguments.get("weights")
        if arguments["encoder"] == PRETRAINED and weights in (None, "hub"):
            missing = f"no weights given for '{PRETRAINED}'" if weights is None else f"no hub has '{PRETRAINED}'"
            return False, f"{missing}: choose BACKBONE={PRETRAINED}=<file> or BACKBONE=random"
        return True, ""

    def input_side(self, side: int) -> int:
        """Smallest input side whose output covers `side` pixels: sides after the stem are multiples of 8."""
        return -(-(side + 2 * self.margin - self.stem_loss) // self.multiple) * self.multiple + self.stem_loss

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """float (B, 3, H, W) in [0, 1] to tp, np, hv of (B, …, H - 2 margin, W - 2 margin).

        Raises:
            ValueError: a side is not one that `input_side` returns.
        """
        for side in images.shape[-2:]:
            if (side - self.stem_loss) % self.multiple or side <= 2 * self.margin:
                raise ValueError(f"input side {side} does not fit; use input_side(), such as {self.input_side(side)}")
        # channels last: a third faster on a CPU, where these narrow maps are bound by memory
        images = self.normalise(images).contiguous(memory_format=torch.channels_last)
        maps = self.encoder(images)
        return {name: branch(maps) for name, branch in self.branches.items()}

    def loss(self, outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Cross-entropy and Dice of np and tp, squared error of hv and of its gradients; weights 1."""
        height, width = batch["np"].shape[-2:]
        out = {k: centre(v, height, width) for k, v in outputs.items()}
        nucleus = losses.onehot(batch["np"], 2)
        terms = {
            "np_bce": losses.xentropy(out["np"], nucleus),
            "np_dice": losses.dice(out["np"], nucleus),
            "hv_mse": losses.mse(out["hv"], batch["hv"]),
            "hv_msge": losses.msge(out["hv"], batch["hv"], batch["np"], cross=self.cross_msge),
        }
        if "tp" in out:
            types = losses.onehot(batch["tp"], out["tp"].shape[1])
            terms["tp_bce"] = losses.xentropy(out["tp"], types, batch["typed"])
            terms["tp_dice"] = losses.dice(out["tp"], types, weight=batch["typed"])
        return terms

    def set_tune(self, tune: str) -> None:
        """ "decoder" or "full"; see the class."""
        _one_of("tune", tune, TUNES)
        self.requires_grad_(True)
        self.encoder.freeze(tune == "decoder")

    def phases(self, published: bool) -> list[Phase]:
        """Published: half of the epochs with the encoder fixed, then all of it at a quarter of the batch."""
        if not published:
            return [Phase(0.0, self.tune)]
        return [Phase(0.0, "decoder"), Phase(0.5, "full", reset=True, batch_scale=4 / 16)]

    def blocks(self) -> list[nn.Module]:
        return [*self.encoder.stages, *self.branches.values()]

    def adapt(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Keys of a published checkpoint ("conv0./.weight" …, `desc` and `module.` stripped) to ours."""
        return adapt(state)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        for name, branch in self.branches.items():
            # logits must be able to grow within few updates; the distances' gradient term drowns all others
            # where they start large
            gain = 0.3 if name == "hv" else 2.0
            nn.init.normal_(branch.head.weight, std=gain / branch.head.in_channels**0.5)
            nn.init.zeros_(branch.head.bias)

    def _load(self, path: Path) -> None:
        """The bottleneck may be absent: it is no part of the classifier that the published weights come from."""
        state = adapt(read_file(path))
        own = self.state_dict()
        optional = ("encoder.bottleneck.weight", *(k for k in own if k.endswith("num_batches_tracked")))
        needed = [k for k in own if k.startswith("encoder.") and (k in state or k not in optional)]
        wrong = [k for k in needed if k not in state or state[k].shape != own[k].shape]
        if wrong:
            raise InputError(
                f"{path}: not the encoder that hovernet was built with ('{wrong[0]}' is absent or differs)."
            )
        self.load_state_dict({k: v for k, v in state.items() if k in own and v.shape == own[k].shape}, strict=False)


def _one_of(name: str, value: str, known) -> None:
    if value not in known:
        hint = near_miss(str(value), known)
        raise InputError(f"hovernet's {name} is '{value}'; expected one of {', '.join(known)}.{hint}")
