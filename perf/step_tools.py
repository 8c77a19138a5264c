"""Parts of perf/train_step.py and perf/inference.py: feeds that repeat, and what the machine could do."""

import math
import time

import torch
from torch.utils.flop_counter import FlopCounterMode


class Kept:
    """One batch of a loader, on the device, again and again."""

    def __init__(self, feed, device: torch.device):
        self.batch_sampler = feed.batch_sampler
        self.batch = {k: v.to(device) for k, v in next(iter(feed)).items()}

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self):
        return (self.batch for _ in range(len(self)))


class Repeated:
    """A subset as long as `length`, its images again and again."""

    def __init__(self, subset, length: int):
        self.subset, self.length = subset, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, i: int):
        return self.subset[i % len(self.subset)]


def matrix_rate(device: torch.device, name: str) -> float:
    """Floating-point operations per second of the best of a few large matrix products, TF32 off."""
    side = 8192 if device.type == "cuda" else 1024
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[name]
    a = torch.randn(side, side, device=device).to(dtype)
    best = math.inf
    for _ in range(5):
        if device.type == "cuda":
            torch.cuda.synchronize()
        began = time.perf_counter()
        a @ a
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


def operations(method, batch: int, crop: int) -> float:
    """Floating-point operations of a step, forward and backward, by torch's counter; as one image, times the batch."""
    side = method.input_side(crop)
    images = torch.rand(1, 3, side, side, device=next(method.parameters()).device)
    for block in method.blocks():
        block._compiled_call_impl = None  # a compiled graph hides its products from the counter
    method.eval()  # a batch normalisation of one image has no variance at the coarsest maps
    with FlopCounterMode(display=False) as counter:
        sum(v.float().mean() for v in method(images).values()).backward()
    method.zero_grad(set_to_none=True)
    return float(counter.get_total_flops()) * batch
