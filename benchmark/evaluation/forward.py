"""Forward passes that go on beside the host's work."""

import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch

from benchmark.layers import image_ops
from benchmark.runtime import precision


class Forward:
    """A forward pass over a batch that has begun. On a GPU it goes on, with its copies, while the host does other work.

    Args:
        predict: images float (B, 3, H, W) in [0, 1] on the device to outputs by name, such as raw maps; of dtypes that
            numpy has.
        images: uint8 (B, H, W, 3).
        number_format: fp32, bf16 or fp16.

    Attributes:
        seconds: that the device took, copies there and back included; known once `maps` has returned.
    """

    def __init__(
        self,
        predict: Callable[[torch.Tensor], dict[str, torch.Tensor]],
        images: np.ndarray,
        number_format: str,
        device: torch.device,
    ):
        began = time.perf_counter()
        self.device, self.seconds = device, 0.0
        if device.type == "cuda":
            self._begin, self._end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            self._begin.record()
        batch = self._to_device(torch.from_numpy(images)).permute(0, 3, 1, 2)
        with torch.inference_mode(), precision.autocast(number_format, device):
            maps = predict(image_ops.to_float(batch))
            self._maps = {name: self._to_host(values) for name, values in maps.items()}
        if device.type == "cuda":
            self._end.record()
        else:
            self.seconds = time.perf_counter() - began

    def maps(self) -> dict[str, np.ndarray]:
        """The outputs, as `predict` gives them; waits for the device."""
        if self.device.type == "cuda":
            self._end.synchronize()
            self.seconds = self._begin.elapsed_time(self._end) / 1e3
        return {name: values.numpy() for name, values in self._maps.items()}

    def _to_device(self, values: torch.Tensor) -> torch.Tensor:
        if self.device.type != "cuda":
            return values.to(self.device)
        # only a copy from pinned memory does not keep the host waiting
        return values.pin_memory().to(self.device, non_blocking=True)

    def _to_host(self, values: torch.Tensor) -> torch.Tensor:
        if self.device.type != "cuda":
            return values.cpu()
        return torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values, non_blocking=True)


def one_ahead(items: Iterable) -> Iterator:
    """The items in their order, each when the next one is made already."""
    waiting: list = []
    for item in items:
        if waiting:
            yield waiting.pop()
        waiting.append(item)
    yield from waiting
