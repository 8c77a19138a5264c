"""Training logs for a live viewer: each epoch's numbers, once."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

SCALARS = ("loss", "lr", "val_bPQ", "seconds")


class Tracker:
    """Writes what is new in every log.jsonl below a folder of results.

    Args:
        results: folder of results.
        writer: name of a run -> an object with add_scalar(tag, value, step) and flush().
    """

    def __init__(self, results: Path, writer: Callable):
        self.results, self._writer = results, writer
        self._writers: dict = {}
        self._seen: dict[str, int] = {}
        self._named: set[str] = set()  # runs with a damaged log, said once

    def update(self) -> int:
        """Epochs written by this call. A run that began anew is written again from its first epoch."""
        written = 0
        for path in sorted(self.results.glob("*/*/*/log.jsonl")):
            name = path.parent.relative_to(self.results).as_posix()
            # a log is replaced as a whole, never appended to: every line is complete, or the file is damaged
            try:
                lines = [_epoch(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
            except (OSError, ValueError) as error:
                if name not in self._named:
                    print(f"skipped {path}: {error}", file=sys.stderr)
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
                terms = line.get("terms") if isinstance(line.get("terms"), dict) else {}
                values |= {f"terms/{k}": v for k, v in terms.items() if isinstance(v, int | float)}
                for tag, value in values.items():
                    self._writers[name].add_scalar(tag, value, line["epoch"] + 1)
            self._writers[name].flush()
            self._seen[name] = len(lines)
            written += len(new)
        return written


def _epoch(line: str) -> dict:
    """One line of a log. Raises ValueError when it is no epoch."""
    found = json.loads(line)
    if not isinstance(found, dict) or not isinstance(found.get("epoch"), int):
        raise ValueError(f"expected an object with a whole 'epoch', found {line[:60]}")
    return found
