"""What every method is: one nn.Module with its representation of instances and its loss.

The harness alone knows epochs, precision, EMA, DDP, folds and files.
"""

import inspect
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import ClassVar

import torch
from torch import nn

from benchmark.layers.backbones import BACKBONES
from benchmark.layers.image_ops import centre, in_windows, pad_to, standardised
from benchmark.representations.base import Representation
from benchmark.runtime.errors import InputError


@dataclass(frozen=True)
class Phase:
    """A stretch of training. start: fraction of all epochs in [0, 1); tune: what is trainable from there on."""

    start: float
    tune: str
    reset: bool = False  # a fresh optimiser and schedule, as HoVer-Net's second phase has
    batch_scale: float = 1.0


class Method(nn.Module):
    """Base class; see `benchmark/methods/*.py` for one file per method.

    Args of every subclass: `classes` (nucleus types without background; 0 = no type branch), `tissues` (0 = no
    tissue head), then its own keyword arguments, all with defaults. Arguments that travel together are fields of a
    frozen dataclass, which is one argument of the constructor; names such as `cellvta@points=8` stay flat.
    """

    # row name -> overrides of the defaults. Rows are presets (debug, small, paper) and published variants.
    presets: ClassVar[dict[str, dict]] = {}
    # row name -> recipe values that replace those of the published experiment (see experiments/_base_)
    published: ClassVar[dict[str, dict]] = {}
    published_on: ClassVar[dict[str, dict[str, dict]]] = {}  # dataset -> row -> what differs from `published` there
    # targets, ideal maps and decoding: what runs without the network, in workers too. An attribute of the class
    # where no argument changes it, see `representation_of`
    representation: Representation
    fixed: ClassVar[frozenset[str]] = frozenset()  # arguments that define the method: no name may change them
    # argument that came after results had been stored -> the value that computes what was computed before it; with
    # this value it is no part of a result's identity (`registry.identity_arguments`), so that old results stay done
    neutral: ClassVar[dict[str, object]] = {}
    reference: ClassVar[str] = ""
    licence: ClassVar[str] = ""
    version: ClassVar[int] = 1  # raise it when results change; part of a result's identity
    trainable: ClassVar[bool] = True  # False: nothing to train (the classical baseline)
    mpp: float = 0.25  # micrometres per pixel that `predict` shows it; of its weights, where these tell another
    has_types: bool = True  # False: predicts nuclei without types (no type branch)
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.5, 0.5, 0.5)
    margin: int = 0  # pixels that the output lacks on each side of the input (valid convolutions)
    multiple: int = 16  # input sides are padded to a multiple of this
    patch_targets: bool = False  # targets depend on the patch that a centred crop is of: `targets(nuclei, patch)`
    tile: int | None = None  # largest input side; larger images are predicted in tiles

    @classmethod
    def _defaults(cls) -> dict:
        """Name -> default of the constructor's own arguments, configs whole."""
        hidden = {"self", "classes", "tissues", "weights"}
        return {
            name: p.default
            for name, p in inspect.signature(cls.__init__).parameters.items()
            if name not in hidden and p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)
        }

    @classmethod
    def arguments(cls) -> dict:
        """Name -> default of all arguments (not classes, tissues or weights); the fields of a config by their names."""
        flat = {}
        for name, default in cls._defaults().items():
            if is_dataclass(default):
                flat |= {field.name: getattr(default, field.name) for field in fields(default)}
            else:
                flat[name] = default
        return flat

    @classmethod
    def from_arguments(cls, classes: int, tissues: int, **flat) -> "Method":
        """Construct from arguments by name, as `arguments` lists them; those that are left out keep their defaults.

        Args:
            classes, tissues: as for the constructor.
            flat: arguments of the constructor and fields of its configs; also `weights`, where it takes them.
        """
        for name, default in cls._defaults().items():
            if is_dataclass(default):
                own = [field.name for field in fields(default) if field.name in flat]
                flat[name] = replace(default, **{field: flat.pop(field) for field in own})
        return cls(classes, tissues, **flat)

    @classmethod
    def supports(cls, arguments: dict) -> tuple[bool, str]:
        """(runnable here, reason when not): gated weights absent, a package missing."""
        return True, ""

    @classmethod
    def backbone_of(cls, arguments: dict) -> str | None:
        """Name of the ViT whose weights `weights=` can fill (`layers.vit.BACKBONES`), or None when there is none."""
        return arguments.get("backbone")

    @classmethod
    def encoder_of(cls, arguments: dict) -> str | None:
        """Name of the encoder whose weights `weights=` can fill, a ViT or not, or None when there is none."""
        return cls.backbone_of(arguments)

    @classmethod
    def weights_licence(cls, arguments: dict) -> str | None:
        """Licence of the published weights of the encoder, as `layers.backbones` has it; None where it has none."""
        return BACKBONES.get(cls.encoder_of(arguments) or "", {}).get("licence")

    @classmethod
    def representation_of(cls, arguments: dict) -> Representation:
        """`representation` of the method with these arguments (not classes, tissues or weights), which is not built."""
        return cls.representation

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Raw maps of a batch.

        Args:
            images: float (B, 3, H, W) RGB in [0, 1]; normalised inside.

        Returns:
            the maps of `representation.channels()`, such as np and hv (B, 2, H', W'), tp (B, classes+1, H', W'),
            tissue (B, tissues); logits, no argmax; keys absent where the method has no such head.
        """
        raise NotImplementedError

    def loss(self, outputs: dict[str, torch.Tensor], batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Named, weighted loss terms; the harness sums and logs them.

        `batch` holds the stacked targets plus typed (B,) bool, tissue (B,) int64 (-1 = none of the known).
        Untyped images take no part in type losses, unknown tissues none in the tissue loss. Maps larger than the
        crop are cut to its centre by the harness.
        """
        raise NotImplementedError

    def set_tune(self, tune: str) -> None:
        """Set requires_grad according to `tune` ("decoder", "full", "adapter" …)."""
        for parameter in self.parameters():
            parameter.requires_grad_(True)

    def phases(self, published: bool) -> list[Phase]:
        """Stretches of training; the matched recipe (published=False) has one unless the method is defined by more."""
        return [Phase(0.0, getattr(self, "tune", "full"))]

    def groups(self, lr: float, weight_decay: float) -> list[dict]:
        """Optimiser parameter groups. All parameters are handed over; frozen ones have no gradient and stay."""
        return [{"params": list(self.parameters()), "lr": lr, "weight_decay": weight_decay}]

    def blocks(self) -> list[nn.Module]:
        """Modules that `recipe.compile` compiles and `recipe.recompute` recomputes, each by itself: called as wholes in
        `forward`, none within another.

        Large enough to be worth a graph, small enough that equal ones (a ViT's blocks) are compiled once for all and
        that one block's activations are a small share of the network's. Their inputs are not changed in place, and no
        output depends on a buffer that their own forward pass changes.
        """
        return [self]

    def adapt(self, state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Keys of an officially published checkpoint to ours."""
        return state

    # What follows is shared and rarely overridden.

    def normalise(self, images: torch.Tensor) -> torch.Tensor:
        """(images - mean) / std per channel; on a GPU with the channels last in memory, and all maps made of them too.

        There convolutions copy nothing so, and batch norms of large maps have a faster kernel.
        """
        out = standardised(images, self.mean, self.std)
        return out.contiguous(memory_format=torch.channels_last) if out.is_cuda else out

    def input_side(self, side: int) -> int:
        """Smallest input side whose output covers `side` pixels."""
        return -(-(side + 2 * self.margin) // self.multiple) * self.multiple

    def predict(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Raw maps that cover every pixel of `images`: mirror padding, tiling, and the centre kept.

        Args:
            images: float (B, 3, H, W) in [0, 1].

        Returns:
            as forward, with H' = H and W' = W.
        """
        height, width = images.shape[-2:]
        if self.tile is None or max(self.input_side(height), self.input_side(width)) <= self.tile:
            padded, _ = pad_to(images, self.input_side(height), self.input_side(width))
            return {k: centre(v, height, width) for k, v in self(padded).items()}
        return in_windows(self, images, self.tile, self.margin)


def check_scale(name: str, *, width: float, drop_path: float, points: int = 1) -> None:
    """Raises InputError for a width that is not positive, a drop path outside [0, 1), or no sampling points."""
    for what, value, fits, expected in (
        ("width", width, width > 0, "a number above 0"),
        ("drop_path", drop_path, 0 <= drop_path < 1, "a number in [0, 1)"),
        ("points", points, points >= 1, "a whole number of at least 1"),
    ):
        if not fits:
            raise InputError(f"{name}'s {what} is {value}; expected {expected}.")
