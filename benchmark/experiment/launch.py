"""Runs the missing cells of a grid, one subprocess each, and describes the state of all."""

import collections
import ctypes
import signal
import subprocess
import sys
import time

from benchmark.experiment.cell import Cell
from benchmark.experiment.request import Request
from benchmark.experiment.state import TO_RUN, state_of
from benchmark.runtime.plugins import text_of


def status(cells: list[Cell]) -> str:
    """Text of `status`: a line per cell with its state, name and reason, and in brackets what a hash in its name stands
    for; then how many cells each state has."""
    states = [state_of(cell) for cell in cells]
    names = [str(cell.run) for cell in cells]
    width = max(map(len, names))
    hidden = [", ".join(f"{key}={text_of(value)}" for key, value in cell.hidden.items()) for cell in cells]
    lines = []
    for name, state, values in zip(names, states, hidden):
        why = f"{state.why} ({values})" if values else state.why
        lines.append(f"{state.name:8} {name:{width}} {why}".rstrip())
    counts = collections.Counter(state.name for state in states)
    return "\n".join([*lines, ", ".join(f"{n} {state}" for state, n in counts.items())])


def run_missing(
    cells: list[Cell], *, keep_maps: bool = False, stale: bool = False, shard: tuple[int, int] = (0, 1)
) -> int:
    """Run what is missing, partial or failed, one subprocess a cell; skip what another process runs.

    Args:
        keep_maps: store the raw maps of the test images too.
        stale: run stale cells too (their results are moved aside).
        shard: (i, n): this machine's share, cells i, i+n, …

    Returns:
        The number of cells that failed in this call.
    """
    names = (*TO_RUN, "stale") if stale else TO_RUN
    states = [(cell, state_of(cell)) for cell in cells[shard[0] :: shard[1]]]
    todo = [cell for cell, state in states if state.name in names]
    for cell, state in states:
        if state.name == "done":
            cell.folder.tidy()
        if state.name in ("skipped", "running") or (state.name == "stale" and not stale):
            hint = " (STALE=rerun moves it aside and runs it anew)" if state.name == "stale" else ""
            print(f"{state.name}: {cell.run}: {state.why}{hint}", file=sys.stderr)
    done = sum(state.name == "done" for _, state in states)
    if not todo:
        print(f"Nothing to run: {done} of {len(states)} cells are done.", file=sys.stderr)
        return 0
    print(f"{done} of {len(states)} cells are done, {len(todo)} to run.", file=sys.stderr, flush=True)
    began, outcomes = time.perf_counter(), []
    for n, cell in enumerate(todo):
        if state_of(cell).name not in names:  # another machine took it meanwhile
            continue
        spent = time.perf_counter() - began
        left = f", about {spent / n * (len(todo) - n):.0f} s left" if n else ""
        print(f"\n=== cell {n + 1}/{len(todo)}: {cell.run}{left}", file=sys.stderr, flush=True)
        outcomes.append(_run_apart(cell, keep_maps))
    seconds = time.perf_counter() - began
    print(f"\n{outcomes.count('ran')} of {len(todo)} cells ran in {seconds:.0f} s.", file=sys.stderr)
    return outcomes.count("failed")


def _run_apart(cell: Cell, keep_maps: bool) -> str:
    """Run a cell in a process of its own; "ran", "failed", or "taken" when another process was quicker."""
    request = Request.of(cell, keep_maps)
    if _subprocess([sys.executable, "-m", "benchmark", "run", "--request", request.to_text()]) == 0:
        return "ran"
    state = state_of(cell)
    if state.name in ("running", "done"):
        print(f"{state.name}: {cell.run}: {state.why}", file=sys.stderr, flush=True)
        return "taken"
    print(f"failed: {cell.run}: {state.why}", file=sys.stderr, flush=True)
    return "failed"


def _die_with_parent() -> None:
    """Have the kernel end this process with its parent: a grid killed with SIGKILL must not leave its cell running."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _subprocess(command: list[str]) -> int:
    """Run a command; SIGTERM and Ctrl-C end the child too."""
    child = subprocess.Popen(command, preexec_fn=_die_with_parent if sys.platform == "linux" else None)

    def stop(number, frame):  # waits for nothing: it interrupts child.wait(), which holds a lock
        sys.exit(128 + number)

    previous = signal.signal(signal.SIGTERM, stop)
    try:
        return child.wait()
    except KeyboardInterrupt:
        child.send_signal(signal.SIGINT)  # a Ctrl-C reached it already; a signal to this process alone did not
        child.wait()
        raise
    except SystemExit:
        child.terminate()
        child.wait()
        raise
    finally:
        signal.signal(signal.SIGTERM, previous)
