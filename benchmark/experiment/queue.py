"""What Slurm knows of jobs that wait for a node, or have one: asked of `squeue`, once a moment for each array."""

import shutil
import subprocess
import time

UNKNOWN = "squeue cannot be asked here"
NO_SQUEUE = f"{UNKNOWN}: ask on the cluster, or delete queued.txt in the run's folder if the job is gone"
FRESH = 2.0  # seconds for which an answer is good enough
_answers: dict[str, tuple[float, dict[str, str] | None]] = {}  # array -> (when, job -> its state), None: no answer


def word_on(job: str) -> str | None:
    """The state of a job in words, such as "PENDING (Resources)"; None where Slurm has forgotten it.

    Args:
        job: "17", or "17_3" of an array.
    """
    array = job.partition("_")[0]
    when, jobs = _answers.get(array, (-FRESH, None))
    if time.monotonic() - when >= FRESH:
        jobs = _ask(array)
        _answers[array] = time.monotonic(), jobs
    if jobs is None:
        return UNKNOWN if shutil.which("squeue") else NO_SQUEUE
    return jobs.get(job)


def forget() -> None:
    """Ask anew the next time."""
    _answers.clear()


def _ask(array: str) -> dict[str, str] | None:
    """Job -> state of an array; {} for one that Slurm has forgotten, None where it does not answer."""
    if not shutil.which("squeue"):
        return None
    line = ["squeue", "--noheader", "--array", "--jobs", array, "--format", "%i|%T|%r"]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return {} if "invalid job id" in done.stderr.lower() else None
    of_job = {}
    for text in done.stdout.splitlines():
        job, state, reason = [*text.split("|", 2), "", ""][:3]
        of_job[job.strip()] = state if reason in ("None", "") else f"{state} ({reason})"
    return of_job
