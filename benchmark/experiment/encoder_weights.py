"""Weights of a method's encoder before training: those that BACKBONE= names, a small ViT's pretext, or random ones."""

import contextlib
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from benchmark.methods import registry
from benchmark.runtime.errors import InputError, near_miss


@dataclass(frozen=True)
class EncoderWeights:
    """Where an encoder's weights come from.

    Attributes:
        source: a local file, "hub", "pretext" (made by `training.pretrain` when the cell runs), or None: random ones.
        label: what tables call them.
        mark: identifies the weights themselves; the label, where that does.
    """

    source: str | None
    label: str
    mark: str

    @property
    def short(self) -> str:
        """What the name of a run calls them: "hub", "random", or a file's name with 8 digits of its mark."""
        if self.source in ("hub", None):
            return self.source or "random"
        name, _, mark = self.label.rpartition(":")
        return f"{name}-{mark[:8]}"


def random(label: str = "random") -> EncoderWeights:
    """Random weights, or weights that do not fill the encoder alone; `label` is what tables call them."""
    return EncoderWeights(None, label, label)


def resolve(encoder: str | None, chosen: str | None, updates: int | None) -> EncoderWeights:
    """The weights of an encoder.

    Args:
        encoder: its name (`Method.encoder_of`); None when there is none to fill.
        chosen: the user's choice for it, see `choice`.
        updates: the recipe's `pretrain`: updates of a small ViT's pretext, 0 for random weights, None for the default.

    Raises:
        InputError: a file that does not exist.
    """
    if encoder is None or chosen == "random":
        return random()
    if chosen == "hub":
        return EncoderWeights("hub", f"{encoder} (hub)", f"{encoder} (hub)")
    if chosen:
        label = f"{Path(chosen).name}:{file_mark(Path(chosen))}"
        return EncoderWeights(chosen, label, label)
    from benchmark.training import pretrain

    if encoder in pretrain.BACKBONES and updates != 0:
        label = f"synthetic pretext:{pretrain.key(encoder, updates=updates)}"
        return EncoderWeights("pretext", label, label)
    return random()


def choice(text: str | None, encoder: str | None, is_vit: bool) -> str | None:
    """The choice of BACKBONE= for an encoder: a local file, "hub", "random", or None for none.

    Args:
        text: "uni.bin", "hub", "random", or several such as "uni=uni.bin vit256=vit256.pth resnet50=preact.tar".
        encoder: its name (`Method.encoder_of`); None when there is none to fill.
        is_vit: one file without a name is for ViTs alone; "random" is for all.
    """
    named = by_name(text)
    if named:
        return named.get(encoder) if encoder else None
    return text if is_vit or text == "random" else None


def by_name(text: str | None) -> dict[str, str]:
    """{encoder: file, "hub" or "random"}; {} for a choice that names no encoder."""
    words = (text or "").split()
    if not all(re.fullmatch(r"\w[\w.-]*=\S+", word) for word in words):
        return {}
    return dict(word.split("=", 1) for word in words)


def check(text: str | None) -> None:
    """Raises InputError for a name that no method has an encoder of."""
    if not by_name(text):
        return
    from benchmark.runtime.timm_alone import timm  # seconds, for the few who name encoders

    classes = []
    for name in registry.known_names():
        with contextlib.suppress(InputError):  # a broken package of another's: no encoder is known of it
            classes.append(registry.method_class(name))
    encoders = (cls.encoder_of(cls.arguments() | row) for cls in classes for row in cls.presets.values())
    known = {encoder for encoder in encoders if encoder is not None}
    for name in by_name(text):
        if name not in known and not timm.is_model(name.split(".")[0]):
            raise InputError(
                f"BACKBONE names the encoder '{name}'; known are {', '.join(sorted(known))} and timm's ViTs."
                f"{near_miss(name, known)}"
            )


def file_mark(path: Path) -> str:
    """12 hex digits that identify a file of weights: a hash of its size, its first and its last MiB.

    Raises:
        InputError: the file does not exist.
    """
    if not path.is_file():
        raise InputError(f"Backbone weights '{path}' do not exist; give a file, 'hub' or 'random'.")
    size = path.stat().st_size
    with open(path, "rb") as handle:
        ends = handle.read(1 << 20)
        handle.seek(max(0, size - (1 << 20)))
        ends += handle.read()
    return hashlib.sha256(ends + str(size).encode()).hexdigest()[:12]
