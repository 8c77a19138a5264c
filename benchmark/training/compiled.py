"""`recipe.compile`: torch.compile of a network's blocks, each for the shapes that it sees, tried before training."""

from collections.abc import Callable

import torch

from benchmark.runtime.distributed import World
from benchmark.training import trial
from benchmark.training.recipe import Recipe

BACKEND = "inductor"
# blocks of one class share a place for their graphs: one for each width, mode (training or not) and size of a batch
GRAPHS = 64


def compile_blocks(method, recipe: Recipe, precision: str, world: World, say: Callable[[str], None]) -> str:
    """Compile `method.blocks()` in place, or leave all of them as they were where one cannot be compiled.

    A forward and a backward pass over an empty batch decide: torch compiles when a block is first called. They leave
    no trace in buffers, gradients or random numbers. A block that would be compiled in part only counts as one that
    cannot be. All processes take the same way.

    Args:
        method: on the device, with what is trainable set.
        precision: as from `precision_on`.
        say: gets the outcome, one line.

    Returns:
        The outcome, for the provenance: "blocks compiled: 12", or 0 with the reason.
    """
    torch._dynamo.config.recompile_limit = max(GRAPHS, torch._dynamo.config.recompile_limit)
    blocks = method.blocks()
    for block in blocks:
        block.compile(backend=BACKEND, fullgraph=True, dynamic=False)
    reason = _trial(method, recipe, precision, world)
    # a process that had no reason of its own has to follow one that had
    reasons = [one for one in world.gather(reason) if one]
    if reasons:
        for block in blocks:
            block._compiled_call_impl = None  # torch has no call for it; this is what `Module.compile` sets
    outcome = f"blocks compiled: 0, {reasons[0]}" if reasons else f"blocks compiled: {len(blocks)}"
    say(outcome)
    return outcome


def _trial(method, recipe: Recipe, precision: str, world: World) -> str:
    """Why the compiled blocks do not run forward and backward here, "" where they do."""
    side = method.input_side(recipe.crop)
    count = -(-recipe.batch // (world.size * recipe.accumulate))
    with trial.without_trace(method, world.device):
        try:
            images = torch.zeros(count, 3, side, side, device=world.device)
            # a block that was compiled with autocast's cache is compiled again without it, as graphs are captured
            trial.passes(method, images, precision, keep=not recipe.graph)
        except Exception as error:  # dynamo, the compiler, Triton and the driver raise what they like
            return trial.reason(error)
    return ""
