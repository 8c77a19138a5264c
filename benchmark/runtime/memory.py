"""Main memory: an allocator that keeps freed blocks while training on a CPU, and the peak.

PyTorch's CPU allocator hands every large activation back to the operating system and faults it in again at the
next update; with glibc's malloc told to keep it, an update of the small models is 5 to 20 % faster (2 cores).
"""

import contextlib
import ctypes
import resource
import sys
from pathlib import Path

from benchmark.runtime.errors import InputError, OutOfMemory

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # parameters of mallopt(3)


def keep_freed() -> bool:
    """Tell glibc's malloc to reuse large blocks instead of unmapping them. Returns False where there is no glibc."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return all([mallopt(_MMAP_MAX, 0), mallopt(_TRIM_THRESHOLD, 2**31 - 1), mallopt(_TOP_PAD, 64 << 20)])


# of a RuntimeError: torch's own allocator, and a process of a DataLoader that the kernel ended
OF_MEMORY = ("can't allocate memory", "is killed by signal: Killed")


@contextlib.contextmanager
def suffices(what: str, advice: str):
    """Turn what Python and torch raise where memory ran out into one sentence about `what`, with `advice`.

    Raises:
        OutOfMemory: memory of the machine or of its GPU did not suffice.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        gpu = type(error).__name__ == "OutOfMemoryError"  # torch's, without importing it
        gpu |= "CUBLAS_STATUS_ALLOC_FAILED" in str(error)
        if not (gpu or isinstance(error, MemoryError) or any(words in str(error) for words in OF_MEMORY)):
            raise
        reason = (str(error).splitlines() or [""])[0][:200]
        raise OutOfMemory(
            f"{what}: the {'memory of the GPU' if gpu else 'main memory'} did not suffice ({reason}); {advice}."
        ) from error


def available() -> int | None:
    """Bytes of main memory that can be taken without swapping, None where the system does not say."""
    path = Path("/proc/meminfo")
    for line in path.read_text().splitlines() if path.exists() else []:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return None


def check(needed: int, what: str) -> None:
    """Refuse what takes more memory than there is, before it is taken.

    Args:
        needed: bytes. what: what takes them, for the sentence.

    Raises:
        InputError: less is available.
    """
    free = available()
    if free is not None and needed > free:
        raise InputError(
            f"{what} takes about {needed / 1e9:.1f} GB of memory, {free / 1e9:.1f} GB are available; cut the image "
            "into tiles, or free some memory."
        )


def peak_resident() -> int:
    """Largest resident memory of this process in bytes.

    From /proc where there is one: getrusage also counts the parent before it became this program.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
