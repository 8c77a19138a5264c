"""Weights of encoders: read from a file, checked and filled in."""

import argparse
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmark import stand_ins
from benchmark.errors import InputError


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


def read_file(path: Path) -> dict[str, Tensor]:
    """State dict of a local file, out of the wrappers that are in use; nothing in the file is executed.

    Raises:
        InputError: no such file, or one that holds no state dict.
    """
    if not path.is_file():
        raise InputError(f"Weights file {path} does not exist; expected a .safetensors, .bin, .pth or .tar file.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        # beside their tensors such files hold numbers and paths, and DINO's their options
        with torch.serialization.safe_globals([argparse.Namespace, *stand_ins.STAND_INS]):
            state = stand_ins.settled(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # pickle, zip and safetensors each have their own classes
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"Weights file {path} cannot be read as tensors: {reason}") from None
    for wrapper in ("teacher", "state_dict", "model_state_dict", "model", "desc"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"Weights file {path} holds no state dict; expected tensors by name.")
    # DINO's wrappers of the network
    return {k.removeprefix("module.").removeprefix("backbone."): v for k, v in state.items()}
