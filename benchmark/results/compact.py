"""A run in compact form, as it is committed: its JSON files and log, its own tables, and the shared ones beside it.

Layout below a root folder, such as `docs/reference/embedded/runs`:

    <dataset>/<method>/<run>/compact.json       what lies here: files with their hashes, which shared tables, digests
                             config.json, …     as the run wrote them; log and metrics as .gz in a large one
                             images.parquet, …  the run's own tables, see `results.compact_records`
    _truth/<12 hex>/                            tables that all runs on the same test images share, named by content

A run whose records cannot be stored so keeps its three tables as they are. Unpacking compares hashes first and the
content of the rebuilt tables last, so a damaged kept run is named and never read.
"""

import gzip
import re
import shutil
from collections.abc import Callable
from pathlib import Path

from benchmark.metrics.records import TABLES, Records
from benchmark.results import compact_records, manifest
from benchmark.results.run import UNREADABLE, Run, checked, read_object
from benchmark.results.run_folder import COMPACT, RunFolder
from benchmark.results.run_id import RunId
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import atomic_folder, write_json

TRUTH = "_truth"
RUN_BYTES = 150_000  # what a kept run may take; long text is compressed above that
TRUTH_TABLES = ("images", "nuclei")


def kept_runs(folder: Path) -> list[Path]:
    """Folders of the kept runs at and below `folder`, sorted by name. Raises InputError when there is none."""
    out = sorted(path.parent for path in Path(folder).rglob(COMPACT))
    if not out:
        raise InputError(f"{folder}: expected a folder with runs that `keep` wrote, found no {COMPACT} in it.")
    return out


def identity(kept: Path) -> RunId:
    """The name of a kept run, from its path. Raises InputError when it is no path of a run."""
    try:
        return RunId.of(kept.resolve())
    except ValueError as error:
        raise _damaged(kept, error) from error


def size(folder: Path) -> int:
    """Bytes of all files at and below a folder."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def store(run: Run, root: Path, allow: Callable[[Path], None]) -> tuple[int, list[str]]:
    """Write a run in compact form, in place of one that is there.

    Args:
        root: folder that holds the data sets' folders.
        allow: called with the finished folder before it takes its place; raises to refuse it.

    Returns:
        (bytes of the kept run, what could not be derived and is stored as it is).

    Raises:
        InputError: a file of the run is damaged.
    """
    source = RunFolder(run.folder)
    source.check(*source.kept)
    try:
        records = run.records()
    except UNREADABLE as error:
        raise InputError(f"{source}: its records cannot be read ({error}); make the run anew.") from error
    with atomic_folder(run.id.folder(root)) as folder:
        for path in source.kept:
            if path.is_file() and path.suffix != ".parquet":
                shutil.copyfile(path, folder / path.name)
        content: dict = {"form": compact_records.FORM, "key": run.metrics.get("key")}
        try:
            packed = compact_records.pack(records)
            for name, table in packed.own.items():
                compact_records.write(folder / f"{name}.parquet", table)
            content |= {"truth": _store_truth(packed.truth, root), "as_it_is": packed.kept}
            content |= {"tables": {name: compact_records.digest(getattr(records, name)) for name in TABLES}}
        except compact_records.NotCompact as error:
            for path in source.records:
                shutil.copyfile(path, folder / path.name)
            content |= {"truth": None, "as_it_is": [f"all tables: {error}"]}
        _describe(folder, content)
        for path in (RunFolder(folder).log, RunFolder(folder).metrics):
            if size(folder) > RUN_BYTES and path.is_file():
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))
                path.unlink()
                _describe(folder, content)
        total = size(folder)
        allow(folder)
    return total, content["as_it_is"]


def _describe(folder: Path, content: dict) -> None:
    files = sorted(path for path in folder.iterdir() if path.name != COMPACT)
    write_json(folder / COMPACT, manifest.listed(content, needed=files))


def _store_truth(truth: compact_records.Frames, root: Path) -> str:
    name = _truth_name(truth)
    folder = root / TRUTH / name
    if not folder.is_dir():
        with atomic_folder(folder) as temporary:
            for table, frame in truth.items():
                compact_records.write(temporary / f"{table}.parquet", frame)
    _truth(folder)
    return name


def _shared(kept: Path, content: dict) -> Path:
    """Folder of the shared tables of a kept run with this compact.json. Raises ValueError where it names none."""
    name = str(content["truth"])
    if not re.fullmatch("[0-9a-f]{12}", name):
        raise ValueError(f"{COMPACT} names shared tables '{name}', expected 12 hex digits")
    return kept.resolve().parents[2] / TRUTH / name


def _truth_name(truth: compact_records.Frames) -> str:
    return compact_records.digest(*(truth[table] for table in TRUTH_TABLES))[:12]


def _truth(folder: Path) -> compact_records.Frames:
    """Shared tables. Raises ValueError when they are absent, damaged or not those of the folder's name."""
    truth = compact_records.read(folder, TRUTH_TABLES)
    if _truth_name(truth) != folder.name:
        raise ValueError(f"the content of {folder} is not that of its name")
    return truth


def sweep(root: Path) -> None:
    """Remove shared tables that no kept run names; none while the compact.json of one cannot be read."""
    try:
        used = {read_object(path).get("truth") for path in root.rglob(COMPACT)}
    except ValueError:
        return
    for folder in (root / TRUTH).glob("[0-9a-f]*"):
        if folder.name not in used:
            shutil.rmtree(folder)


def check(kept: Path) -> dict:
    """Compare the files of a kept run with their hashes; returns the content of its compact.json.

    Raises:
        InputError: a file is absent or damaged, or it is of a newer form.
    """
    try:
        content = read_object(kept / COMPACT)
        manifest.check_content(kept / COMPACT, content)
        files = manifest.files_of(content)
        known = {path.name for path in RunFolder(kept).kept}
        if not files or not {name.removesuffix(".gz") for name in files} <= known:
            raise ValueError(f"{COMPACT} lists {sorted(files)}, expected the files of a run")
        for name in sorted(files):
            if not (kept / name).is_file() or manifest.entry(kept / name, manifest.NEEDED) != files[name]:
                raise ValueError(f"{name} is missing or not what was kept")
        if content["form"] > compact_records.FORM:
            raise ValueError(f"it is of form {content['form']}, this code reads up to {compact_records.FORM}")
        if content["truth"] is not None:
            _truth(_shared(kept, content))
        return content
    except manifest.Damaged as error:
        raise _damaged(kept, f"{COMPACT} is not what was kept") from error
    except UNREADABLE as error:
        raise _damaged(kept, error) from error


def unpack(kept: Path, target: Path, origin: str = "") -> None:
    """Rebuild a kept run in an empty folder; weights and predictions stay absent, and listed.

    Args:
        origin: where provenance and card say that the run was adopted from; "" leaves the provenance as it is, without
            a card.

    Raises:
        InputError: a damaged kept run, or one that lies where no run of its name does.
    """
    content = check(kept)
    folder = RunFolder(target)
    for path in [kept / name for name in manifest.files_of(content)]:
        if path.suffix == ".gz":
            (target / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        elif path.suffix != ".parquet" or content["truth"] is None:
            shutil.copyfile(path, target / path.name)
    try:
        metrics = read_object(folder.metrics)
        config = read_object(folder.config)
        checked(identity(kept), config, metrics)
        if content["truth"] is not None:
            _records(kept, content).save(target)
        cost, provenance = (read_object(path) if path.is_file() else {} for path in (folder.cost, folder.provenance))
    except (*UNREADABLE, IndexError) as error:
        raise _damaged(kept, error) from error
    if origin:
        folder.describe(config, metrics, cost, provenance | {"adopted": True, "adopted_from": origin})
    absent = {name: one for name, one in manifest.files_of(metrics).items() if one["kind"] == manifest.REMOVABLE}
    write_json(folder.metrics, manifest.listed(metrics, [folder.config, *folder.records], absent=absent))


def _records(kept: Path, content: dict) -> Records:
    """Raises ValueError when the rebuilt tables are not those that were kept."""
    truth = _truth(_shared(kept, content))
    tables = compact_records.unpack(truth, compact_records.read(kept, TABLES))
    for name in TABLES:
        if compact_records.digest(tables[name]) != content["tables"][name]:
            raise ValueError(f"its table of {name} does not come out as it was kept")
    return Records(**tables)


def _damaged(kept: Path, why) -> InputError:
    return InputError(
        f"{kept}: this kept run is damaged ({why}); restore it from the repository or keep the run again."
    )
