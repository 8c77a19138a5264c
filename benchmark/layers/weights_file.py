"""Files with the weights of a whole method, in the layouts in which they are published; nothing in them is executed.

- CellViT and CellVTA: a dict with `arch`, `config` (flattened with ".") and `model_state_dict`; files of a training
  also hold optimizer, scheduler and scaler states, `wandb_id` and the like.
- HoVer-Net: `{"desc": state_dict, ...}`; trained with several GPUs, all keys begin with `module.`.
- A plain state dict, and safetensors, as this benchmark's runs store them.
"""

import argparse
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from torch import Tensor, nn

from benchmark.runtime import stand_ins
from benchmark.runtime.errors import InputError

ENVELOPES = ("model_state_dict", "desc", "state_dict", "model")


@dataclass(frozen=True)
class Content:
    """What a file holds. state: name -> tensor; config: dotted name -> value, {} where the file has none."""

    state: dict[str, torch.Tensor]
    config: dict = field(default_factory=dict)
    arch: str = ""
    layout: str = "plain state dict"

    def setting(self, name: str):
        """The value of the configuration entry whose last part is `name`, or None."""
        return next((v for k, v in self.config.items() if k == name or k.endswith(f".{name}")), None)


def read(path: Path) -> Content:
    """Read a file of weights onto the CPU; large files are memory-mapped where their layout allows it.

    Raises:
        InputError: no such file, a damaged one, one that would have to be executed, or one without weights.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: expected a file of weights, found {'a folder' if path.is_dir() else 'nothing'}.")
    if path.suffix == ".safetensors":
        return Content(_safetensors(path), layout="safetensors")
    content = _torch(path)
    if not isinstance(content, Mapping):
        raise InputError(f"{path}: expected a dict with weights, found a {type(content).__name__}.")
    if "place" in content:
        raise InputError(
            f"{path}: is the checkpoint of an unfinished run; continue that run, or give the weights.safetensors that "
            "lies beside it."
        )
    envelope = next((name for name in ENVELOPES if isinstance(content.get(name), Mapping)), None)
    layout = f"'{envelope}'" if envelope else "plain state dict"
    stored = content[envelope] if envelope else content
    state = {key: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for key, v in stored.items()}
    wrong = [str(k) for k, v in state.items() if not isinstance(k, str) or not isinstance(v, torch.Tensor)]
    if wrong or not state:
        fault = f"the entry '{wrong[0]}', which is no tensor" if wrong else "no entry"
        raise InputError(f"{path}: expected weights (a dict of tensors, or one under {_names()}), found {fault}.")
    config = content.get("config") if envelope else None
    arch = content.get("arch") if envelope else None
    _check_backed(state, path)
    return Content(state, _flat(config) if isinstance(config, Mapping) else {}, str(arch or ""), layout)


def _torch(path: Path, *admitted):
    try:
        check_zip(path)
        # beside their tensors published files hold numbers, arrays and paths
        with torch.serialization.safe_globals([*admitted, *stand_ins.STAND_INS]):
            content = torch.load(str(path), map_location="cpu", weights_only=True, mmap=_stored(path))
        return stand_ins.settled(content)
    except Exception as error:  # the unpickler stumbles over damaged or hostile bytes in any way
        refused = re.search(r"GLOBAL ([\w.]+) (?:was not an allowed|whose module)", str(error))
        if refused:
            raise InputError(
                f"{path}: holds a Python object of the kind '{refused[1]}', and weights are loaded without executing "
                "anything; save it again with the state dict and plain values only."
            ) from None
        raise InputError(
            f"{path}: expected a file of weights written by torch.save, found one that does not load "
            f"({reason(error)}); it is damaged or of another kind, download it again."
        ) from None


def check_zip(path: Path) -> None:
    """Raises ValueError or zipfile.BadZipFile for a zip with a wrong checksum, at which torch does not look."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if wrong := archive.testzip():
                raise ValueError(f"wrong checksum of {wrong}")


def _stored(path: Path) -> bool:
    """Whether a file is a zip that holds its members as they are, as torch.save writes it, so that it can be mapped.

    Of one that was packed again the mapped bytes would be the compressed ones.
    """
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())


def _check_backed(state: Mapping, path: Path) -> None:
    """Raises InputError for a tensor that has more values than the file: a stride of 0 makes any number of one."""
    for key, value in state.items():
        dense = value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized
        if not dense or value.numel() * value.element_size() > value.untyped_storage().nbytes():
            raise InputError(f"{path}: expected tensors with all their values, '{key}' has more than the file holds.")


def _safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except Exception as error:  # safetensors and torch each have their own classes
        raise InputError(f"{path}: expected safetensors, found a file that does not load ({reason(error)}).") from None


def _flat(nested: Mapping, path: str = "") -> dict:
    out = {}
    for key, value in nested.items():
        out |= _flat(value, f"{path}{key}.") if isinstance(value, Mapping) else {f"{path}{key}": value}
    return out


def reason(error: Exception) -> str:
    """Why torch or safetensors could not load a file, as a part of a sentence: without torch's advice to load it
    otherwise, which would execute what is in it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    why = next((line for line in lines if line.startswith("WeightsUnpickler error")), lines[0])
    return "it is no file of tensors" if why.startswith("Weights only load failed") else why[:120]


def _names() -> str:
    return ", ".join(f"'{name}'" for name in ENVELOPES)


def load_weights(vit: nn.Module, state: dict[str, Tensor], source: str, name: str) -> None:
    """Fill `vit` with `state` (timm's keys; a classifier head is dropped), every key and shape as expected.

    Raises:
        InputError: missing or unexpected keys, shapes that differ, or values that are not finite.
    """
    own = vit.state_dict()
    state = {k: v for k, v in state.items() if k in own or not k.startswith(("head.", "fc_norm."))}
    faults = [
        f"{k} has shape {tuple(state[k].shape)}, expected {tuple(v.shape)}"
        for k, v in own.items()
        if k in state and state[k].shape != v.shape
    ]
    faults += [f"{k} is missing" for k in own if k not in state]
    faults += [f"{k} is not part of it" for k in state if k not in own]
    faults += [f"{k} holds values that are not finite" for k, v in state.items() if not torch.isfinite(v).all()]
    if faults:
        first = "; ".join(faults[:3]) + (f" and {len(faults) - 3} more" if len(faults) > 3 else "")
        raise InputError(f"Weights {source} do not fit backbone '{name}' ({first}); pass a file of that model.")
    vit.load_state_dict(state)


def read_file(path: Path) -> dict[str, Tensor]:
    """State dict of a local file, out of the wrappers that are in use; nothing in the file is executed.

    Raises:
        InputError: no such file, or one that holds no state dict.
    """
    if not path.is_file():
        raise InputError(f"Weights file {path} does not exist; expected a .safetensors, .bin, .pth or .tar file.")
    # beside their tensors such files hold numbers and paths, and DINO's their options
    state = _safetensors(path) if path.suffix == ".safetensors" else _torch(path, argparse.Namespace)
    for wrapper in ("teacher", "state_dict", "model_state_dict", "model", "desc"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"Weights file {path} holds no state dict; expected tensors by name.")
    _check_backed(state, path)
    # DINO's wrappers of the network
    return {k.removeprefix("module.").removeprefix("backbone."): v for k, v in state.items()}
