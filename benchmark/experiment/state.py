"""The state of a cell: derived from its folder and its identity at each look, never stored."""

import json
from pathlib import Path
from typing import NamedTuple

from benchmark.experiment import queue
from benchmark.experiment.cell import Cell
from benchmark.results import aside, manifest, raw_maps, training_log
from benchmark.results.identity import differing
from benchmark.results.run_folder import RunFolder

TO_RUN = ("missing", "partial", "failed")
# of a result whose data are new or have changed: a look at a state must not take as long as preparing them
UNKNOWN_DATA = "not compared with the data, which are not prepared as they are now"


class State(NamedTuple):
    """The state of a cell.

    Attributes:
        name: done, stale, running, queued, skipped, partial, failed or missing.
        why: the reason in words; for done, the removable files that are gone and data that could not be compared, ""
            when there is neither.
    """

    name: str
    why: str


def state_of(cell: Cell, locked: bool = False, keep_maps: bool = False) -> State:
    """The state of a cell.

    Args:
        locked: this process holds the cell's lock, so nobody runs it.
        keep_maps: its raw maps are to be kept too: what is done without them is partial, or skipped where its weights
            are gone.
    """
    folder = cell.folder
    ended = stored(cell)
    if ended and ended.name == "done":
        return _with_maps(cell, ended) if keep_maps else ended
    is_stale = f"; the stored result is stale: {ended.why}" if ended and ended.name == "stale" else ""
    supported, reason = cell.supports()
    if not supported:
        return State("skipped", reason + is_stale)
    if not locked and (busy := _busy(folder)):  # before what is stored: a rerun of it may have begun, or be queued
        return State(busy.name, busy.why + is_stale)
    if ended:
        return ended
    if folder.leaving.exists():
        return State("missing", "an earlier result is being moved aside; not run yet")
    if folder.failed.exists():
        lines = [line for line in _text(folder.failed).splitlines() if line.strip()]
        return State("failed", lines[-1] if lines else "no traceback was kept")
    if folder.checkpoint.exists():
        return _partial(cell)
    if folder.provenance.exists() or folder.config.exists():
        return State("missing", "began and did not end (no metrics.json, no checkpoint.pt); starts anew")
    return State("missing", "not run yet")


def _busy(folder: RunFolder) -> State | None:
    """Running or queued, where a process holds the folder or a job is to run it."""
    if folder.held():
        return State("running", f"owner {_text(folder.owner).strip() or 'unknown'}")
    if (name := folder.queued_as) and (word := queue.word_on(name)):
        return State("queued", f"job {name}, {word}")
    return None


def _with_maps(cell: Cell, ended: State) -> State:
    """The state of a done cell whose raw maps are to be kept too."""
    folder = cell.folder
    if raw_maps.kept(folder, folder.stored(folder.metrics)):
        return ended
    if cell.trains and not folder.weights.exists():
        return State("skipped", "it is done; its weights, from which its raw maps would be predicted, are removed")
    return _busy(folder) or State("partial", "done but for its raw maps; predicts once more")


def of_another(cell: Cell) -> bool:
    """Whether what lies in the cell's folder was made under another identity, or is unfinished and does not say."""
    key = aside.key_of(cell.folder)
    return key != cell.key if key else cell.folder.checkpoint.exists()


def _partial(cell: Cell) -> State:
    if of_another(cell):
        return State("partial", "its checkpoint belongs to another configuration; moves that aside and starts over")
    if not cell.folder.log.exists():
        return State("partial", "log.jsonl is missing; resumes from its checkpoint")
    try:
        epochs = len(training_log.read(cell.folder.log))
    except (OSError, ValueError) as error:
        return State("partial", f"log.jsonl cannot be read ({error}); resumes from its checkpoint")
    return State("partial", f"{epochs} of {cell.recipe.epochs} epochs; resumes")


def stored(cell: Cell) -> State | None:
    """The state of a cell's stored result, whoever runs the cell anew: done, stale with the entries of the identity
    that differ, or failed where a file that the result needs is damaged; None where no result is stored."""
    folder = cell.folder
    if not folder.complete:
        return None
    metrics = folder.stored(folder.metrics)
    try:
        manifest.check_content(folder.metrics, metrics)
        old = metrics.get("identity")
    except manifest.Damaged:
        old = None
    if not isinstance(old, dict):
        return State("failed", f"{folder.metrics} is damaged; it is replaced by a new run")
    files = manifest.files_of(metrics)
    if damaged := manifest.faults(folder.path, files, manifest.NEEDED):
        return State("failed", f"{'; '.join(damaged)}; it is replaced by a new run")
    new = json.loads(json.dumps(cell.identity, default=list))
    compared = new["data"] is not None
    if not compared:  # not prepared as they are now: nothing speaks against the stored data but other classes
        old = old | {"data": None}
        if scored := folder.class_names:
            old["class names"], new["class names"] = list(scored), list(cell.weights.classes(cell))
    differences = differing(old, new)
    if differences:
        return State("stale", "; ".join(differences[:4]) + (" …" if len(differences) > 4 else ""))
    return State("done", "; ".join(filter(None, [removed(folder.path, files), "" if compared else UNKNOWN_DATA])))


def removed(folder: Path, files: dict[str, dict]) -> str:
    """What a complete run lacks, in words such as "weights, predictions removed"; "" when it lacks nothing.

    Args:
        files: as the run's metrics.json lists them.
    """
    words: dict[str, list[str]] = {"removed": [], "damaged": []}
    for fault in manifest.faults(folder, files, manifest.REMOVABLE):
        name = fault.partition(".")[0]
        words["removed" if fault.endswith(" is missing") else "damaged"].append(name)
    return "; ".join(f"{', '.join(names)} {what}" for what, names in words.items() if names)


def _text(path: Path) -> str:
    """The text of a file; "" when it is absent: its owner may have removed it in the meantime."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return ""
