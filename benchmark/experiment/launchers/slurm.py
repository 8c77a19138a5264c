"""Cells on a Slurm cluster: one array by submitit, one task a cell, requeued when it is preempted or out of time."""

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import filelock

from benchmark.experiment import queue
from benchmark.experiment.estimate import done
from benchmark.experiment.launchers.base import DIE_WITH_PARENT, Job, keep_reason
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.errors import InputError, near_miss, short

FOLDER = "_slurm"  # of results/: what submitit writes, and the logs of the jobs
LARGEST = 1000  # tasks of an array: Slurm's default MaxArraySize is 1001
LOOK, SHOW, GRACE = 5.0, 60.0, 15.0  # seconds: between two looks, between two lines; a file system's delay
OFTEN = 1_000_000  # a requeue continues the cell, so there is no number of them that is too many


class Slurm:
    """Submits cells to Slurm, and waits for them.

    Args:
        options: what sbatch is asked for, see `parse`.
        results: the folder of results, which all nodes share.
        detach: do not wait: the queue runs the cells, `status` shows them.
    """

    def __init__(self, options: dict[str, Any], results: Path, detach: bool = False):
        self.options, self.folder, self.detach = options, results / FOLDER, detach
        processes = max(1, int(options.get("gpus_per_node", 1)))
        cpus = options.get("cpus_per_task")
        self.threads = max(1, int(cpus) // processes) if cpus else None

    def submit(self, jobs: list[Job]) -> Iterator[tuple[Job, int]]:
        """As `Launcher.submit`. Whoever stops waiting leaves the jobs in the queue.

        Raises:
            InputError: no Slurm, no submitit, or options that sbatch refuses.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        waiting: dict[str, Job] = {}
        with filelock.FileLock(self.folder / ".lock"):  # who looks at the queue must see what others submit
            due = [job for job in jobs if job.is_due()]
            for first in range(0, len(due), LARGEST):
                part = due[first : first + LARGEST]
                for job, name in zip(part, self._array(part)):
                    job.cell.folder.queue(name)
                    waiting[name] = job
        queue.forget()
        names = sorted({name.partition("_")[0] for name in waiting})
        print(f"slurm: {len(waiting)} cells submitted as job {', '.join(names) or '–'}", file=sys.stderr, flush=True)
        if self.detach:
            return
        try:
            yield from self._endings(waiting)
        except KeyboardInterrupt:
            left = sorted({name.partition("_")[0] for name in waiting})
            print(f"jobs stay in the queue; `scancel {' '.join(left)}` removes them", file=sys.stderr)
            raise

    def _array(self, jobs: list[Job]) -> list[str]:
        """Submit one array; returns the names of its jobs."""
        submitit = _submitit()
        nodes, processes = int(self.options.get("nodes", 1)), int(self.options.get("gpus_per_node", 1))
        tasks = [Task(job.command(), str(job.cell.folder), nodes, max(1, processes)) for job in jobs]
        try:
            executor = submitit.SlurmExecutor(self.folder, max_num_timeout=OFTEN)
            executor.update_parameters(**{"job_name": "nuclei", "time": 60 * 24} | self.options)
            with executor.batch():
                submitted = [executor.submit(task) for task in tasks]
            return [job.job_id for job in submitted]
        except (RuntimeError, ValueError, OSError, submitit.core.utils.FailedSubmissionError) as error:
            reason = " ".join(str(error).split())[-300:]
            raise InputError(f"Slurm took no job ({reason}); mend SLURM, or choose LAUNCHER=local.") from error

    def _endings(self, waiting: dict[str, Job]) -> Iterator[tuple[Job, int]]:
        missed: dict[str, float] = {}  # job -> when it was neither in the queue nor running for the first time
        total, shown = len(waiting), time.monotonic()
        while waiting:
            time.sleep(LOOK)
            for name, job in list(waiting.items()):
                state = job.state
                if state.name in ("queued", "running"):
                    missed.pop(name, None)
                    continue
                began = missed.setdefault(name, time.monotonic())
                if state.name not in ("done", "failed") and time.monotonic() - began < GRACE:
                    continue  # its last files may be on their way
                del waiting[name]
                if state.name not in ("done", "failed"):
                    log = self.folder / f"{name}_0_log.err"
                    keep_reason(job.cell.folder, f"job {name} left the queue before its cell had ended; see {log}")
                yield job, int(state.name != "done")
            if waiting and time.monotonic() - shown >= SHOW:
                shown = time.monotonic()
                print(_summary(waiting, total), file=sys.stderr, flush=True)


class Task:
    """What a node runs: the command of a cell, on several processes through torchrun.

    Attributes:
        folder: of the run.
        nodes, processes: of the job, and on each of its nodes.
    """

    def __init__(self, command: list[str], folder: str, nodes: int, processes: int):
        self.command, self.folder, self.nodes, self.processes = command, folder, nodes, processes

    def __call__(self) -> int:
        environment = dict(os.environ)
        if cpus := environment.get("SLURM_CPUS_PER_TASK"):
            threads = max(1, int(cpus) // self.processes)
            environment = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)} | environment
        child = subprocess.Popen(self.line(), env=environment, preexec_fn=DIE_WITH_PARENT)
        try:
            code = child.wait()
            if code == -signal.SIGUSR2:  # Slurm warns every process of a job; this one is told in a moment, and leaves
                time.sleep(30)
        except BaseException:
            child.terminate()  # its lock is free before the job is in the queue again
            child.wait()
            raise
        if code < 0 and code != -signal.SIGTERM:
            why = "most often because memory ran out; ask for more with SLURM='mem=…'"
            keep_reason(RunFolder(Path(self.folder)), f"its process was ended by signal {-code}, {why}")
        return code

    def line(self) -> list[str]:
        """The command, by torchrun where several processes share the cell."""
        if self.nodes * self.processes == 1:
            return self.command
        python, *words = self.command
        torchrun = [python, "-m", "torch.distributed.run", f"--nnodes={self.nodes}"]
        torchrun.append(f"--nproc-per-node={self.processes}")
        if self.nodes > 1:
            job = int(os.environ["SLURM_JOB_ID"])
            hosts = ["scontrol", "show", "hostnames", os.environ["SLURM_JOB_NODELIST"]]
            head = subprocess.run(hosts, capture_output=True, text=True, check=True).stdout.split()[0]
            torchrun += ["--rdzv-backend=c10d", f"--rdzv-id={job}", f"--rdzv-endpoint={head}:{20000 + job % 20000}"]
        else:
            torchrun.append("--standalone")
        return [*torchrun, *words]

    def checkpoint(self):
        """For submitit, before it requeues the job: the cell continues from its own checkpoint."""
        return _submitit().helpers.DelayedSubmission(self)


def parse(text: str | None) -> dict[str, Any]:
    """The options of `SLURM="partition=gpu time=4:00:00 gpus_per_node=1"`, for submitit.

    Raises:
        InputError: a word that is no option.
    """
    options: dict[str, Any] = {}
    known = sorted(_submitit().slurm.slurm._get_default_parameters())
    for word in (text or "").split():
        key, equals, value = word.partition("=")
        key = key.lstrip("-").replace("-", "_")
        if not equals or not value:
            raise InputError(
                f"SLURM has the word '{short(word)}'; expected words such as 'partition=gpu time=4:00:00'."
            )
        if key not in known:
            hint = near_miss(key, known)
            raise InputError(
                f"SLURM names '{short(key)}', which submitit does not know.{hint} It knows {', '.join(known)}."
            )
        options[key] = _minutes(value) if key == "time" else int(value) if value.isdigit() else value
    return options


def _minutes(text: str) -> int:
    """Whole minutes of a time as Slurm writes it: minutes, m:s, h:m:s, d-h, d-h:m or d-h:m:s."""
    days, dash, rest = text.rpartition("-")
    parts = rest.split(":")
    if not all(part.isdigit() for part in [days or "0", *parts]) or len(parts) > 3:
        raise InputError(f"SLURM says time={short(text)}; expected minutes, or such as 4:00:00 or 2-12:00:00.")
    numbers = [int(part) for part in parts]
    if dash:  # hours first
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    elif len(numbers) < 3:  # minutes first
        hours, (minutes, seconds) = 0, (*numbers, 0)[:2]
    else:
        hours, minutes, seconds = numbers
    return max(1, math.ceil(int(days or 0) * 1440 + hours * 60 + minutes + seconds / 60))


def _summary(waiting: dict[str, Job], total: int) -> str:
    running = [job for job in waiting.values() if job.state.name == "running"]
    each = [f"{job} {100 * done(job.cell):.0f} %" for job in running[:4]]
    more = f" ({', '.join(each)}{', …' if len(running) > 4 else ''})" if each else ""
    queued = len(waiting) - len(running)
    return f"slurm: {total - len(waiting)} of {total} cells ended, {len(running)} running{more}, {queued} queued"


def _submitit():
    with contextlib.suppress(ImportError):
        import submitit

        return submitit
    raise InputError("LAUNCHER=slurm needs the package submitit; install it with `pip install -e '.[slurm]'`.")
