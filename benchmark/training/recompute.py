"""`recipe.recompute`: what is inside a network's blocks is not kept for the backward pass but computed again there."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from benchmark.runtime.errors import InputError
from benchmark.training import buffers


class Recomputed:
    """The call of a block that keeps its inputs alone for the backward pass.

    The second forward pass draws the random numbers of the first one, runs under its autocast, and leaves the block's
    buffers alone: outputs, gradients and batch norm's running statistics are those of the block's plain call.
    """

    def __init__(self, block: nn.Module, name: str):
        self.block, self.name = block, name
        self.call = block._compiled_call_impl or block._call_impl

    def __call__(self, *args, **kwargs):
        if not torch.is_grad_enabled():
            return self.call(*args, **kwargs)
        versions = [(one, one._version) for one in _all(Tensor, [args, kwargs])]

        def contexts():
            return contextlib.nullcontext(), self._again(versions, [args, kwargs])

        return checkpoint(self.call, *args, use_reentrant=False, context_fn=contexts, **kwargs)

    @contextlib.contextmanager
    def _again(self, versions: list[tuple[Tensor, int]], inputs: list) -> Iterator[None]:
        """Context of the second pass over the inputs, of which some may be modules. Raises InputError where a tensor is
        not what it was in the first."""
        if any(one._version != version for one, version in versions):
            raise InputError(
                f"recipe.recompute: the network changes an input of its block '{self.name}' in place after the block "
                "ran, so that the block cannot be computed again; set recipe.recompute=false."
            )
        with contextlib.ExitStack() as stack:
            for module in (self.block, *_all(nn.Module, inputs)):
                stack.enter_context(buffers.kept(module))
            yield


def recompute_blocks(method, say: Callable[[str], None]) -> str:
    """Have `method.blocks()` computed again in each backward pass, compiled ones as they are compiled.

    A method whose only block is itself stays as it is: to compute the whole network again would save nothing.

    Args:
        say: gets the outcome, one line.

    Returns:
        The outcome: "blocks recomputed in the backward pass: 12", or 0 with the reason.
    """
    names = {module: name for name, module in method.named_modules()}
    blocks = [block for block in method.blocks() if block is not method]
    for block in blocks:
        if not isinstance(block._compiled_call_impl, Recomputed):
            # what `Module.__call__` calls in place of its own code; a copy of the module is without it
            block._compiled_call_impl = Recomputed(block, names[block])
    reason = "" if blocks else ", the method names no blocks within it (Method.blocks)"
    outcome = f"blocks recomputed in the backward pass: {len(blocks)}{reason}"
    say(outcome)
    return outcome


def _all(kind: type, value) -> Iterator:
    """What is of a kind in nested lists, tuples and dictionaries."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, list | tuple | dict):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _all(kind, one)
