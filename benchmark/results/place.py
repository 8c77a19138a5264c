"""A finished run is put where runs of its name lie: whole or not at all, and never in place of another result."""

import shutil
from collections.abc import Callable
from glob import escape
from pathlib import Path

import filelock

from benchmark.results import aside
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.files import atomic_folder


def put(target: RunFolder, fill: Callable[[Path], None], refusal: Callable[[], str], done: str) -> str:
    """Have `fill` write a run into an empty folder, which then takes the place of `target`, under the run's lock.

    What lies there is moved aside first. After a kill at any moment the same call does the rest.

    Args:
        refusal: why what lies there must not be replaced; "" when it may be. Called with the lock held.
        done: the outcome when it was put there, such as "adopted".

    Returns:
        What happened, in words: `done`, with where to what lay there was moved, or why it was left alone.
    """
    new = not target.path.exists()
    try:
        with target.lock().acquire(timeout=0.1):
            _sweep(target.path)
            if target.leaving.exists():
                aside.finish(target)
            if why := refusal():
                return why
            moved = ""
            try:
                with atomic_folder(target.path) as folder:
                    fill(folder)
                    if target.left:
                        what = "the unfinished run" if target.checkpoint.exists() else "what failed or is damaged"
                        moved = f"; {what} there is moved to {aside.move(target)}"
            except BaseException:
                if not any((target.left, target.owner.exists(), target.queued.exists(), target.leaving.exists())):
                    shutil.rmtree(target.path, ignore_errors=True)  # nothing but the lock that this call made
                raise
            return f"{done}{moved}"
    except filelock.Timeout:
        return "left alone: it is running there"
    except BaseException:
        if new and not target.left:
            shutil.rmtree(target.path, ignore_errors=True)  # it holds the lock's file alone
        raise


def _sweep(path: Path) -> None:
    """Remove what a process that was killed left half-copied beside a run's folder; only for who holds its lock."""
    for end in ("tmp", "old"):
        for leftover in path.parent.glob(f".{escape(path.name)}.*.{end}"):
            shutil.rmtree(leftover, ignore_errors=True)
