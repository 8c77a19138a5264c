"""`recipe.graph`: a network's forward and backward pass as CUDA graphs, each started whole and not kernel by kernel.

Launching some thousands of kernels one by one takes Python longer than a fast GPU needs to run them.

A capture must not fail: up to torch 2.11 at least, one that was disturbed leaves its stream current, the generator of
random numbers refusing to count on, and the memory bookkept as being captured into, and nothing public puts that right.
So the passes are rehearsed first, under torch's own watch for what would disturb a capture.
"""

import contextlib
import gc
import traceback
import warnings
from collections.abc import Iterator

import torch

from benchmark.runtime.distributed import World
from benchmark.runtime.errors import InputError
from benchmark.runtime.precision import autocast
from benchmark.training import trial
from benchmark.training.recipe import Recipe


class CaptureFailed(InputError):
    """A capture that failed without torch's cleaning up: this process must not compute anything more."""


def graph_network(method, images: int, recipe: Recipe, precision: str, world: World, say) -> str:
    """Replace `method.forward` in training by its graphs for batches of one size, or leave it as it was.

    Some passes over an empty batch come first, as CUDA asks for; they leave no trace in buffers, gradients or random
    numbers. In evaluation, and after the next call for a phase with other trainable parameters or batches, nothing of
    the graphs is left.

    Args:
        method: on the device, with what is trainable set and blocks compiled, if they are.
        images: of each batch in this process.
        precision: as from `precision_on`.
        say: gets the outcome, one line.

    Returns:
        The outcome, for the provenance: "network graphed for batches of 8", or "network not graphed, " and the reason;
        then the traceback is on stderr.

    Raises:
        CaptureFailed: the rehearsed passes could not be captured, and torch was left in the middle of it.
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
    """Rehearse the passes and capture them. Returns why that failed, "" where it did not. Raises CaptureFailed."""
    side = method.input_side(recipe.crop)
    with trial.without_trace(method, device):  # in training mode: a graph is replayed in the mode of its capture alone
        try:
            sample = torch.zeros(images, 3, side, side, device=device)
            # what happens once only (compilation, cuDNN's search, constants) may wait
            trial.passes(method, sample, precision, keep=False)
            with waiting_refused():
                trial.passes(method, sample, precision, keep=False)
            method.zero_grad(set_to_none=True)  # memory that the capture can have
            with capturing(device), autocast(precision, device, keep=False):
                torch.cuda.make_graphed_callables(method, (sample,), allow_unused_input=True)
        except CaptureFailed:
            raise
        except Exception as error:  # CUDA, its libraries and the network's own code raise what they like
            traceback.print_exc()
            return trial.reason(error)
    return ""


@contextlib.contextmanager
def waiting_refused() -> Iterator[None]:
    """Torch raises RuntimeError where its operators would wait for the GPU, the commonest thing that ends a capture."""
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch says that it does not notice every such operation
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@contextlib.contextmanager
def capturing(device: torch.device) -> Iterator[None]:
    """To be open around a capture on `device`.

    Raises:
        CaptureFailed: in place of an error after which torch did not clean up; then its traceback is on stderr. Other
            errors pass.
    """
    # torch's graphed networks are cycles of references, and a graph that is destroyed during a capture ends it
    gc.collect()
    collects, stream = gc.isenabled(), torch.cuda.current_stream(device)
    gc.disable()
    try:
        yield
    except Exception as error:
        # the capture's own stream is still the current one: what torch does last, after the rest of its cleaning up
        if torch.cuda.current_stream(device) == stream:
            raise
        traceback.print_exc()
        raise CaptureFailed(
            f"The capture of a CUDA graph failed ({trial.reason(_first(error))}), after which nothing more can be "
            "computed in this process; set recipe.graph=false."
        ) from error
    finally:
        if collects:
            gc.enable()


def _first(error: BaseException) -> BaseException:
    """What an error began with: CUDA's own, at the end of a capture, says only that there was one before it."""
    while before := error.__cause__ or error.__context__:
        error = before
    return error
