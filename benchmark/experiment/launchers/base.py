"""What every launcher takes and returns: jobs, and their exit codes as they end."""

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Protocol

from benchmark.experiment.cell import Cell
from benchmark.experiment.request import Request
from benchmark.experiment.state import TO_RUN, State, state_of
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import IN_CHECKOUT, PACKAGE


@dataclass(frozen=True)
class Job:
    """A cell to run.

    Attributes:
        due: names of the states in which it is still to be run; another machine may have taken it meanwhile.
    """

    cell: Cell
    keep_maps: bool = False
    due: tuple[str, ...] = TO_RUN

    def __str__(self) -> str:
        return str(self.cell.run)

    @property
    def state(self) -> State:
        """The state of its cell now."""
        return state_of(self.cell, keep_maps=self.keep_maps)

    def is_due(self) -> bool:
        """Whether its cell is still to be run."""
        return self.state.name in self.due

    def command(self, device: str | None = None) -> list[str]:
        """The command of the process that runs it, on `device` in place of the setup's."""
        request = Request.of(self.cell, self.keep_maps)
        if device is not None:
            request = replace(request, setup=replace(request.setup, device=device))
        return [sys.executable, "-m", "benchmark", "run", "--request", request.to_text()]


class Launcher(Protocol):
    """Starts the processes of jobs, here or elsewhere.

    Attributes:
        threads: of each process on its processor; None: torch's choice.
        waits: `submit` waits for the jobs; else it yields nothing, and says what it submitted.
    """

    waits: bool

    @property
    def threads(self) -> int | None: ...

    def submit(self, jobs: list[Job]) -> Iterator[tuple[Job, int]]:
        """Run each job in a process of its own.

        Yields:
            (job, exit code) as the jobs end. One that is no longer due when its turn comes is left out. A code other
            than 0 is not yet a failure: see the state of the cell.
        """
        ...


@contextlib.contextmanager
def own_package() -> Iterator[None]:
    """Within it, `-m benchmark` in child processes is this package, also where the current folder holds a script or a
    package of that name, which Python would take first."""
    beside = PathFinder.find_spec("benchmark", [os.getcwd()])
    if beside is None or beside.origin is None or Path(beside.origin).resolve().parent == PACKAGE:
        yield
        return
    places = [str(PACKAGE.parent), os.environ.get("PYTHONPATH")] if IN_CHECKOUT else [os.environ.get("PYTHONPATH")]
    before = {name: os.environ.get(name) for name in ("PYTHONSAFEPATH", "PYTHONPATH")}
    os.environ |= {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(filter(None, places))}
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            os.environ |= {} if value is None else {name: value}


def lacking(launcher: str, package: str) -> InputError:
    """The error of a launcher whose package, an extra of ours, is not installed."""
    what = f"-e '.[{launcher}]'" if IN_CHECKOUT else package
    install = f"{sys.executable} -m pip install {what}"  # a bare pip may be another environment's
    return InputError(f"LAUNCHER={launcher} needs the package {package}; install it with `{install}`.")


def keep_reason(folder: RunFolder, why: str) -> None:
    """Keep why a cell's process ended that could not do so itself; a cell that ended, or runs again, is left alone."""
    if folder.complete or folder.held():
        return
    with folder.lock():
        folder.fail(f"{why}\n")


def _die() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


# For Popen's preexec_fn: the kernel ends the process with the one that started it, which may be killed with SIGKILL.
DIE_WITH_PARENT = _die if sys.platform == "linux" else None
