"""Results of several machines in one folder: finished runs are copied, and two of one name are compared first.

A run that several folders have is kept once where the numbers are the same bits. Where they are not, or the identities
differ, all are named with their hardware and none is chosen. The folders that runs come from are only read.
"""

import contextlib
import io
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import filelock
import numpy as np

from benchmark.metrics.records import TABLES
from benchmark.results import aside, collect, compact_records, manifest
from benchmark.results.identity import differing
from benchmark.results.place import put
from benchmark.results.run import UNREADABLE, Run, words
from benchmark.results.run_folder import STALE, RunFolder
from benchmark.results.run_id import RunId
from benchmark.results.verify import verify
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import atomic

MERGED, SAME, UNFINISHED = "merged", "the same there", "unfinished"
REFUSED = OTHER_NUMBERS, OTHER_IDENTITY, DAMAGED, OCCUPIED = "other numbers", "other identity", "damaged", "left alone"
SHOWN = 3  # differences that a sentence names


class Outcome(NamedTuple):
    """What was done about the runs of one name.

    Attributes:
        run: their name; of a folder that has no run's name, its path below the folder of results.
        what: MERGED, SAME, UNFINISHED, or one of REFUSED: a finished run was not taken.
        why: the same in a sentence.
    """

    run: str
    what: str
    why: str


def merge(paths: Sequence[Path], results: Path) -> Iterator[Outcome]:
    """Copy the finished runs below `paths` into a folder of results, one at a time.

    Args:
        paths: folders of results; nothing in them is changed.

    Raises:
        InputError: a path that is no folder, that holds no run or is the folder of results itself (before anything is
            written).
    """
    copies: dict[str, list[RunFolder]] = {}
    for path in dict.fromkeys(Path(path).resolve() for path in paths):
        _check(path, Path(results).resolve())
        below = collect.folders(path)
        if not below:
            raise InputError(f"{path}: expected a folder of results with runs in <dataset>/<method>/<run>, found none.")
        if (path / STALE).is_dir():
            collect.skipped(path / STALE, "what was moved aside is not merged")
        for folder in below:
            copies.setdefault(folder.relative_to(path).as_posix(), []).append(RunFolder(folder))
    for name, folders in sorted(copies.items()):
        yield from _merge(name, folders, RunFolder(Path(results) / name))


def _check(path: Path, results: Path) -> None:
    if not path.is_dir():
        raise InputError(f"{path}: expected a folder of results, found none there; name the folder of another machine.")
    if results.is_relative_to(path) or path.is_relative_to(results):
        raise InputError(f"{path}: expected results of another machine, it is (a part of) {results}; set --results.")


def _merge(name: str, folders: list[RunFolder], target: RunFolder) -> Iterator[Outcome]:
    """The outcomes of the runs in folders of one name."""
    with contextlib.suppress(ValueError):
        name = str(RunId.of(target.path))
    runs = []
    for folder in folders:
        if why := _unfinished(folder):
            yield Outcome(name, UNFINISHED, f"left out: {folder}: {why}")
            continue
        run, why = _whole(folder)
        if run is not None:
            runs.append(run)
        elif why:
            yield Outcome(name, DAMAGED, f"left out: it is damaged: {why}")
    if not runs:
        return
    there, _ = _whole(target)
    everything = [there, *runs] if there else runs
    for what, compared in ((OTHER_IDENTITY, _other_identity), (OTHER_NUMBERS, _other_numbers)):
        if differences := _first([compared(everything[0], run) for run in everything[1:]]):
            yield Outcome(name, what, _conflict(what, differences, everything, there is not None))
            return
    if there:
        yield Outcome(name, SAME, f"left alone: it is finished there with the same numbers{_fill_in(target, runs)}")
        return
    done = f"merged from {runs[0].folder}"
    why = put(target, lambda folder: _copy(runs[0], folder), lambda: _occupied(target, runs[0]), done)
    if not why.startswith(done):
        yield Outcome(name, OCCUPIED, why)
        return
    yield Outcome(name, MERGED, why + _fill_in(target, runs[1:]))


def _first(texts: list[str]) -> str:
    return next((text for text in texts if text), "")


def _conflict(what: str, differences: str, runs: list[Run], is_there: bool) -> str:
    where = "; ".join(f"{run.folder} ({words(run.provenance.get('hardware')) or 'hardware unknown'})" for run in runs)
    chosen = "left alone" if is_there else "none is taken"
    advice = "move the others away and merge again" if what == OTHER_NUMBERS else "`status` says which is stale"
    return f"{chosen}: {what} ({differences}): {where}; {advice}"


def _unfinished(folder: RunFolder) -> str:
    """Why there is no finished run in a folder that is merged, or it must not be read yet; "" where there is one."""
    if folder.held():
        owner = folder.owner.read_text(encoding="utf-8").strip() if folder.owner.exists() else "unknown"
        return f"it is running there (owner {owner})"
    if folder.complete:
        return ""
    if folder.leaving.exists():
        return "it is being moved aside there"
    if folder.queued_as:
        return f"it is queued there as {folder.queued_as}"
    if folder.failed.exists():
        lines = folder.failed.read_text(encoding="utf-8", errors="replace").split("\n")
        return f"it failed there ({next((line for line in reversed(lines) if line.strip()), 'no reason was kept')})"
    if folder.checkpoint.exists():
        return "partial: its training has not ended"
    return collect.NO_METRICS if folder.provenance.exists() else "not run there, or it began and did not end"


def _whole(folder: RunFolder) -> tuple[Run | None, str]:
    """(the finished run in a folder, "") with every listed file compared, or (None, what is damaged)."""
    if not folder.complete:
        return None, ""
    try:
        verdict = verify(folder)
        if verdict.name == "damaged":
            return None, f"{folder}: {verdict.why}"
        run = folder.read(io.StringIO())
        if run is not None and verdict.name == "unlisted":
            run.records()
    except UNREADABLE as error:
        return None, f"{folder}: {error}"
    return run, ""


def _occupied(target: RunFolder, run: Run) -> str:
    """Why what lies in a run's folder must not be replaced by `run`; "" when it may be.

    An unfinished run of the same identity would end in the same result: it may be.
    """
    if _whole(target)[0]:
        return "left alone: it was finished there meanwhile; merge again"
    unfinished = target.checkpoint.exists() and not target.complete
    if unfinished and aside.key_of(target) != aside.key_of(RunFolder(run.folder)):
        return "left alone: an unfinished run of another identity lies there; continue it, or delete it and merge again"
    return ""


def _copy(run: Run, folder: Path) -> None:
    """Copy a finished run's files, and what else was put beside them; what an unfinished one leaves stays behind."""
    source = RunFolder(run.folder)
    for path in source.left:
        if path.is_dir():
            shutil.copytree(path, folder / path.name)
        elif path not in (source.checkpoint, source.next_weights, source.failed) and not path.name.startswith("."):
            shutil.copyfile(path, folder / path.name)


def _other_identity(a: Run, b: Run) -> str:
    """Where two runs' identities differ, in words; "" where they are the same."""
    old, new = a.metrics.get("identity"), b.metrics.get("identity")
    if isinstance(old, dict) and isinstance(new, dict):
        return _listed(differing(old, new))
    keys = a.metrics.get("key"), b.metrics.get("key")
    return "" if keys[0] == keys[1] else f"key: {keys[0]} -> {keys[1]}"


def _other_numbers(a: Run, b: Run) -> str:
    """Where two runs of one identity differ in what decides a result, in words; "" where all bits are the same.

    These are the scores, the content of the records, and the predictions where both have them. Scores of a protocol
    that two versions of it computed are not compared, nor is what depends on a machine: cost and provenance.
    """
    old, new = _numbers(a), _numbers(b)
    for name in old["protocols"].keys() & new["protocols"].keys():
        if old["protocols"][name].get("version") != new["protocols"][name].get("version"):
            del old["protocols"][name], new["protocols"][name]
    differences = differing(old, new)
    try:
        for name in TABLES:
            if _digest(a, f"{name}.parquet") != _digest(b, f"{name}.parquet"):
                tables = [getattr(run.records(), name) for run in (a, b)]
                if compact_records.digest(tables[0]) != compact_records.digest(tables[1]):
                    differences.append(f"{name} of the records")
        paths = [RunFolder(run.folder).predictions for run in (a, b)]
        if all(path.exists() for path in paths) and _digest(a, paths[0].name) != _digest(b, paths[1].name):
            if not _same_arrays(*paths):
                differences.append("predictions")
    except (*UNREADABLE, zipfile.BadZipFile) as error:
        differences.append(f"a file that cannot be read ({error})")
    return _listed(differences)


def _numbers(run: Run) -> dict:
    own = {key: value for key, value in run.metrics.items() if key not in (manifest.FILES, manifest.CHECKSUM)}
    return own | {"protocols": dict(run.metrics["protocols"])}


def _digest(run: Run, name: str) -> str:
    known = manifest.files_of(run.metrics).get(name)
    return known["sha256"] if known else manifest.digest(run.folder / name)


def _same_arrays(a: Path, b: Path) -> bool:
    """Whether two npz files hold the same arrays: another version of zlib packs them otherwise."""
    with np.load(a, allow_pickle=False) as one, np.load(b, allow_pickle=False) as two:
        return sorted(one) == sorted(two) and all(np.array_equal(one[name], two[name]) for name in one)


def _listed(differences: list[str]) -> str:
    return "; ".join(differences[:SHOWN]) + (" …" if len(differences) > SHOWN else "")


def _fill_in(target: RunFolder, runs: list[Run]) -> str:
    """Copy files that were removed from a finished run out of other copies of it; what was done, in words.

    A file is taken only where it is the one that the run lists: weights of another training are others, even where
    the scores are equal.
    """
    listed, of_copies = target.files, [(run.folder, RunFolder(run.folder).files) for run in runs]
    lacking = [name for name in listed if not (target.path / name).exists()]
    out = []
    for folder, files in of_copies:
        if more := [name for name in files if name not in listed and (folder / name).exists()]:
            out.append(f"; {', '.join(more)} of {folder} is no part of it")
    if not lacking:
        return "".join(out)
    try:
        with target.lock().acquire(timeout=0.1):
            target.sweep()
            for name in lacking:
                having = [(folder, files.get(name)) for folder, files in of_copies if (folder / name).exists()]
                fitting = [folder for folder, entry in having if entry and entry["sha256"] == listed[name]["sha256"]]
                if fitting:
                    with open(fitting[0] / name, "rb") as stream, atomic(target.path / name) as copy:
                        shutil.copyfileobj(stream, copy)
                    out.append(f"; {name}, which was removed there, is taken from {fitting[0]}")
                elif having:
                    out.append(f"; {name} was removed there, that of {having[0][0]} is another")
    except filelock.Timeout:
        out.append("; what was removed is not filled in: it is running there")
    return "".join(out)
