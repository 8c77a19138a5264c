"""`recipe.accumulate`: the gradients of one update from images that go through the network in micro-batches.

The losses of micro-batches cannot be added up: Dice and Tversky are ratios of sums over all pixels of the images, and
other terms are means over the images that are typed or the pixels of nuclei. So the loss is that of all images
together. Their outputs are computed first, with nothing kept for the backward pass; then each micro-batch goes forward
once more, and the gradient that the loss has with respect to its outputs goes back through it.
"""

import contextlib

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from benchmark.runtime.precision import autocast
from benchmark.training import buffers


class MicroBatches:
    """The passes of one update through the network.

    Args:
        model: the method, wrapped in DistributedDataParallel where several processes train it.
        images: (B, 3, H, W) of this process.
        count: of micro-batches, at most B; of equal size where B allows. With 1 the passes are the plain ones.
        seed: of the random numbers drawn inside the network: each micro-batch has its own, the same in both passes.
        precision: as from `runtime.precision.precision_on`.
        keep: as for `autocast`; what is compiled is compiled for one of the two.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        images: Tensor,
        count: int,
        seed: tuple[int, ...],
        precision: str,
        keep: bool = True,
    ):
        self.model, self.images, self.seed, self.precision, self.keep = model, images, seed, precision, keep
        self.parts = images.tensor_split(count)
        self.outputs: dict[str, Tensor] = {}

    def forward(self) -> dict[str, Tensor]:
        """The network's outputs for all images. With several micro-batches these are leaves of the graph."""
        if len(self.parts) == 1:
            with autocast(self.precision, self.images.device, self.keep):
                return self.model(self.images)
        method = self.model.module if isinstance(self.model, DistributedDataParallel) else self.model
        with torch.no_grad(), buffers.kept(method):
            outputs = [self._pass(method, k) for k in range(len(self.parts))]
        self.outputs = {name: torch.cat([own[name] for own in outputs]).requires_grad_() for name in outputs[0]}
        return self.outputs

    def backward(self) -> None:
        """Pass the gradients, which a backward pass has left in the outputs, on to the parameters; with one micro-batch
        that pass has done it."""
        gradients = {name: one.grad for name, one in self.outputs.items() if one.grad is not None}
        shares = {name: one.tensor_split(len(self.parts)) for name, one in gradients.items()}
        for k in range(len(self.parts) if self.outputs else 0):
            with self._shared(last=k + 1 == len(self.parts)):
                own = self._pass(self.model, k)
                names = [name for name in shares if own[name].requires_grad]
                torch.autograd.backward([own[name] for name in names], [shares[name][k] for name in names])

    def _pass(self, model: torch.nn.Module, k: int) -> dict[str, Tensor]:
        torch.manual_seed(int(np.random.SeedSequence([*self.seed, k]).generate_state(1)[0]))
        with autocast(self.precision, self.images.device, self.keep):
            return model(self.parts[k])

    def _shared(self, last: bool):
        """Context of a micro-batch's pass: processes average their gradients once, when these are those of all."""
        if last or not isinstance(self.model, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.model.no_sync()


def differences(method: torch.nn.Module, batch: int, processes: int, parts: int) -> str:
    """In what an update differs from one of all images at once in one process, in words; "" where it does not.

    Args:
        batch: images per update, over all processes.
        parts: micro-batches of a process.
    """
    share = batch // processes
    seen, out = -(-share // parts), []
    if seen < batch and any(isinstance(module, _BatchNorm) for module in method.modules()):
        out.append(f"batch norm has the statistics of {seen} at a time")
    if processes > 1:
        out.append(f"the loss is the mean of {processes} processes', each over its own {share}")
    return f"of the {batch} images of an update, {' and '.join(out)}" if out else ""
