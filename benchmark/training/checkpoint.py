"""Checkpoints: written whole or not at all, read without executing anything."""

import hashlib
import zipfile
from pathlib import Path

import safetensors.torch
import torch

from benchmark.layers.weights_file import reason
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import atomic


def save(path: Path, state: dict) -> None:
    """Write a training checkpoint (tensors and plain Python values only)."""
    with atomic(path) as handle:
        try:
            torch.save(state, handle)
        except RuntimeError as error:  # a failed write: torch's archive fails once more while it is closed
            cause: BaseException = error
            while cause.__context__ is not None and not isinstance(cause, OSError):
                cause = cause.__context__
            raise cause from None


def load(path: Path) -> dict:
    """Read a training checkpoint onto the CPU with weights_only=True. Raises InputError when it is damaged."""
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # torch does not look at the checksums
                raise ValueError(f"wrong checksum of {damaged}")
        state = torch.load(path, map_location="cpu", weights_only=True)
        if not isinstance(state, dict) or "place" not in state:
            raise ValueError("it holds something else")
        return state
    except Exception as error:  # the unpickler stumbles over damaged bytes in any way
        raise InputError(
            f"{path}: expected a training checkpoint of this benchmark, found a file that does not load "
            f"({reason(error)}); "
            "delete it and run again."
        ) from error


def save_weights(path: Path, module: torch.nn.Module) -> str:
    """Write a module's parameters and buffers as safetensors; returns the file's SHA-256."""
    state = {k: v.detach().cpu().contiguous().clone() for k, v in module.state_dict().items()}
    content = safetensors.torch.save(state)
    with atomic(path) as handle:
        handle.write(content)
    return hashlib.sha256(content).hexdigest()


def load_weights(path: Path, module: torch.nn.Module) -> None:
    """Fill a module from `save_weights`, strictly.

    Raises:
        InputError: no such file, or keys or shapes that differ.
    """
    if not Path(path).is_file():
        raise InputError(
            f"{path}: expected the weights of this run, found no file; remove the run folder and run again."
        )
    try:
        module.load_state_dict(safetensors.torch.load_file(path), strict=True)
    except Exception as error:  # safetensors and torch each have their own classes
        why = (str(error).splitlines() or [type(error).__name__])[0][:160]
        raise InputError(
            f"{path}: the stored weights do not fit this method ({why}); delete the run folder and run again."
        ) from error
