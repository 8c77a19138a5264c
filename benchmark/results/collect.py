"""Collects the complete runs below a results folder."""

import sys
from pathlib import Path

from benchmark.results.run import UNREADABLE, Run, skipped
from benchmark.results.run_folder import COMPACT, RunFolder
from benchmark.runtime.errors import InputError, near_miss
from benchmark.runtime.paths import as_called

NO_METRICS = "it has no metrics.json: it was removed, or the run is being made anew"


def runs(results: Path, stream=None) -> list[Run]:
    """All complete runs below `results`, in the order of their folders' names.

    Unfinished runs are left out silently; those whose metrics.json is gone, and foreign or damaged files, are named on
    `stream` (default stderr) and left out.

    Raises:
        InputError: `results` is a file.
    """
    out = []
    for folder in folders(results, stream):
        try:
            run = RunFolder(folder).read(stream)
        except UNREADABLE as error:
            skipped(folder, error, stream)
            continue
        if run is not None:
            out.append(run)
        elif RunFolder(folder).provenance.exists():  # it was stored once
            skipped(folder, NO_METRICS, stream)
    return out


def folders(results: Path, stream=None) -> list[Path]:
    """The folders of all runs below `results`, finished or not, sorted by name; what is foreign or in compact form is
    named on `stream` (default stderr) and left out.

    Raises:
        InputError: `results` is a file.
    """
    results, stream = Path(results), stream or sys.stderr
    if results.exists() and not results.is_dir():
        raise InputError(f"{results} is a file; expected the results folder. Move the file or name another folder.")
    level = [results] if results.exists() else []
    for _ in range(3):  # dataset, method, run
        level = [entry for folder in level for entry in _folders(folder, stream)]
    out = []
    for folder in level:
        if (folder / COMPACT).exists():
            skipped(
                folder, "a run in compact form; `python -m benchmark adopt` puts it into a folder of results", stream
            )
        else:
            out.append(folder)
    return out


def finished(folder: Path) -> Run:
    """The run in a folder. Raises InputError when none is finished there."""
    files = RunFolder(Path(folder).resolve())
    why = "no metrics.json there"
    try:
        if files.complete and (run := files.read()):
            return run
    except UNREADABLE as error:
        why = str(error)
    raise InputError(f"{files}: expected the folder of a finished run ({why}); name it, or finish the run.")


def no_runs(results: Path, complete: list[Run], dataset: str | None) -> str:
    """The sentence for a report without runs: there are no complete ones, or none of this dataset."""
    if not complete or dataset is None:
        return f"No complete runs in {results}; `{as_called('ablation')}` makes some."
    known = sorted({run.id.dataset for run in complete})
    hint = near_miss(dataset, known)
    return f"No complete runs of dataset '{dataset}' in {results}; there are runs of {', '.join(known)}.{hint}"


def _folders(folder: Path, stream) -> list[Path]:
    out: list[Path] = []
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        skipped(folder, error, stream)
        return out
    for entry in entries:
        if entry.name.startswith((".", "_", "README")):
            continue
        if entry.is_dir():
            out.append(entry)
        else:
            skipped(entry, "a file where a folder <dataset>/<method>/fold<k>-seed<s> was expected", stream)
    return out
