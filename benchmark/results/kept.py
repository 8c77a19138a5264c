"""Runs that are committed in compact form: kept from a folder of results, and adopted into one."""

import contextlib
import io
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmark.results import compact
from benchmark.results.place import put
from benchmark.results.run import UNREADABLE, Run
from benchmark.results.run_folder import RunFolder
from benchmark.results.run_id import RunId
from benchmark.runtime.errors import InputError, near_miss

REFERENCE = "reference"  # docs/reference: what lies below it is counted together
REFERENCE_BYTES = 25_000_000


class Kept(NamedTuple):
    """What was done about one run.

    Attributes:
        run: its name.
        size: bytes of its folder.
        new: False where one of the same key was there and was left as it is.
        as_it_is: what could not be derived from the rest and is stored as it is.
    """

    run: RunId
    size: int
    new: bool
    as_it_is: list[str]


def chosen(
    complete: list[Run],
    dataset: str | None = None,
    kind: str | None = None,
    preset: str | None = None,
    methods: Sequence[str] | None = None,
) -> list[Run]:
    """Those of the runs that fit; None takes all.

    Args:
        preset: scale.
        methods: canonical names, or names of methods, which stand for all their rows.

    Raises:
        InputError: a method that none of the runs is of.
    """
    names = {name for run in complete for name in (run.id.method, run.id.method.partition("@")[0])}
    for method in methods or ():
        if method not in names:
            hint = near_miss(method, names)
            raise InputError(f"None of the finished runs is of method '{method}'; there are {sorted(names)}.{hint}")
    return [
        run
        for run in complete
        if dataset in (None, run.id.dataset)
        and kind in (None, run.id.kind)
        and preset in (None, run.scale)
        and (methods is None or {run.id.method, run.id.method.partition("@")[0]} & set(methods))
    ]


def keep(complete: list[Run], root: Path) -> Iterator[Kept]:
    """Write runs in compact form below `root`, one at a time; those that are there with the same key are left.

    Raises:
        InputError: a run of uncommitted code (before anything is written), a damaged run, or more bytes in all than
            REFERENCE_BYTES, counted over the folder `reference` that holds `root`, else over `root`.
    """
    root = Path(root)
    for run in complete:
        if run.provenance.get("dirty"):
            raise InputError(f"{run.folder} was made by uncommitted code; commit it and make the run anew.")
    counted = next((folder for folder in root.resolve().parents if folder.name == REFERENCE), root)

    def allow(folder: Path) -> None:
        total = compact.size(counted) - (compact.size(old) if (old := run.id.folder(root)).exists() else 0)
        if total > REFERENCE_BYTES:
            raise InputError(
                f"{counted} would hold {total / 1e6:.1f} MB with {run.id}; expected at most "
                f"{REFERENCE_BYTES / 1e6:g} MB. Keep fewer runs."
            )

    try:
        for run in complete:
            kept = run.id.folder(root)
            if _key(kept) == run.metrics.get("key", ""):
                yield Kept(run.id, compact.size(kept), False, [])
            else:
                size, as_it_is = compact.store(run, root, allow)
                yield Kept(run.id, size, True, as_it_is)
    finally:
        compact.sweep(root)


def _key(kept: Path) -> str | None:
    """The key of a kept run, None where there is none or it is damaged: it is kept anew."""
    try:
        return compact.check(kept).get("key")
    except InputError:
        return None


def adopt(paths: Sequence[Path], results: Path) -> Iterator[tuple[RunId, str]]:
    """Put the kept runs at and below `paths` into a folder of results, one at a time: each its name and "adopted",
    or why what lies there was left alone.

    Raises:
        InputError: a path without kept runs, or a damaged one (before anything is written).
    """
    named = [(kept, compact.identity(kept)) for path in paths for kept in compact.kept_runs(path)]
    for kept, _ in named:
        compact.check(kept)
    for kept, identity in named:
        yield identity, _adopt(kept, RunFolder(identity.folder(results)))


def _adopt(kept: Path, target: RunFolder) -> str:
    key = compact.check(kept).get("key")
    return put(
        target, lambda folder: compact.unpack(kept, folder, str(kept)), lambda: _occupied(target, key), "adopted"
    )


def _occupied(target: RunFolder, key: str | None) -> str:
    """Why what lies in a run's folder must not be replaced; "" when it may be."""
    if target.checkpoint.exists():
        return "left alone: an unfinished run lies there; continue it, or delete it and adopt again"
    try:
        run = target.read(io.StringIO())
    except UNREADABLE:
        return ""
    if run is None:
        return ""
    return "left alone: it is finished there" + ("" if run.metrics.get("key") == key else " under another key")


@contextlib.contextmanager
def unpacked(*roots: Path) -> Iterator[Path]:
    """The kept runs below the roots as one folder of results, for as long as the context lasts.

    Raises:
        InputError: a root without kept runs, a damaged one, or one that stands below two roots.
    """
    with tempfile.TemporaryDirectory() as results:
        for kept in (kept for root in roots for kept in compact.kept_runs(root)):
            folder = compact.identity(kept).folder(Path(results))
            if folder.exists():
                raise InputError(f"{kept}: is kept a second time, below {' and '.join(map(str, roots))}; remove one.")
            folder.mkdir(parents=True)
            compact.unpack(kept, folder)
        yield Path(results)
