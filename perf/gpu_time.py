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
    """As `times`, once."""
    return times(work, device, 1, wait)[0]


def times(work: Callable[[], object], device: torch.device, count: int, wait: float = 0.01) -> list[float]:
    """Seconds between the start of work()'s first kernel and the end of its last, with a cold L2 cache; `count` times.

    The GPU is made to wait first, so that all kernels are in its queue before the first one starts: a call of a tenth
    of a millisecond would otherwise be timed by how fast Python launches it. Where that was too short, a longer wait
    is tried, and kept; work that itself waits for the device, and so gains nothing by that, is timed behind the
    shortest wait, with its launches and a warning. An untimed call comes first.
    """
    work()  # loads its kernels, which may wait for the device
    torch.cuda.synchronize(device)
    out: list[float] = []
    shortest, longest, waits = wait, 64 * wait, False
    while len(out) < count:
        took, launching, ahead = _timed(work, device, wait)
        if ahead or waits:
            out.append(took)
            continue
        began = time.perf_counter()
        work()
        alone = time.perf_counter() - began
        if launching - alone < wait / 2 and wait < longest:  # the launches themselves take too long
            wait *= 4
            continue
        warnings.warn("the call waits for the device: its time holds the launches", RuntimeWarning, stacklevel=2)
        wait, waits = shortest, True
    return out


def _timed(work: Callable[[], object], device: torch.device, wait: float) -> tuple[float, float, bool]:
    """(seconds of a call behind a wait, seconds until it returned, whether that was before the wait was over)."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    _scratch.setdefault(device, torch.zeros(CACHE // 4, device=device)).sum()  # read: leaves nothing to write back
    torch.cuda._sleep(int(wait * CYCLES))
    begin.record()
    began = time.perf_counter()
    work()
    launching, ahead = time.perf_counter() - began, not begin.query()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1e3, launching, ahead
