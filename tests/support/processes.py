"""Processes that tests start."""

import signal
import subprocess
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
    found = [pid]
    for one in found:
        found += [child for child, above in parent.items() if above == one]
    return found
