"""Processes that tests start."""

import os
import signal
import subprocess
import time
from pathlib import Path


def heeds_interrupts() -> None:
    """In a new process: Ctrl-C ends it, also where the tests run in a shell's background, which ignores it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def is_running(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def family(pid: int) -> list[int]:
    """The process and its descendants: torchrun's workers are in sessions of their own, no signal to a group reaches
    them."""
    table = subprocess.run(["ps", "-eo", "pid,ppid"], capture_output=True, text=True, check=True).stdout
    parent = dict(map(int, row.split()) for row in table.splitlines()[1:])
    pids = [pid]
    for one in pids:
        pids += [child for child, above in parent.items() if above == one]
    return pids


def wait(until, process=None, seconds: float = 240.0):
    """The first true value of `until()`, which is called again and again while a process, where one is given, runs."""
    end = time.monotonic() + seconds
    while not (value := until()):
        assert time.monotonic() < end
        assert process is None or process.poll() is None, process.communicate()
        time.sleep(0.2)
    return value


def kill_after(process, log, lines):
    """SIGKILL a process and all its descendants once its log has `lines` lines."""
    end = time.monotonic() + 240
    while time.monotonic() < end and process.poll() is None:
        if log.exists() and len(log.read_text().splitlines()) >= lines:
            time.sleep(0.15)  # into the next epoch
            break
        time.sleep(0.02)
    assert process.poll() is None, f"ended before it could be killed: {process.communicate()}"
    for pid in family(process.pid):
        os.kill(pid, signal.SIGKILL)
    process.communicate()
