"""Time that a GPU spends on a call, without launching it; and the least that its memory allows, measured."""

import functools
import time
import warnings
from collections.abc import Callable

import torch

CYCLES = 2_000_000_000  # of a GPU's clock per second, about
CACHE = 256 << 20  # bytes; more than any L2 cache holds
_scratch: dict[torch.device, torch.Tensor] = {}


@functools.cache
def bandwidth(device: torch.device) -> float:
    """Bytes per second, read and written, of the best of ten copies of 1 GiB within the device's memory."""
    source = torch.zeros(1 << 28, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / min(seconds(lambda: target.copy_(source), device) for _ in range(10))


def floor(read: int, written: int, device: torch.device) -> tuple[float, float]:
    """Seconds (forward, backward) that the memory alone takes, by `bandwidth`: each tensor once.

    Args:
        read: bytes of the inputs, whose gradients the backward pass writes; written: bytes of the output.
    """
    rate = bandwidth(device)
    return (read + written) / rate, (2 * read + written) / rate


def seconds(work: Callable[[], object], device: torch.device, wait: float = 0.01) -> float:
    """Seconds between the start of work()'s first kernel and the end of its last, with a cold L2 cache.

    The GPU is made to wait first, so that all kernels are in its queue before the first one starts: a call of a tenth
    of a millisecond would otherwise be timed by how fast Python launches it. Where that was too short, a longer wait
    is tried; work that itself waits for the device, and so gains nothing by that, is timed with its launches and a
    warning.
    """
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for attempt in range(4):
        _scratch.setdefault(device, torch.zeros(CACHE // 4, device=device)).sum()  # read: leaves nothing to write back
        torch.cuda._sleep(int(wait * 4**attempt * CYCLES))
        begin.record()
        work()
        ahead = not begin.query()
        end.record()
        end.synchronize()
        if ahead:
            return begin.elapsed_time(end) / 1e3
        began = time.perf_counter()
        work()
        if time.perf_counter() - began < wait * 4**attempt / 2:  # launched in time: it was the device it waited for
            break
    warnings.warn("the call waits for the device: its time holds the launches", RuntimeWarning, stacklevel=2)
    return begin.elapsed_time(end) / 1e3
