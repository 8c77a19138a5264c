"""Atomic files and folders: written under a temporary name beside the target, then renamed."""

import contextlib
import json
import os
import secrets
import shutil
from glob import escape
from pathlib import Path


def temporary_name(name: str, ending: str = "tmp") -> str:
    """A hidden name beside a file or folder that no other process chooses, on this machine or on one that shares it."""
    return f".{name}.{os.getpid()}-{secrets.token_hex(4)}.{ending}"


@contextlib.contextmanager
def atomic(path: Path, mode: str = "wb"):
    """Open `path` for writing under a temporary name; rename on success, remove on failure.

    Raises:
        OSError: the folder cannot be made or written; nothing is left behind.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(temporary_name(path.name))
    encoding = None if "b" in mode else "utf-8"
    try:
        with open(temporary, mode, encoding=encoding) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        _name(error, temporary, path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def _name(error: OSError, temporary: Path, path: Path) -> None:
    """Have an error name the file that is meant: a write that fails names none, others the temporary file."""
    if error.errno is not None and error.filename in (None, str(temporary)):
        error.filename, error.filename2 = str(path), None


@contextlib.contextmanager
def atomic_folder(path: Path):
    """A new folder under a temporary name, which takes the place of `path` and all in it on success only.

    Raises:
        OSError: it cannot be made or renamed; `path` is as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, old = (path.with_name(temporary_name(path.name, end)) for end in ("tmp", "old"))
    try:
        temporary.mkdir()
        yield temporary
        if path.exists():
            os.rename(path, old)
        os.rename(temporary, path)
    except OSError as error:
        _name(error, temporary, path)
        raise
    finally:
        for leftover in (temporary, old):
            shutil.rmtree(leftover, ignore_errors=True)


def sweep(folder: Path, name: str = "") -> None:
    """Remove what processes that were killed left half-written in a folder; only for who holds its lock.

    Args:
        name: the beginning of the files' names, "" for all.
    """
    for leftover in Path(folder).glob(f".{escape(name)}*.tmp"):
        if leftover.is_file():
            leftover.unlink()


def write_json(path: Path, value) -> None:
    """Write `value` as indented JSON with sorted keys; NaN is written as null."""
    with atomic(path, "w") as handle:
        json.dump(finite(value), handle, indent=1, sort_keys=True, allow_nan=False)
        handle.write("\n")


def read_json(path: Path):
    """Read JSON; null stays None.

    Raises:
        OSError, ValueError: absent or damaged; nested too deeply, or with a number beyond all floats.
    """
    with open(path, encoding="utf-8") as handle:
        try:
            return json.load(handle, parse_int=_whole)
        except RecursionError as error:
            raise ValueError("it is nested too deeply") from error


def _whole(text: str) -> int:
    if len(text) > 300:
        raise ValueError(f"it has a number of {len(text)} digits")
    return int(text)


def finite(value):
    """Plain Python values, with NaN and infinities as None: JSON has no word for them."""
    if isinstance(value, dict):
        return {str(k): finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if hasattr(value, "tolist"):
        return finite(value.tolist())
    if isinstance(value, float) and not (value == value and abs(value) != float("inf")):
        return None
    return value
