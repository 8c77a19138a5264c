"""Time that a GPU spends on a call, without launching it; and estimated lower bounds on an H200."""

import time
import warnings
from collections.abc import Callable

import torch

CYCLES = 2_000_000_000  # of a GPU's clock per second, about
CACHE = 256 << 20  # bytes; more than any L2 cache holds
# estimated lower bounds on an H200 at B = 16, microseconds: (forward, backward), the memory's or the L1 cache's
FLOORS = {
    ("injector", "fp32"): (44, 86),
    ("injector", "bf16"): (22, 44),
    ("extractor", "fp32"): (95, 60),
    ("extractor", "bf16"): (48, 35),
}
_scratch: dict[torch.device, torch.Tensor] = {}


def floor(shape: str, batch: int, dtype: str, name: str) -> tuple[float, float] | None:
    """Seconds (forward, backward) of FLOORS for a device called `name`, None where nothing was estimated."""
    if "H200" not in name or batch != 16 or (shape, dtype) not in FLOORS:
        return None
    forward, backward = FLOORS[shape, dtype]
    return 1e-6 * forward, 1e-6 * backward


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
