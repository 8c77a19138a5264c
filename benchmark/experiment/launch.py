"""The grid: cells of an experiment, the state of each, and the missing ones run one subprocess each."""

import collections
import ctypes
import signal
import subprocess
import sys
import time

from benchmark.experiment.cell import Cell

TO_RUN = ("missing", "partial", "failed")


def status(cells: list[Cell]) -> str:
    """A line per cell: state, cell, why."""
    rows = [(str(cell.run), *cell.state()) for cell in cells]
    wide = max(len(name) for name, *_ in rows)
    lines = [f"{state:8} {name:{wide}} {why}".rstrip() for name, state, why in rows]
    counts = collections.Counter(state for _, state, _ in rows)
    return "\n".join([*lines, ", ".join(f"{n} {state}" for state, n in counts.items())])


def run_missing(cells: list[Cell], command: list[str], *, stale: bool = False, shard: tuple[int, int] = (0, 1)) -> int:
    """Run what is missing, partial or failed, one subprocess a cell; skip what another process runs.

    Args:
        command: the command line that runs one cell, to which method, fold and seed are added.
        stale: run stale cells too (their results are replaced).
        shard: (i, n): this machine's share, cells i, i+n, …

    Returns:
        the number of cells that failed in this call.
    """
    wanted = (*TO_RUN, "stale") if stale else TO_RUN
    states = [(cell, *cell.state()) for cell in cells[shard[0] :: shard[1]]]
    todo = [cell for cell, state, _ in states if state in wanted]
    for cell, state, why in states:
        if state == "skipped" or (state == "stale" and not stale) or state == "running":
            hint = " (STALE=rerun replaces it)" if state == "stale" else ""
            print(f"{state}: {cell.run}: {why}{hint}", file=sys.stderr)
    done = sum(state == "done" for _, state, _ in states)
    if not todo:
        print(f"Nothing to run: {done} of {len(states)} cells are done.", file=sys.stderr)
        return 0
    print(f"{done} of {len(states)} cells are done, {len(todo)} to run.", file=sys.stderr, flush=True)
    began, failures, ran = time.perf_counter(), 0, 0
    for n, cell in enumerate(todo):
        if cell.state()[0] not in wanted:  # another machine took it meanwhile
            continue
        spent = time.perf_counter() - began
        left = f", about {spent / n * (len(todo) - n):.0f} s left" if n else ""
        print(f"\n=== cell {n + 1}/{len(todo)}: {cell.run}{left}", file=sys.stderr, flush=True)
        arguments = ["--method", str(cell.spec), "--fold", str(cell.fold), "--seed", str(cell.seed)]
        if _subprocess([*command, *arguments]) == 0:
            ran += 1
        else:
            state, why = cell.state()
            if state in ("running", "done"):  # another process was quicker
                print(f"{state}: {cell.run}: {why}", file=sys.stderr, flush=True)
                continue
            failures += 1
            print(f"failed: {cell.run}: {why}", file=sys.stderr, flush=True)
    print(
        f"\n{ran} of {len(todo)} cells ran in {time.perf_counter() - began:.0f} s.",
        file=sys.stderr,
    )
    return failures


def _die_with_parent() -> None:
    """A grid killed with SIGKILL must not leave its cell running: the kernel ends the child with its parent."""
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
