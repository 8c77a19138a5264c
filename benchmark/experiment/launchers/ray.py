"""Cells on a Ray cluster, or on a Ray of this machine alone: one task a cell, tried again when its node dies."""

import contextlib
import itertools
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from benchmark.experiment.estimate import Estimate, done
from benchmark.experiment.launchers import base
from benchmark.experiment.launchers.base import DIE_WITH_PARENT, Job, keep_reason, lacking
from benchmark.results import provenance
from benchmark.runtime.errors import OUT_OF_MEMORY, InputError, short

NODE, MEMORY = "node", "memory"  # what may end a cell that another try may bring to its end
TRIES = {NODE: 4, MEMORY: 2}
LOOK, SHOW = 1.0, 30.0  # seconds: longest wait for an ending, between two lines on all cells
NEXT = 64  # tasks whose beginning is looked for at once
LOCK = 120.0  # seconds: a network file system frees the locks of a dead node in less
OBJECTS = 80 * 2**20  # bytes: the least store of objects that Ray takes; cells hand over files, not objects
PASSED_ON = (  # variables, to all nodes
    provenance.COMMAND,
    "PYTHONPATH",
    "PYTHONSAFEPATH",
    "MKL_NUM_THREADS",
    "GOMP_SPINCOUNT",
    "OMP_WAIT_POLICY",
    "HF_HOME",
    "HF_HUB_OFFLINE",
)
ROOM = 40  # characters of a temporary folder's path that leave room for the names of Ray's sockets below it, of 107
QUIET = {  # variables that Ray reads
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",  # a line that two cells print alike is no repetition
    "RAY_COLOR_PREFIX": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a cell has its device as a word
}


class Ray:
    """Runs cells as tasks of Ray. A cell has a GPU to itself where the cluster has any and the device is not "cpu".

    A task takes as many of Ray's CPUs as OMP_NUM_THREADS says, else one; so many threads has its cell.

    Args:
        address: of a cluster of which this machine is a node ("auto", "10.0.0.1:6379"); None: started here, and ended
            with the cells.
    """

    waits = True

    def __init__(self, address: str | None):
        self.address, self.threads = address, _threads()

    def submit(self, jobs: list[Job]) -> Iterator[tuple[Job, int]]:
        """As `Launcher.submit`.

        Raises:
            InputError: no package ray, no cluster at the address, one without the GPU that a cell needs, or with a node
                that has no files of ours.
        """
        ray = _ray(alone=self.address is None)
        with contextlib.ExitStack() as stack:
            near = None if len(tempfile.gettempdir()) <= ROOM - len("/ray-12345678") else "/tmp"
            logs = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray-", dir=near, ignore_cleanup_errors=True))
            stack.callback(ray.shutdown)
            self._connect(ray, logs)
            # as Ctrl-C does; Ray's own handler aborts, and it loses the code of a SystemExit
            stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, signal.default_int_handler))
            yield from Tasks(ray, [job for job in jobs if job.is_due()], fixed=self.address is None).endings()

    def _connect(self, ray, logs: str) -> None:
        where: dict[str, Any] = {"address": self.address}
        if self.address is None:
            where = {"address": "local", "include_dashboard": False, "object_store_memory": OBJECTS, "_temp_dir": logs}
        try:
            _knock(self.address)
            ray.init(logging_level="WARNING", **where)
        except (RuntimeError, ValueError, OSError, ray.exceptions.RayError) as error:
            reason = short(" ".join(str(error).split()), 200)
            raise InputError(
                f"Ray does not start on this machine ({reason}); mend that, or name a cluster in RAY."
                if self.address is None
                else f"There is no Ray cluster to join at '{short(self.address)}' ({reason}); start one with "
                "`ray start --head`, join it on this machine too with `ray start --address=…`, and name it in RAY."
            ) from error


@dataclass
class Task:
    """A cell that Ray has taken, or is to take again.

    Attributes:
        before: share of its training that was done before it began.
        began: when it was first seen to run; None: it waits for a node.
        failures: what ended its earlier tries, NODE or MEMORY.
        since: when the last of these was noticed.
    """

    job: Job
    before: float = 0.0
    began: float | None = None
    failures: list[str] = field(default_factory=list)
    since: float = 0.0


class Tasks:
    """The tasks of cells, until all have ended.

    Args:
        ray: the package, connected.
        fixed: whether the cluster will have no other nodes than it has now.

    Raises:
        InputError: the cluster lacks what a cell needs, and waiting brings nothing.
    """

    def __init__(self, ray, jobs: list[Job], fixed: bool):
        self.ray, self.total, self.ended = ray, len(jobs), 0
        self.estimate = Estimate(job.cell for job in jobs)
        self.threads = _threads()
        self.gpus = self._gpus(jobs[0].cell.setup.device) if jobs else 0
        self.shown, self.lack = time.monotonic(), ""
        if fixed and (lack := self._lack()):
            raise InputError(f"{lack}; set OMP_NUM_THREADS lower, or name a larger cluster in RAY.")
        self.running: dict[Any, Task] = {}  # Ray's reference -> task
        self.again: list[Task] = []  # until nobody holds the lock of the cell
        # sent whole, since a node that has none of our files must be able to say so; theirs are heavy besides
        for module in (base, sys.modules[__name__]):
            ray.cloudpickle.register_pickle_by_value(module)
        self.run = ray.remote(_run)
        for job in jobs:
            self._begin(Task(job))

    def endings(self) -> Iterator[tuple[Job, int]]:
        """(job, exit code) as the cells end; when this ends before them, so do they."""
        try:
            while self.running or self.again:
                self._try_again()
                self._see_begun()
                for reference in self._ended():
                    task = self.running.pop(reference)
                    code = self._code(reference, task)
                    if code is not None:
                        self.ended += 1
                        yield task.job, code
                if (self.running or self.again) and time.monotonic() - self.shown >= SHOW:
                    self._show()
        finally:
            for reference in self.running:
                self.ray.cancel(reference, force=True)

    def _gpus(self, device: str) -> int:
        """GPUs of a cell."""
        there = self.ray.cluster_resources().get("GPU", 0)
        if device not in ("auto", "cpu", "cuda"):
            raise InputError(
                f"--device is '{short(device)}'; of the launcher ray it is auto, cpu or cuda, and Ray chooses the GPU."
            )
        if device == "cuda" and not there:
            raise InputError(
                "--device is cuda and the Ray cluster has no GPU; add a node with one, or give --device cpu."
            )
        if device == "auto" and not there:
            _say("ray: no node has a GPU now; all cells run on processors, also when one joins")
        return int(device != "cpu" and there > 0)

    def _begin(self, task: Task) -> None:
        threads = str(self.threads)
        variables = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        variables |= {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        folders = [os.getcwd(), str(task.job.cell.setup.results.resolve())]
        words = task.job.command("cuda" if self.gpus else "cpu")[1:]
        # Ray's own retries say nothing, and where memory runs out they have no end
        asked = {"num_cpus": self.threads, "num_gpus": self.gpus, "max_retries": 0, "name": str(task.job)}
        task.before, task.began = done(task.job.cell), None
        self.running[self.run.options(**asked).remote(words, variables, folders)] = task

    def _ended(self) -> list:
        if not self.running:
            time.sleep(LOOK)
            return []
        return self.ray.wait(list(self.running), num_returns=1, timeout=LOOK)[0]

    def _code(self, reference, task: Task) -> int | None:
        """Its exit code; None when it is to be tried again."""
        try:
            code, seconds, lack = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            return self._failed(task, *_reason(self.ray, error))
        if lack:
            raise InputError(f"{lack}; mend that, or take the node out of the cluster, and run it again.")
        if code == -9:  # Windows has no name for it
            reason = "its process was killed (signal 9), most often because the memory of its node ran out"
            return self._failed(task, reason, MEMORY)
        if code == OUT_OF_MEMORY:
            return self._failed(task, "memory did not suffice", MEMORY)
        if code == 0:
            self.estimate.ended(task.job.cell, seconds, 1 - task.before)
        elif code < 0:
            keep_reason(task.job.cell.folder, f"its process was ended from outside, by signal {-code}")
        return code

    def _failed(self, task: Task, reason: str, kind: str) -> int | None:
        task.failures.append(kind)
        tries, most = task.failures.count(kind), TRIES[kind]
        if tries < most:
            _say(f"{task.job}: {reason}; tried again ({tries + 1} of {most})")
            task.since, task.began = time.monotonic(), None
            self.again.append(task)
            return None
        keep_reason(task.job.cell.folder, f"{reason}, {tries} times")
        return 1

    def _try_again(self) -> None:
        """A process whose parent was killed is gone a moment later, and its lock with it."""
        for task in list(self.again):
            if not task.job.cell.folder.held() or time.monotonic() - task.since >= LOCK:
                self.again.remove(task)
                self._begin(task)  # where another process has the cell by now, this one says so

    def _see_begun(self) -> None:
        """Ray does not say which tasks wait; it takes them in their order, so that a look at the next ones will do."""
        waiting = (task for task in self.running.values() if task.began is None)
        for task in itertools.islice(waiting, NEXT):
            if task.job.cell.folder.held():
                task.began = time.monotonic()

    def _show(self) -> None:
        """Say how far all cells are; once, what the cluster lacks."""
        now = self.shown = time.monotonic()
        running = [task for task in self.running.values() if task.began is not None]
        waiting = [*(task for task in self.running.values() if task.began is None), *self.again]
        each = ", ".join(f"{task.job} {100 * done(task.job.cell):.0f} %" for task in running[:4])
        at_work = [(task.job.cell, now - (task.began or now), task.before) for task in running]
        seconds = self.estimate.left(at_work, [task.job.cell for task in waiting], max(1, len(running)))
        _say(
            f"ray: {self.ended} of {self.total} cells ended, {len(running)} running"
            + (f" ({each}{', …' if len(running) > 4 else ''})" if each else "")
            + f", {len(waiting)} waiting"
            + ("" if seconds is None else f", about {seconds:.0f} s left")
        )
        lack, self.lack = self.lack, self._lack()
        if self.lack and not lack:
            _say(f"{self.lack}: cells wait until one joins; Ctrl-C ends this, and the same command continues")

    def _lack(self) -> str:
        """What no node has that every cell needs; "" where one has it."""
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        if any(node.get("CPU", 0) >= self.threads and node.get("GPU", 0) >= self.gpus for node in nodes):
            return ""
        needed = f"{self.threads} CPUs (OMP_NUM_THREADS)" + (" and a GPU" if self.gpus else "")
        most = max((node.get("CPU", 0) for node in nodes), default=0)
        return f"A cell needs {needed}, and no node of the Ray cluster has them; the largest has {most:g} CPUs"


def _reason(ray, error: Exception) -> tuple[str, str]:
    """(why a task ended without an exit code, NODE or MEMORY)."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        return f"Ray ended it because the memory of its node ran out ({short(lines[0], 300)})", MEMORY
    if isinstance(error, ray.exceptions.RayTaskError):
        return f"its node could not start it ({short(lines[-1], 200)})", NODE
    return f"its node or its worker died ({type(error).__name__}: {short((lines or ['no reason'])[0], 200)})", NODE


def _run(words: list[str], variables: dict[str, str], folders: list[str]) -> tuple[int, float, str]:
    """On a node: run a cell with the node's own Python, in the first of `folders`, which the node must see.

    Sent by value: it uses Python's library alone.

    Returns:
        (exit code, seconds, what the node lacks)
    """
    began, environment, host = time.monotonic(), {**os.environ, **variables}, socket.gethostname()
    for folder in folders:
        if not os.path.isdir(folder):
            return 2, 0.0, f"The node {host} does not see the folder {folder}, which all nodes must share"
    check = [sys.executable, "-c", "import benchmark"]
    if subprocess.run(check, env=environment, cwd=folders[0], stderr=subprocess.DEVNULL).returncode:
        return (
            2,
            0.0,
            f"{sys.executable} on the node {host} cannot import the package benchmark, installed there by pip",
        )
    child = subprocess.Popen(
        [sys.executable, *words],
        env=environment,
        cwd=folders[0],
        preexec_fn=DIE_WITH_PARENT,  # Ray ends a worker with SIGKILL
    )
    try:
        code = child.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            child.terminate()
        child.wait()
    return code, time.monotonic() - began, ""


def _threads() -> int:
    text = os.environ.get("OMP_NUM_THREADS", "1")
    if not text.isdecimal() or not int(text):
        raise InputError(f"OMP_NUM_THREADS is '{short(text)}'; expected the threads of a cell, a number from 1.")
    return int(text)


def _knock(address: str | None) -> None:
    """Raises OSError where nobody listens at host:port; Ray itself would try for minutes."""
    host, _, port = (address or "").rpartition(":")
    if address not in (None, "auto", "local") and "/" not in address and not (host and port.isdecimal()):
        raise InputError(
            f"RAY is '{short(address)}'; expected a machine and its port, such as '{short(address)}:6379'."
        )
    if host and "/" not in host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _ray(alone: bool):
    own = {"RAY_AUTH_MODE": "token"} if alone else {}  # Ray's own choice there, which it says at length
    for name, value in (QUIET | own).items():  # read at the import
        os.environ.setdefault(name, value)
    with contextlib.suppress(ImportError):
        import ray

        return ray
    raise lacking("ray", "ray")
