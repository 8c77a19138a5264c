"""The training log of a run: a line of JSON per epoch. It is replaced as a whole, never appended to."""

import json
from pathlib import Path

from benchmark.runtime.files import atomic


def write(path: Path, epochs: list[dict]) -> None:
    """Write the log; whole or not at all."""
    with atomic(path, "w") as handle:
        handle.writelines(json.dumps(epoch) + "\n" for epoch in epochs)


def read(path: Path) -> list[dict]:
    """The epochs of a log, each with a whole number `epoch` counted from 0; [] when there is no log.

    Raises:
        ValueError: a line that is no epoch; OSError: the file cannot be read.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    return [_epoch(line, number) for number, line in enumerate(lines, 1) if line.strip()]


def _epoch(line: str, number: int) -> dict:
    epoch = json.loads(line)
    if not isinstance(epoch, dict) or not isinstance(epoch.get("epoch"), int):
        raise ValueError(f"line {number} is no epoch of a training log: expected an object with a whole 'epoch'")
    return epoch
