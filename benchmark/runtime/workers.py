"""Worker processes that end with the process that started them, however that ends."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from concurrent.futures.process import BrokenProcessPool

from benchmark.runtime.errors import InputError


@contextlib.contextmanager
def pool(workers: int, start=None, arguments: tuple = ()):
    """Yields a ProcessPoolExecutor of spawned processes; an exception (Ctrl-C too) ends them without waiting.

    Args:
        start: called with `arguments` in each process before its first task.

    Raises:
        InputError: a process died under its task.
    """
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # a forked child of a process with CUDA or OpenMP threads may hang
    made = concurrent.futures.ProcessPoolExecutor(workers, context, _begin, (start, arguments))
    try:
        yield made
    except BaseException as error:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        made.shutdown(cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            raise InputError(
                "A worker process was killed, most often because main memory ran out; free some and run again."
            ) from error
        raise
    made.shutdown()


def _begin(start, arguments: tuple) -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches every process; only the first has something to say
    threading.Thread(target=_watch, daemon=True).start()
    if start:
        start(*arguments)


def _watch() -> None:
    """A pool's process whose parent was killed would wait for its next task for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
