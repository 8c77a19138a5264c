"""Number formats of forward passes."""

import contextlib

import torch


def precision_on(name: str, device: torch.device) -> str:
    """ "auto" becomes bf16 on a GPU that has it, fp16 on one that has not, fp32 on a CPU.

    fp16 becomes fp32 on a CPU, where half-precision convolutions take minutes an image; `run` says so.
    """
    if device.type != "cuda" and name in ("auto", "fp16"):
        return "fp32"
    if name != "auto":
        return name
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def autocast(name: str, device: torch.device, keep: bool = True):
    """Context for a forward pass in `name` (fp32, bf16 or fp16).

    Args:
        keep: the weights in half precision while it is open, for modules that are called more than once.
    """
    if name == "fp32":
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype={"bf16": torch.bfloat16, "fp16": torch.float16}[name], cache_enabled=keep)
