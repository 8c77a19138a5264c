"""What tables need of runs' records, kept between two calls: a grid of thousands is read once, not at each table.

Beside the tables, in `_scores/`, lie Parquet files of the frames of all runs, each with its hash. A frame is known by
the key of its run, the hashes of its records and a hash of the code that computes scores: after a change of one of them
it is computed anew. Runs that do not list their files are read each time. The folder may be deleted at any time.
"""

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.metrics import records as records_module
from benchmark.metrics.records import TABLES, Records
from benchmark.results import manifest
from benchmark.results.run import Run, read_object, skipped
from benchmark.runtime.files import atomic, write_json

FOLDER, KEY = "_scores", "_key"


class Store:
    """Frames derived from records, by run and name.

    Args:
        out: folder of the tables; None: nothing is kept on disk.
    """

    def __init__(self, out: Path | None = None):
        self._folder = None if out is None else Path(out) / FOLDER
        self._frames: dict[str, dict[str, pd.DataFrame]] = {}  # name -> key -> frame
        self._new: set[str] = set()  # names with frames that are not on disk
        self._read: tuple[Path, Records] | None = None

    def of(self, run: Run, name: str, compute: Callable[[Records], pd.DataFrame]) -> pd.DataFrame:
        """`compute(run.records())`, or the frame of that name which an earlier call computed.

        Args:
            name: what is computed, a stem of a file; all frames of one name have the same columns.

        Raises:
            One of UNREADABLE: the records are damaged.
        """
        key = _key(run)
        known = self._known(name)
        if key not in known:
            frame = compute(self._records(run)).reset_index(drop=True)
            if key is None:
                return frame
            known[key] = frame
            self._new.add(name)
        return known[key]

    def lacks(self, run: Run, name: str) -> bool:
        """Whether `of` would read the run's records and keep the frame."""
        key = _key(run)
        return key is not None and key not in self._known(name)

    def frames(self, run: Run) -> dict[str, pd.DataFrame]:
        """Name -> frame of what is known of a run; {} of one that does not list its files."""
        key = _key(run)
        return {name: known[key] for name, known in self._frames.items() if key in known}

    def add(self, run: Run, frames: dict[str, pd.DataFrame]) -> None:
        """Frames of a run that another store computed, see `frames`."""
        for name, frame in frames.items():
            self._known(name)[_key(run)] = frame
            self._new.add(name)

    def save(self) -> None:
        """Write the frames that are not on disk yet."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        for name in sorted(self._new if self._folder else ()):
            frames = self._frames[name]
            whole = pd.concat(frames.values(), ignore_index=True)
            whole[KEY] = np.repeat(list(frames), [len(frame) for frame in frames.values()])
            table = pa.Table.from_pandas(whole, preserve_index=False)
            with atomic(self._path(name)) as handle:
                pq.write_table(table, handle, compression="zstd")
            write_json(self._list(name), manifest.listed({}, removable=[self._path(name)]))
        self._new.clear()

    def _records(self, run: Run) -> Records:
        """The run's records; those of the last run are remembered, for its next frame."""
        if self._read is None or self._read[0] != run.folder:
            self._read = run.folder, run.records()
        return self._read[1]

    def _known(self, name: str) -> dict:
        if name not in self._frames:
            self._frames[name] = self._load(name) if self._folder else {}
        return self._frames[name]

    def _load(self, name: str) -> dict[str, pd.DataFrame]:
        """Key -> frame, as `save` wrote them; {} where they are absent or damaged."""
        import pyarrow.parquet as pq

        path = self._path(name)
        if not path.is_file():
            return {}
        try:
            listed = read_object(self._list(name))
            manifest.check_content(self._list(name), listed)
            if path.name not in manifest.files_of(listed):
                raise ValueError(f"{self._list(name).name} does not list it")
            manifest.check(path, manifest.files_of(listed))
            with pq.ParquetFile(path) as file:
                whole = file.read().to_pandas()
            keys = whole.pop(KEY).to_numpy()
        except Exception as error:  # pyarrow and pandas stumble over damaged bytes in any way
            skipped(path, f"its frames are computed anew ({error!s:.200})")
            return {}
        starts = np.flatnonzero(np.append(True, keys[1:] != keys[:-1])) if len(keys) else np.zeros(0, np.int64)
        frames = split(whole, np.diff(np.append(starts, len(keys))).tolist())
        return dict(zip(keys[starts].tolist(), frames, strict=True))

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}-{_code()}.parquet"

    def _list(self, name: str) -> Path:
        """The file with the hash of `_path`."""
        return self._path(name).with_suffix(".json")


def split(whole: pd.DataFrame, lengths: list[int]) -> list[pd.DataFrame]:
    """Frames of these lengths, one after the other, each with an index from 0 on."""
    ends = np.cumsum(lengths)
    whole = whole.set_axis(np.arange(len(whole)) - np.repeat(ends - lengths, lengths))
    return [whole.iloc[end - length : end] for end, length in zip(ends.tolist(), lengths, strict=True)]


def _key(run: Run) -> str | None:
    """What a run's frames are known by: a hash of its key and its records' hashes; None where it lists no files."""
    files = manifest.files_of(run.metrics)
    known = [files.get(f"{table}.parquet") for table in TABLES]
    if not all(known):
        return None
    words = [str(run.metrics.get("key")), str(run.config["classes"]), *(entry["sha256"] for entry in known if entry)]
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:32]


@functools.cache
def _code() -> str:
    """12 hex digits that change with the code of `benchmark.metrics`."""
    folder = Path(records_module.__file__).parent
    content = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        content.update(path.read_bytes())
    return content.hexdigest()[:12]
