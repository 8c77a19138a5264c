"""An input that is damaged, and how it is read."""

import io
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmark.cli import main
from tests.support.fuzz.damage import Damage


@dataclass(frozen=True)
class Subject:
    """An input.

    Attributes:
        format: under which it is counted.
        path: the file to damage.
        ways: how.
        read: reads the file: returns the exit code of a command, or any value of a reader.
        again: the file read by another reader and written anew (see `again`); None where a hash of the content lies
            elsewhere, so that every damage must be refused, left out and named, or change nothing.
        written: what the command writes, which belongs to its result.
    """

    format: str
    path: Path
    ways: tuple[Damage, ...]
    read: Callable[[], object]
    again: Callable[[bytes], bytes] | None
    written: Path | None = None


def command(*words) -> Callable[[], object]:
    """A command of the program with these words."""
    return lambda: main([str(word) for word in words])


def anew(folder: Path, read: Callable[[], object]) -> Callable[[], object]:
    """`read`, for which a folder is emptied first."""

    def call():
        shutil.rmtree(folder, ignore_errors=True)
        return read()

    return call


def in_bytes(write: Callable) -> bytes:
    """What `write` puts into a file."""
    out = io.BytesIO()
    write(out)
    return out.getvalue()
