"""Cells on a Slurm cluster: one array by submitit, one task a cell, requeued when it is preempted or out of time."""

import collections
import contextlib
import io
import math
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import filelock

from benchmark.experiment import queue
from benchmark.experiment.estimate import done
from benchmark.experiment.launchers.base import DIE_WITH_PARENT, Job, keep_reason, lacking
from benchmark.experiment.launchers.devices import threads_set
from benchmark.results import training_log
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.errors import InputError, near_miss, short

FOLDER = "_slurm"  # of results/: what submitit writes, and the logs of the jobs
LARGEST = 1000  # tasks of an array: Slurm's default MaxArraySize is 1001
LOOK, SHOW, GRACE = 5.0, 60.0, 15.0  # seconds: between two looks, between two lines; a file system's delay
OFTEN = 1_000_000  # a requeue continues the cell, so there is no number of them that is too many,
STUCK = 3  # but of those between which no epoch ended
WAITS = re.compile(r"(\.submission_file_)?[0-9a-f]{32}\.(sh|pkl)")  # files of submitit's for jobs without a number yet


class Slurm:
    """Submits cells to Slurm, and waits for them.

    Args:
        options: what sbatch is asked for, see `parse`.
        results: the folder of results, which all nodes share.
        detach: do not wait: the queue runs the cells, `status` shows them.

    Raises:
        InputError: no submitit.
    """

    def __init__(self, options: dict[str, Any], results: Path, detach: bool = False):
        _submitit()
        self.options, self.folder, self.waits = options, results / FOLDER, not detach
        self.nodes = options.get("nodes", 1)
        self.gpus = int(str(options.get("gpus_per_node", 0)).rpartition(":")[2])  # of a100:2 too
        self.processes = max(1, self.gpus)  # on each node
        self.cpus = options.get("cpus_per_task", self.processes)  # always set, so that the number of threads is known
        self.threads = threads_set() or max(1, self.cpus // self.processes)

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
                try:
                    names = self._array(part)
                except (RuntimeError, ValueError, OSError, _submitit().core.utils.FailedSubmissionError) as error:
                    raise InputError(self._refusal(error, waiting, len(due))) from error
                for job, name in zip(part, names):
                    job.cell.folder.queue(name)
                    waiting[name] = job
        queue.forget()
        print(f"slurm: {len(waiting)} cells submitted as job {_arrays(waiting) or '–'}", file=sys.stderr)
        for line in self._defaults(due):
            print(f"slurm: {line}", file=sys.stderr, flush=True)
        if not self.waits:
            return
        try:
            yield from self._endings(waiting)
        except KeyboardInterrupt:
            print(f"jobs stay in the queue; `scancel {_arrays(waiting)}` removes them", file=sys.stderr)
            raise

    def _refusal(self, error: Exception, waiting: dict[str, Job], due: int) -> str:
        """Why Slurm took no array, and which it took before that."""
        reason = " ".join(str(error).split())[-300:]
        if waiting:
            return (
                f"Slurm took {len(waiting)} of {due} cells, which are queued as job {_arrays(waiting)}, and no more "
                f"({reason}); submit the others with the same command later, or `scancel {_arrays(waiting)}`."
            )
        return f"Slurm took no job ({reason}); mend SLURM, or choose LAUNCHER=local."

    def _defaults(self, jobs: list[Job]) -> Iterator[str]:
        """Lines about what was not asked for, and has a consequence."""
        if any(self._device(job) for job in jobs):
            yield "no gpus_per_node: the cells train on the processor; SLURM='gpus_per_node=1 …' asks for a GPU each"
        if jobs and "cpus_per_task" not in self.options and not threads_set():
            each = "process of a cell" if self.nodes * self.processes > 1 else "cell"
            yield f"no cpus_per_task: one thread a {each}"

    def _device(self, job: Job) -> str | None:
        """The processor, where no GPU was asked for by any name: one that a node shows is another job's."""
        return "cpu" if not self.gpus and job.cell.setup.device == "auto" else None

    def _array(self, jobs: list[Job]) -> list[str]:
        """Submit one array; returns the names of its jobs."""
        tasks = [
            Task(job.command(self._device(job)), str(job.cell.folder), self.nodes, self.processes, self._time())
            for job in jobs
        ]
        executor = _submitit().SlurmExecutor(self.folder, max_num_timeout=OFTEN)
        executor.update_parameters(
            **{"job_name": "nuclei"} | self.options | {"time": self._time(), "cpus_per_task": self.cpus},
            srun_args=[f"--cpus-per-task={self.cpus}"],  # srun does not take it from sbatch since Slurm 22.05
            additional_parameters={"requeue": True},  # also where slurm.conf has JobRequeue=0
        )
        before = set(self.folder.iterdir()) if self.folder.is_dir() else set()
        try:
            with contextlib.redirect_stderr(io.StringIO()), executor.batch():  # the reason is said in our sentence
                submitted = [executor.submit(task) for task in tasks]
        except BaseException:
            for path in set(self.folder.iterdir()) - before:
                if WAITS.fullmatch(path.name):
                    path.unlink(missing_ok=True)
            raise
        return [job.job_id for job in submitted]

    def _time(self) -> int:
        """Minutes that a job asks for."""
        return self.options.get("time", 60 * 24)

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
                    why = f"job {name} left the queue before its cell had ended; see {self.folder / name}_0_log.err"
                    keep_reason(job.cell.folder, why)
                    if job.cell.folder.complete:  # beside a result no reason is kept
                        print(f"slurm: {job}: {why}", file=sys.stderr, flush=True)
                yield job, int(state.name != "done")
            if waiting and time.monotonic() - shown >= SHOW:
                shown = time.monotonic()
                print(_summary(waiting, total), file=sys.stderr, flush=True)


class Task:
    """What a node runs: the command of a cell, on several processes through torchrun.

    Attributes:
        folder: of the run.
        nodes, processes: of the job, and on each of its nodes.
        minutes: for which the job may run.
        stuck: requeues in a row between which no epoch ended.
    """

    def __init__(self, command: list[str], folder: str, nodes: int, processes: int, minutes: int = 0):
        self.command, self.folder, self.nodes, self.processes = command, folder, nodes, processes
        self.minutes, self.stuck, self.epochs, self.terminated, self.why = minutes, 0, 0, False, ""

    def __call__(self) -> int:
        environment = dict(os.environ)
        if cpus := environment.get("SLURM_CPUS_PER_TASK"):
            threads = max(1, int(cpus) // self.processes)
            environment = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)} | environment
        self.terminated, self.epochs = False, self._epochs()
        previous = signal.signal(signal.SIGTERM, self._terminate)
        child = subprocess.Popen(self.line(), env=environment, preexec_fn=DIE_WITH_PARENT)
        try:
            code = child.wait()
            if code == -signal.SIGTERM or (code and self.terminated):
                self._leave()
            if code == -signal.SIGUSR2:  # Slurm warns every process of a job; this one is told in a moment, and leaves
                time.sleep(30)
        except BaseException:
            child.terminate()  # its lock is free before the job is in the queue again
            child.wait()
            if self.why:
                keep_reason(RunFolder(Path(self.folder)), self.why)
            raise
        finally:
            signal.signal(signal.SIGTERM, previous)
        if code < 0 and code != -signal.SIGTERM:
            why = "most often because memory ran out; ask for more with SLURM='mem=…'"
            keep_reason(RunFolder(Path(self.folder)), f"its process was ended by signal {-code}, {why}")
        return code

    def _terminate(self, number: int, frame) -> None:
        """Slurm told every process of the job to end; torchrun's code does not say that it was told."""
        self.terminated = True

    def _leave(self) -> None:
        """Requeue the job, as after a warning, unless Slurm ends it: who cancels it, or its time limit, sends SIGTERM
        too, but only a job that is preempted with a period of grace, or signalled by hand, is still running then."""
        job = _submitit().JobEnvironment().job_id
        state = queue.word_on(job)
        if state and state.startswith(("RUNNING", queue.UNKNOWN)):
            signal.raise_signal(signal.SIGUSR2)  # submitit requeues the job, and ends this process
            time.sleep(30)  # of several nodes the first requeues the job, and Slurm ends the others

    def _epochs(self) -> int:
        """Epochs in the log of the run."""
        with contextlib.suppress(OSError, ValueError):
            return len(training_log.read(RunFolder(Path(self.folder)).log))
        return 0

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
        """For submitit, before it requeues the job: the cell continues from its own checkpoint.

        Returns:
            None where the job was requeued STUCK times without one more epoch in the log; it fails then.
        """
        self.stuck = self.stuck + 1 if self._epochs() == self.epochs else 0
        if self.stuck > STUCK:
            self.why = (
                f"requeued {STUCK} times without one more epoch: an epoch (or the test after the last) takes longer "
                f"than time={self.minutes} minutes, or than preemption leaves it; ask for more with SLURM='time=…'"
            )
            return None
        return _submitit().helpers.DelayedSubmission(self)


def parse(text: str | None) -> dict[str, Any]:
    """The options of `SLURM="partition=gpu time=4:00:00 gpus_per_node=1"`, for submitit.

    Raises:
        InputError: a word that is no option, one that would undo what the launcher does, or a value of another form.
    """
    options: dict[str, Any] = {}
    for word in (text or "").split():
        key, equals, value = word.partition("=")
        key = key.lstrip("-").replace("-", "_")
        if not equals or not value:
            raise InputError(
                f"SLURM has the word '{short(word)}'; expected words such as 'partition=gpu time=4:00:00'."
            )
        if key not in OPTIONS:
            hint = f" Say {INSTEAD[key]}." if key in INSTEAD else near_miss(key, OPTIONS)
            raise InputError(
                f"SLURM names '{short(key)}', which is not taken.{hint} It takes {', '.join(sorted(OPTIONS))}."
            )
        if key in options:
            raise InputError(f"SLURM says {key} twice; expected each option once.")
        options[key] = OPTIONS[key](key, value)
    return options


def _whole(key: str, text: str) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,8}", text):
        raise InputError(f"SLURM says {key}={short(text)}; expected a whole number from 1.")
    return int(text)


def _gpus(key: str, text: str) -> str | int:
    """A number, or a type and a number: torchrun starts as many processes."""
    kind, colon, number = text.rpartition(":")
    if not re.fullmatch(r"[0-9]{1,4}", number) or (colon and not re.fullmatch(r"\w[\w.-]*", kind)):
        raise InputError(f"SLURM says {key}={short(text)}; expected a number, or a type and a number such as a100:1.")
    return text if colon else int(number)


def _memory(key: str, text: str) -> str:
    if not re.fullmatch(r"[0-9]+([KMGT]B?)?", text, re.IGNORECASE):
        raise InputError(f"SLURM says {key}={short(text)}; expected such as 64GB, or megabytes.")
    return text


def _exclusive(key: str, text: str) -> str | bool:
    if text.lower() not in ("true", "1", "user", "mcs"):
        raise InputError(f"SLURM says {key}={short(text)}; expected true, user or mcs.")
    return text.lower() if text.lower() in ("user", "mcs") else True


def _text(key: str, text: str) -> str:
    return text


def _minutes(key: str, text: str) -> int:
    """Whole minutes of a time as Slurm writes it: minutes, m:s, h:m:s, d-h, d-h:m or d-h:m:s."""
    days, dash, rest = text.rpartition("-")
    parts = rest.split(":")
    if not all(re.fullmatch("[0-9]{1,9}", part) for part in [days or "0", *parts]) or len(parts) > 3:
        raise InputError(f"SLURM says {key}={short(text)}; expected minutes, or such as 4:00:00 or 2-12:00:00.")
    numbers = [int(part) for part in parts]
    if dash:  # hours first
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    elif len(numbers) < 3:  # minutes first
        hours, (minutes, seconds) = 0, (*numbers, 0)[:2]
    else:
        hours, minutes, seconds = numbers
    return max(1, math.ceil(int(days or 0) * 1440 + hours * 60 + minutes + seconds / 60))


# what a job is asked for with -> how its value is read; what is not here would change what the launcher relies on
OPTIONS: dict[str, Callable[[str, str], Any]] = {
    **dict.fromkeys(("partition", "account", "qos", "constraint", "nodelist", "exclude", "dependency"), _text),
    **dict.fromkeys(("job_name", "comment", "wckey", "mail_type", "mail_user"), _text),
    **dict.fromkeys(("nodes", "cpus_per_task", "array_parallelism", "signal_delay_s"), _whole),
    **dict.fromkeys(("mem", "mem_per_cpu", "mem_per_gpu"), _memory),
    "time": _minutes,
    "gpus_per_node": _gpus,
    "exclusive": _exclusive,
}
INSTEAD = dict.fromkeys(("gres", "gpus", "num_gpus", "gpus_per_task", "ntasks_per_node"), "gpus_per_node=1")
INSTEAD |= {"cpus_per_gpu": "cpus_per_task=8"}


def _arrays(jobs: dict[str, Job]) -> str:
    """The arrays of jobs, for `scancel`."""
    return " ".join(sorted({name.partition("_")[0] for name in jobs}, key=int))


def _summary(waiting: dict[str, Job], total: int) -> str:
    running = [job for job in waiting.values() if job.state.name == "running"]
    each = [f"{job} {100 * done(job.cell):.0f} %" for job in running[:4]]
    more = f" ({', '.join(each)}{', …' if len(running) > 4 else ''})" if each else ""
    words = [queue.word_on(name) for name, job in waiting.items() if job not in running]
    reasons = collections.Counter(word for word in words if word)
    why = f" ({', '.join(f'{number} {word}' for word, number in reasons.most_common(4))})" if reasons else ""
    counts = f"{len(running)} running{more}, {len(words)} queued{why}"
    return f"slurm: {total - len(waiting)} of {total} cells ended, {counts}"


def _submitit():
    with contextlib.suppress(ImportError):
        import submitit

        return submitit
    raise lacking("slurm", "submitit")
