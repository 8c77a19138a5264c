"""Tables of measurements, written row by row: a run that is cut short keeps what it has measured."""

import csv
import math
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import torch


def commit() -> str:
    """Short hash of the commit that is checked out, "-dirty" behind it where files differ; "" outside a repository.

    The variable COMMIT goes before it: a copy of the files elsewhere may have the history of another commit.
    """
    if known := os.environ.get("COMMIT"):
        return known
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude", "*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def command() -> str:
    """The words that started this process."""
    return shlex.join(["python", *sys.argv])


class Rows:
    """Rows in a csv file, each written as it is added, with what is the same for all: GPU, versions, the command.

    Args:
        path: None: kept in `rows` alone.
        limit: seconds from now; then the time `is_up`, and the script should begin nothing else.
        facts: further columns that are the same for all rows.
    """

    def __init__(self, path: Path | None, columns: tuple[str, ...], limit: float = math.inf, **facts):
        self.until = time.monotonic() + limit
        self.path, self.columns, self.rows = path, columns, []
        self.facts = facts | {"torch": torch.__version__, "commit": commit(), "command": command()}

    @property
    def is_up(self) -> bool:
        return time.monotonic() > self.until

    def add(self, *values) -> None:
        self.rows.append(dict(zip(self.columns, values, strict=True)) | self.facts)
        if self.path:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            first = len(self.rows) == 1
            with self.path.open("w" if first else "a", newline="", encoding="utf-8") as file:
                out = csv.DictWriter(file, (*self.columns, *self.facts))
                if first:
                    out.writeheader()
                out.writerow(self.rows[-1])
