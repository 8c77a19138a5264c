"""`recipe.graph`: a network's forward and backward pass as CUDA graphs, each started whole and not kernel by kernel.

Launching some thousands of kernels one by one takes Python longer than a fast GPU needs to run them.
"""

import torch

from benchmark.runtime.distributed import World
from benchmark.runtime.precision import autocast
from benchmark.training import buffers
from benchmark.training.recipe import Recipe


def graph_network(method, images: int, recipe: Recipe, precision: str, world: World, say) -> str:
    """Replace `method.forward` in training by its graphs for batches of one size, or leave it as it was.

    Some passes over an empty batch come first, as CUDA asks for; they leave no trace in buffers or gradients. In
    evaluation, and after the next call for a phase with other trainable parameters or batches, nothing of them is left.

    Args:
        method: on the device, with what is trainable set and blocks compiled, if they are.
        images: of each batch in this process.
        precision: as from `precision_on`.
        say: gets the outcome, one line.

    Returns:
        The outcome, for the provenance: "network graphed for batches of 8", or "network not graphed, " and the reason.
    """
    vars(method).pop("forward", None)  # of an earlier phase
    reason = _unfit(recipe, world) or _capture(method, images, recipe, precision, world.device)
    if reason:
        vars(method).pop("forward", None)
    outcome = f"network not graphed, {reason}" if reason else f"network graphed for batches of {images}"
    say(outcome)
    return outcome


def _unfit(recipe: Recipe, world: World) -> str:
    """Why a graph is not even tried; "" where it is."""
    if world.device.type != "cuda":
        return f"a {world.device.type} has no CUDA graphs"
    if world.size > 1:
        return "several processes share the updates"
    for name in ("recompute", "accumulate"):
        if getattr(recipe, name) > 1 or getattr(recipe, name) is True:
            return f"recipe.{name} runs parts of the network twice"
    return ""


def _capture(method, images: int, recipe: Recipe, precision: str, device: torch.device) -> str:
    """Capture the passes. Returns why that failed, "" where it did not."""
    side, was_training = method.input_side(recipe.crop), method.training
    method.train()  # a graph is replayed in the mode in which it was captured
    try:
        sample = torch.zeros(images, 3, side, side, device=device)
        with buffers.kept(method), autocast(precision, device, keep=False):
            torch.cuda.make_graphed_callables(method, (sample,), allow_unused_input=True)
        return ""
    except Exception as error:  # CUDA, its libraries and the network's own code raise what they like
        lines = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {lines[0][:200]}"
    finally:
        method.train(was_training)
        method.zero_grad(set_to_none=True)
