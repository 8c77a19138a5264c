"""`recipe.compile`: torch.compile of a network's blocks, each for the shapes that it sees, tried before training."""

from collections.abc import Callable

import torch

from benchmark.runtime.distributed import World
from benchmark.runtime.precision import autocast
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
    device, side = world.device, method.input_side(recipe.crop)
    images = torch.zeros(-(-recipe.batch // (world.size * recipe.accumulate)), 3, side, side, device=device)
    buffers = {name: buffer.clone() for name, buffer in method.named_buffers()}
    was_training = method.training
    method.train()
    try:
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            with autocast(precision, device):
                outputs = method(images)
            sum(values.float().square().mean() for values in outputs.values()).backward()
        return ""
    except Exception as error:  # dynamo, the compiler, Triton and the driver raise what they like
        lines = str(error).strip().splitlines() or [""]
        return f"{type(error).__name__}: {lines[0][:200]}"
    finally:
        method.train(was_training)
        method.zero_grad(set_to_none=True)
        with torch.no_grad():
            for name, buffer in method.named_buffers():
                buffer.copy_(buffers[name])
