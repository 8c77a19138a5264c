"""Where compiled kernels are kept: built once per machine and user, found again by name and key.

Folder: `BENCHMARK_KERNEL_CACHE`, else `$XDG_CACHE_HOME` or `~/.cache` + `/nuclei-benchmark/kernels`, else (home not
writable) a folder of this user alone under the system's temporary folder. Kernels are code, so whichever folder it is,
nothing is loaded from it that another user could have put there: see `_fault`.
"""

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any


def cached(name: str, key: str, build: Callable[[], bytes], use: Callable[[Path], Any] = lambda path: path) -> Any:
    """What `use` makes of the compiled kernel `name` for `key` (its path); `build()` makes it where no folder holds it.

    Safe for many processes at once: each writes under a name of its own and renames, so a reader never sees half a
    file. The name ends in a digest of the content, so a damaged file is built again. A folder that holds the file is
    used even when it is read-only; one that `use` cannot work in (mounted without permission to execute) is passed by.

    Args:
        name: file name such as "forward.cubin"; digests of key and content go between its stem and its suffix.
        key: everything that the bytes depend on (source, architecture, compiler version, options …).
        build: makes the bytes; its exceptions pass through, and nothing is written then.
        use: what is done with the path; where it raises OSError the next folder is tried.

    Raises:
        OSError: no folder can be written and used, or `BENCHMARK_KERNEL_CACHE` is set and is no such folder, or one in
            which another user may write.
    """
    stem, suffix = os.path.splitext(name)
    start = f"{stem}-{_digest(key.encode())}-"
    folders = _folders()
    for folder in folders:
        for path in _intact(folder, start, suffix):
            try:
                return use(path)
            except OSError:
                continue  # said below, if no other folder does
    content = build()
    file = f"{start}{_digest(content)}{suffix}"
    failures = []
    for folder in folders:
        try:
            return use(_write(folder, file, content))
        except OSError as error:
            failures.append(f"{folder}: {error.strerror or error}")
    raise OSError(
        f"no folder for the compiled kernel {file} ({'; '.join(failures)}); "
        "set BENCHMARK_KERNEL_CACHE to a folder of your own that only you may write in (chmod go-w) and that can be "
        "executed from"
    )


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _intact(folder: Path, start: str, suffix: str) -> list[Path]:
    """The files of `folder` that begin and end so and hold what they held when they were written.

    Files that another user owns or may write are left out: their names fit whatever content that user chose.
    """
    try:
        folder = folder.resolve()
        if _fault(folder):
            return []
        names = sorted(n for n in os.listdir(folder) if n.startswith(start) and n.endswith(suffix))
        paths = [folder / n for n in names if not _file_fault(folder / n)]
        return [path for path in paths if path.name == f"{start}{_digest(path.read_bytes())}{suffix}"]
    except OSError:  # it is not there, or not for this user
        return []


def _folders() -> list[Path]:
    """Where to look and to write, best first."""
    if chosen := os.environ.get("BENCHMARK_KERNEL_CACHE"):
        return [Path(chosen).expanduser()]
    user = os.getuid() if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")
    folders = [Path(tempfile.gettempdir()) / f"nuclei-benchmark-kernels-{user}"]
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    if os.path.isabs(base):
        folders.insert(0, Path(base) / "nuclei-benchmark" / "kernels")
    return folders


def _fault(folder: Path) -> str:
    """Why another user could have put a file into a resolved folder, "" when none could.

    It must belong to this user or to root and be writable by its owner alone. A folder above it must not be writable by
    everybody, unless it is sticky as /tmp is: there the folder itself could be exchanged.
    """
    if not hasattr(os, "getuid"):
        return ""
    if fault := _owner_fault(folder.stat()):
        return fault
    for above in folder.parents:
        mode = above.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            return f"everybody may write in {above} above it"
    return ""


def _file_fault(path: Path) -> str:
    """The same of a file, which must be no link."""
    state = path.lstat()
    if not stat.S_ISREG(state.st_mode):
        return "it is no regular file"
    return _owner_fault(state) if hasattr(os, "getuid") else ""


def _owner_fault(state: os.stat_result) -> str:
    if state.st_uid not in (os.getuid(), 0):
        return f"it belongs to another user, number {state.st_uid}"
    if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        return f"others may write there, its mode is {stat.S_IMODE(state.st_mode):o}"
    return ""


def _write(folder: Path, file: str, content: bytes) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = folder.resolve()
    if fault := _fault(folder):
        raise PermissionError(fault)
    handle, temporary = tempfile.mkstemp(prefix=f".{file}.", dir=folder)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.replace(temporary, folder / file)
    except BaseException:
        os.unlink(temporary)
        raise
    return folder / file
