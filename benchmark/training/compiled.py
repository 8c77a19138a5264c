"""`recipe.compile`: torch.compile of a network's blocks, each for the shapes that it sees, tried before training."""

from collections.abc import Callable

import torch

from benchmark.runtime.distributed import World
from benchmark.training import trial
from benchmark.training.outputs import comparable
from benchmark.training.recipe import Recipe

BACKEND = "inductor"
# graphs that one function may have, here all blocks together: one for each kind of block, width, rate of a drop path
# and phase. The shapes of a training are fixed, and all is tried before it
GRAPHS = 256


def compile_blocks(
    method,
    recipe: Recipe,
    precision: str,
    world: World,
    say: Callable[[str], None],
    item: dict[str, torch.Tensor] | None = None,
    batch: int | None = None,
) -> str:
    """Compile `method.blocks()` and its loss in place, or leave all as it was where one of them cannot be compiled.

    A forward and a backward pass over an empty batch decide: torch compiles when a block is first called. They leave
    no trace in buffers, gradients or random numbers. A block that would be compiled in part only counts as one that
    cannot be. All processes take the same way. In evaluation, whose images have any size, blocks run as they are.

    Args:
        method: on the device, with what is trainable set.
        precision: as from `precision_on`.
        say: gets the outcome, one line.
        item: of the training, see `loader.Crops`: what the loss is tried on; None: the loss stays as it is.
        batch: images of an update, of all processes; None: the recipe's.

    Returns:
        The outcome, for the provenance: "blocks compiled: 12, and the loss", or 0 with the reason.
    """
    for limit in ("recompile_limit", "accumulated_recompile_limit"):
        setattr(torch._dynamo.config, limit, max(GRAPHS, getattr(torch._dynamo.config, limit)))
    vars(method).pop("loss", None)  # of an earlier phase
    blocks = method.blocks()
    if item is not None:
        vars(method)["loss"] = torch.compile(method.loss, backend=BACKEND, fullgraph=True, dynamic=False)
    for block in blocks:  # what `Module.compile` sets; torch has no call to take it back
        block._compiled_call_impl = _in_training(block)
    reason = _trial(method, recipe, precision, world, item, batch or recipe.batch)
    # a process that had no reason of its own has to follow one that had
    reasons = [one for one in world.gather(reason) if one]
    if reasons:
        for block in blocks:
            block._compiled_call_impl = None
        vars(method).pop("loss", None)
    done = f"{len(blocks)}" if item is None else f"{len(blocks)}, and the loss"
    outcome = f"blocks compiled: 0, {reasons[0]}" if reasons else f"blocks compiled: {done}"
    say(outcome)
    return outcome


def _in_training(block: torch.nn.Module) -> Callable:
    """The block's call, compiled where the block is in training mode.

    Compiled is a function that is not torch's: up to 2.11 at least, `Module.compile` leaves a block of a class of
    torch's own, such as Sequential, as it is, without a word and in spite of `fullgraph`.
    """

    def whole(*words, **more):
        return block._call_impl(*words, **more)

    compiled = torch.compile(whole, backend=BACKEND, fullgraph=True, dynamic=False)

    def call(*words, **more):
        return (compiled if block.training else block._call_impl)(*words, **more)

    return call


def _trial(
    method, recipe: Recipe, precision: str, world: World, item: dict[str, torch.Tensor] | None, batch: int
) -> str:
    """Why the compiled blocks, and the loss, do not run forward and backward here, "" where they do."""
    side = method.input_side(recipe.crop)
    own = -(-batch // world.size)
    loss = trial.squares
    if item is not None:
        targets = {name: torch.stack([values] * own).to(world.device) for name, values in item.items()}

        def loss(outputs: dict[str, torch.Tensor]) -> torch.Tensor:
            # of micro-batches the loss sees all together
            whole = {name: torch.cat([values] * recipe.accumulate)[:own] for name, values in outputs.items()}
            return sum(method.loss(comparable(whole, targets, recipe.crop), targets).values())

    with trial.without_trace(method, world.device):
        try:
            images = torch.zeros(-(-own // recipe.accumulate), 3, side, side, device=world.device)
            # a block that was compiled with autocast's cache is compiled again without it, as graphs are captured
            trial.passes(method, images, precision, keep=not recipe.graph, loss=loss)
        except Exception as error:  # dynamo, the compiler, Triton and the driver raise what they like
            return trial.reason(error)
    return ""
