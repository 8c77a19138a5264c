"""Has the missing cells of a grid run, one process each, and describes the state of all."""

import collections
import sys
import time

from benchmark.experiment.cell import Cell
from benchmark.experiment.launchers.base import Job, Launcher, own_package
from benchmark.experiment.launchers.local import Local
from benchmark.experiment.state import TO_RUN, state_of
from benchmark.runtime.control_signs import visible
from benchmark.runtime.plugins import text_of
from benchmark.runtime.terminal import columns


def status(cells: list[Cell], room: int | None = None) -> str:
    """Text of `status`: of each cell its state, name and reason, and in brackets what a hash in its name stands for;
    then how many cells each state has.

    Args:
        room: characters of a line of the terminal, on which a long name or reason goes on in the lines below; None:
            a line per cell.
    """
    states = [state_of(cell) for cell in cells]
    hidden = [", ".join(f"{key}={text_of(value)}" for key, value in cell.hidden.items()) for cell in cells]
    rows = []
    for cell, state, values in zip(cells, states, hidden):
        why = f"{state.why} ({values})" if values else state.why
        rows.append([visible(text) for text in (state.name, str(cell.run), why)])
    counts = collections.Counter(state.name for state in states)
    return f"{columns(rows, room)}\n{', '.join(f'{n} {state}' for state, n in counts.items())}"


def run_missing(
    cells: list[Cell],
    launcher: Launcher | None = None,
    *,
    keep_maps: bool = False,
    stale: bool = False,
    shard: tuple[int, int] = (0, 1),
) -> int:
    """Run what is missing, partial or failed, one process a cell; skip what another process runs.

    Args:
        launcher: starts the processes; None: one cell at a time on this machine.
        keep_maps: store the raw maps of the test images too; done cells without them predict once more.
        stale: run stale cells too (their results are moved aside).
        shard: (i, n): this machine's share, cells i, i+n, …

    Returns:
        The number of cells that failed in this call.
    """
    names = _to_run(stale)
    states = [(cell, state_of(cell, keep_maps=keep_maps)) for cell in cells[shard[0] :: shard[1]]]
    todo = [Job(cell, keep_maps, names) for cell, state in states if state.name in names]
    for cell, state in states:
        if state.name == "done":
            cell.folder.tidy()
        if state.name in ("skipped", "running", "queued") or (state.name == "stale" and not stale):
            hint = " (STALE=rerun moves it aside and runs it anew)" if state.name == "stale" else ""
            print(f"{state.name}: {cell.run}: {state.why}{hint}", file=sys.stderr)
    done = sum(state.name == "done" for _, state in states)
    if not todo:
        print(f"Nothing to run: {done} of {len(states)} cells are done.", file=sys.stderr)
        return 0
    print(f"{done} of {len(states)} cells are done, {len(todo)} to run.", file=sys.stderr, flush=True)
    began, outcomes = time.perf_counter(), []
    launcher = launcher or Local([job.cell.setup.device for job in todo[:1]])
    with own_package():
        for job, code in launcher.submit(todo):
            outcomes.append(_outcome(job, code))
    seconds = time.perf_counter() - began
    if launcher.waits:
        print(f"\n{outcomes.count('ran')} of {len(todo)} cells ran in {seconds:.0f} s.", file=sys.stderr)
    return outcomes.count("failed")


def pretrain(cells: list[Cell], threads: int | None, stale: bool = False) -> None:
    """Make the weights that the encoders of these cells' small ViTs begin with, where a cell is due that needs them.

    Args:
        threads: of each cell: the weights are those that the first of them would make.
        stale: whether stale cells are due too, as in `run_missing`.
    """
    from benchmark.training.pretrain import ensure_apart

    todo = [cell for cell in due(cells, stale) if cell.encoder.source == "pretext"]
    wanted = {(cell.cls.backbone_of(cell.spec.arguments), cell.recipe.pretrain): cell for cell in todo}
    for (backbone, updates), cell in wanted.items():
        ensure_apart(backbone, cell.setup.cache, updates, threads)


def due(cells: list[Cell], stale: bool) -> list[Cell]:
    """Those that `run_missing` would run."""
    return [cell for cell in cells if state_of(cell).name in _to_run(stale)]


def _to_run(stale: bool) -> tuple[str, ...]:
    """States of cells that are due."""
    return (*TO_RUN, "stale") if stale else TO_RUN


def _outcome(job: Job, code: int) -> str:
    """What became of a job: "ran", "failed", or "taken" when another process was quicker."""
    if code == 0:
        return "ran"
    state = job.state
    outcome = "taken" if state.name in ("running", "done") else "failed"
    print(f"{'failed' if outcome == 'failed' else state.name}: {job}: {state.why}", file=sys.stderr, flush=True)
    return outcome
