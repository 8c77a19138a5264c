"""Training logs as scalars for a live viewer.

What is written comes from the log, in a process that trains nothing: no viewer can change a bit of a training, nor end
it. What was written is kept in a file, so that a later call goes on after it.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmark.results import training_log
from benchmark.results.run import read_object
from benchmark.results.run_folder import RunFolder, run_folders
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import write_json

SCALARS = ("loss", "lr", "val_bPQ", "seconds")


class Tracker:
    """Writes each new epoch of every training log below a folder of results, once.

    Args:
        results: folder of results.
        writer: (name of a run, mark of its training) -> an object with write(values, step) and close(), such as those
            in `experiment.trackers`.
        written: file that keeps which epochs were written; it need not exist.

    Attributes:
        failed: whether a writer failed. The first failure is a line on stderr; what was not written is tried again.

    Raises:
        InputError: `written` is damaged.
    """

    def __init__(self, results: Path, writer: Callable, written: Path):
        self.results, self._writer, self._written = results, writer, written
        self._writers: dict = {}
        self._seen = _read(written)
        self._named: set[str] = set()  # runs with a damaged log, which are named once
        self.failed = False

    def update(self) -> int:
        """Epochs written by this call. A run that began anew is written again from its first epoch."""
        count = 0
        for name, lines in self._logs():
            mark = hashlib.sha256(f"{name} {json.dumps(lines[0])}".encode()).hexdigest()[:16]
            seen = self._seen.get(name, {})
            if seen.get("mark") != mark or len(lines) < seen["epochs"]:
                self._close(name)
                self._seen[name] = seen = {"mark": mark, "epochs": 0}
            for line in lines[seen["epochs"] :]:
                try:
                    if name not in self._writers:
                        self._writers[name] = self._writer(name, mark)
                    self._writers[name].write(_values(line), line["epoch"] + 1)
                    count, seen["epochs"] = count + 1, seen["epochs"] + 1
                    write_json(self._written, self._seen)
                except Exception as error:  # of another's package, which may raise anything
                    self._fail(name, error)
                    break
        return count

    def close(self) -> None:
        """End what the writers opened."""
        for name in list(self._writers):
            self._close(name)

    def _logs(self) -> Iterator[tuple[str, list[dict]]]:
        """(name of a run, its epochs), at least one, of all logs that can be read."""
        for folder in run_folders(self.results):
            name = folder.path.relative_to(self.results).as_posix()
            try:
                if lines := self._read_log(folder, name):
                    yield name, lines
            except (OSError, ValueError) as error:
                if name not in self._named:
                    print(f"skipped {folder.log}: {error}", file=sys.stderr)
                    self._named.add(name)

    def _read_log(self, folder: RunFolder, name: str) -> list[dict]:
        lines = training_log.read(folder.log)
        if len(lines) > self._seen.get(name, {"epochs": 0})["epochs"]:
            folder.check(folder.log)
        return lines

    def _close(self, name: str) -> None:
        if writer := self._writers.pop(name, None):
            try:
                writer.close()
            except Exception as error:
                self._fail(name, error)

    def _fail(self, name: str, error: Exception) -> None:
        if not self.failed:
            why = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"tracking {name} failed ({why}); trainings go on, and the next look tries again", file=sys.stderr)
        self.failed = True


def _values(line: dict) -> dict[str, float]:
    values = {k: line[k] for k in SCALARS if isinstance(line.get(k), int | float)}
    if isinstance(terms := line.get("terms"), dict):
        values |= {f"terms/{k}": v for k, v in terms.items() if isinstance(v, int | float)}
    if isinstance(of_sets := line.get("val_bPQ_of"), dict):  # of each of several data sets that are trained on
        values |= {f"val_bPQ/{k}": v for k, v in of_sets.items() if isinstance(v, int | float)}
    return values


def _read(path: Path) -> dict[str, dict]:
    """Name of a run -> {"mark": of its training, "epochs": written ones}; {} without a file."""
    if not path.exists():
        return {}
    try:
        seen = read_object(path)
        for one in seen.values():
            if not (isinstance(one["mark"], str) and isinstance(one["epochs"], int) and one["epochs"] >= 0):
                raise ValueError(f"it holds {one!r}")
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: expected what `track` has written, found another content ({error}); delete it, and all epochs "
            "are written again."
        ) from error
    return seen
