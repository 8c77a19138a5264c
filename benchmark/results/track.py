"""Training logs as scalars for a live viewer."""

import sys
from collections.abc import Callable
from pathlib import Path

from benchmark.results import training_log
from benchmark.results.run_folder import run_folders

SCALARS = ("loss", "lr", "val_bPQ", "seconds")


class Tracker:
    """Writes each new epoch of every training log below a folder of results, once.

    Args:
        results: folder of results.
        writer: name of a run -> an object with add_scalar(tag, value, step) and flush().
    """

    def __init__(self, results: Path, writer: Callable):
        self.results, self._writer = results, writer
        self._writers: dict = {}
        self._seen: dict[str, int] = {}
        self._named: set[str] = set()  # runs with a damaged log, which are named once

    def update(self) -> int:
        """Epochs written by this call. A run that began anew is written again from its first epoch."""
        written = 0
        for folder in run_folders(self.results):
            name = folder.path.relative_to(self.results).as_posix()
            try:
                lines = training_log.read(folder.log)
                if len(lines) > self._seen.get(name, 0):
                    folder.check(folder.log)
            except (OSError, ValueError) as error:
                if name not in self._named:
                    print(f"skipped {folder.log}: {error}", file=sys.stderr)
                    self._named.add(name)
                continue
            if len(lines) < self._seen.get(name, 0):
                self._seen[name] = 0
            new = lines[self._seen.get(name, 0) :]
            if not new:
                continue
            if name not in self._writers:
                self._writers[name] = self._writer(name)
            for line in new:
                values = {k: line[k] for k in SCALARS if isinstance(line.get(k), int | float)}
                if isinstance(terms := line.get("terms"), dict):
                    values |= {f"terms/{k}": v for k, v in terms.items() if isinstance(v, int | float)}
                for tag, value in values.items():
                    self._writers[name].add_scalar(tag, value, line["epoch"] + 1)
            self._writers[name].flush()
            self._seen[name] = len(lines)
            written += len(new)
        return written
