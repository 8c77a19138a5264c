"""Worker processes that end with the process that started them, however that ends."""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool

from benchmark.runtime.errors import OutOfMemory

AT_ONCE = "BENCHMARK_CELLS_AT_ONCE"  # variable: cells that share this machine's cores with this one, itself counted


@contextlib.contextmanager
def pool(workers: int, start=None, arguments: tuple = ()):
    """Yields a ProcessPoolExecutor of spawned processes; an exception (Ctrl-C too) ends them without waiting.

    Args:
        start: called with `arguments` in each process before its first task.

    Raises:
        OutOfMemory: a process died under its task.
    """
    before = set(multiprocessing.active_children())
    context = multiprocessing.get_context("spawn")  # a forked child of a process with CUDA or OpenMP threads may hang
    processes = concurrent.futures.ProcessPoolExecutor(workers, context, _begin, (start, arguments))
    try:
        yield processes
    except BaseException as error:
        for child in set(multiprocessing.active_children()) - before:
            child.terminate()
        processes.shutdown(cancel_futures=True)
        if isinstance(error, BrokenProcessPool):
            raise OutOfMemory(
                "A worker process was killed, most often because main memory ran out; free some and run again."
            ) from error
        raise
    processes.shutdown()


class Lasting:
    """A pool for several calls of `in_order`, started by the first and ended with this context; see `pool`.

    Starting processes is seconds of a validation, and a training has one after every epoch.
    """

    def __init__(self):
        self._stack, self._count = contextlib.ExitStack(), 0

    def __enter__(self) -> "Lasting":
        return self

    def __exit__(self, *error) -> bool | None:
        return self._stack.__exit__(*error)

    def of(self, workers: int) -> concurrent.futures.ProcessPoolExecutor:
        """The pool, of that many processes: another one than before where their number was another."""
        if workers != self._count:
            self._stack.close()
            self._count, self._pool = workers, self._stack.enter_context(pool(workers))
        return self._pool


def in_order(
    function: Callable,
    jobs: Iterable[tuple],
    workers: int,
    *,
    ahead: int,
    size: Callable[..., int] = lambda *job: 0,
    most: int = 0,
    start=None,
    arguments: tuple = (),
    lasting: Lasting | None = None,
) -> Iterator:
    """Results of `function(*job)` in the order of `jobs`, computed in worker processes.

    Jobs are drawn as they are handed out, so that whoever makes them works beside the processes.

    Args:
        workers: processes; 0: each call happens in this process, when its result is asked for.
        ahead: jobs per process that may be drawn before the oldest result is taken: what waits stands in memory.
        size: of a job, such as its bytes. most: of all jobs that are handed out at once, as `size` has it; a job that
            is larger is handed out alone.
        start, arguments: as in `pool`.
        lasting: whose processes are used, without `start`; None: own ones, which end with the jobs.

    Raises:
        OutOfMemory: a process died under its task; where they are lasting, on leaving their context.
    """
    if not workers:
        if start:
            start(*arguments)
        for job in jobs:
            yield function(*job)
        return
    own_ones = pool(workers, start, arguments) if lasting is None else contextlib.nullcontext(lasting.of(workers))
    with own_ones as processes:
        waiting: collections.deque = collections.deque()
        for job in jobs:
            own = size(*job)
            while waiting and sum(one for one, _ in waiting) + own > most:
                yield waiting.popleft()[1].result()
            waiting.append((own, processes.submit(function, *job)))
            del job  # what is being made of the next one stands beside it in memory
            if len(waiting) > ahead * workers:
                yield waiting.popleft()[1].result()
        while waiting:
            yield waiting.popleft()[1].result()


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
    """Cores this process may use: its share, where other cells run beside it."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cells = os.environ.get(AT_ONCE, "")
    return max(1, cores // int(cells)) if cells.isdecimal() and int(cells) else cores
