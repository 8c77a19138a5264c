"""Cells on a Ray cluster, or on a Ray of this machine alone: one task a cell, tried again when its node dies."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmark.experiment.launchers.base import DIE_WITH_PARENT, Job, keep_reason
from benchmark.results import provenance
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.errors import InputError

TRIES = 4  # of a cell whose node or worker dies under it
OF_MEMORY = 2  # of these where memory ran out
PASSED_ON = (provenance.COMMAND, "OMP_NUM_THREADS", "MKL_NUM_THREADS")  # variables, to all nodes


class Ray:
    """Runs cells as tasks of Ray. A cell has a GPU to itself where the cluster has any and the device is not "cpu".

    A task takes as many of Ray's CPUs as OMP_NUM_THREADS says, else one; so many threads has its cell.

    Args:
        address: of a cluster ("auto", "10.0.0.1:6379", "ray://…"); None: started here, and ended with the cells.
    """

    def __init__(self, address: str | None):
        self.address = address

    def submit(self, jobs: list[Job]) -> Iterator[tuple[Job, int]]:
        """As `Launcher.submit`.

        Raises:
            InputError: no package ray, no cluster at the address, or one without the GPU that a cell needs.
        """
        ray = _ray()
        started = self._connect(ray)
        try:
            yield from _endings(ray, [job for job in jobs if job.is_due()])
        finally:
            if started:
                ray.shutdown()

    def _connect(self, ray) -> bool:
        """Join the cluster, unless this process has; returns whether it did."""
        if ray.is_initialized():
            return False
        try:
            ray.init(address=self.address or "local", include_dashboard=False if self.address is None else None)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"There is no Ray cluster at '{self.address or 'local'}' ({reason}); start one with `ray start --head` "
                "and name its address in RAY."
            ) from error
        return True


def _endings(ray, jobs: list[Job]) -> Iterator[tuple[Job, int]]:
    gpus = ray.cluster_resources().get("GPU", 0)
    running: dict = {}  # reference -> (job, tries so far)

    def begin(job: Job, tries: int) -> None:
        device = job.cell.setup.device
        gpu = 1 if device.startswith("cuda") or (device == "auto" and gpus) else 0
        if gpu > gpus:
            raise InputError(
                f"--device is {device} and the Ray cluster has no GPU; add a node with one, or give --device cpu."
            )
        threads = int(os.environ.get("OMP_NUM_THREADS", 1))
        variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        variables = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)} | variables
        # Ray's own retries say nothing, and where memory runs out they have no end
        task = ray.remote(_run).options(num_cpus=threads, num_gpus=gpu, max_retries=0, name=str(job))
        words = job.command("cuda" if gpu else "cpu")[1:]
        running[task.remote(words, variables, str(job.cell.folder))] = job, tries

    for job in jobs:
        begin(job, 1)
    while running:
        (reference, *_), _ = ray.wait(list(running), num_returns=1)
        job, tries = running.pop(reference)
        try:
            code = ray.get(reference)
        except ray.exceptions.RayError as error:
            reason, most = _reason(ray, error)
            if tries < most:
                print(f"{job}: {reason}; tried again ({tries + 1} of {most})", file=sys.stderr, flush=True)
                _wait_for_the_lock(job)
                begin(job, tries + 1)
                continue
            code = 1
            keep_reason(job.cell.folder, f"{reason}, {tries} times")
        yield job, code


def _reason(ray, error: Exception) -> tuple[str, int]:
    """(why a task ended without an exit code, how often such a cell is tried)."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return f"Ray ended it because the memory of its node ran out ({first})", OF_MEMORY
    return f"its node or its worker died ({type(error).__name__}: {first})", TRIES


def _wait_for_the_lock(job: Job, seconds: float = 10.0) -> None:
    """A process whose parent was killed is gone a moment later, and its lock with it."""
    end = time.monotonic() + seconds
    while job.cell.folder.held() and time.monotonic() < end:
        time.sleep(0.1)


def _run(words: list[str], variables: dict[str, str], folder: str) -> int:
    """On a node: run a cell with the node's own Python; returns the exit code."""
    child = subprocess.Popen(
        [sys.executable, *words],
        env={**os.environ, **variables},
        preexec_fn=DIE_WITH_PARENT,  # Ray ends a worker with SIGKILL
    )
    try:
        code = child.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        child.wait()
    if code < 0:
        why = "most often because the memory of its node ran out" if code == -signal.SIGKILL else "from outside"
        keep_reason(RunFolder(Path(folder)), f"its process was ended by signal {-code}, {why}")
    return code


def _ray():
    with contextlib.suppress(ImportError):
        import ray

        return ray
    raise InputError("LAUNCHER=ray needs the package ray; install it with `pip install -e '.[ray]'`.")
