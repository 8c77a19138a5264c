"""Where compiled kernels are kept: built once per machine and user, found again by name and key.

Folder: `BENCHMARK_KERNEL_CACHE`, else `$XDG_CACHE_HOME` or `~/.cache` + `/nuclei-benchmark/kernels`, else (home not
writable) a folder of this user alone under the system's temporary folder.
"""

import hashlib
import os
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path


def cached(name: str, key: str, build: Callable[[], bytes]) -> Path:
    """Path of the compiled kernel `name` for `key`; `build()` makes its bytes where no folder holds it yet.

    Safe for many processes at once: each writes under a name of its own and renames, so a reader never sees half a
    file and the last writer wins with equal bytes. A folder that holds the file is used even when it is read-only.

    Args:
        name: file name such as "forward.cubin"; a digest of the key goes between its stem and its suffix.
        key: everything that the bytes depend on (source, architecture, compiler version, options …).
        build: makes the bytes; its exceptions pass through, and nothing is written then.

    Raises:
        OSError: no folder can be written, or `BENCHMARK_KERNEL_CACHE` is set and can be neither read nor written.
    """
    digest = hashlib.sha256(key.encode()).hexdigest()[:32]
    stem, suffix = os.path.splitext(name)
    file = f"{stem}-{digest}{suffix}"
    folders = _folders()
    for folder in folders:
        path = folder / file
        if path.is_file() and _own(folder):
            return path
    content = build()
    failures = []
    for folder in folders:
        try:
            return _write(folder, file, content)
        except OSError as error:
            failures.append(f"{folder}: {error.strerror or error}")
    raise OSError(
        f"the compiled kernel {file} can be kept nowhere ({'; '.join(failures)}); "
        "set BENCHMARK_KERNEL_CACHE to a folder that can be written"
    )


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


def _own(folder: Path) -> bool:
    """Whether nobody else could have put code there: the temporary folder's names are open to every user."""
    if not hasattr(os, "getuid") or "BENCHMARK_KERNEL_CACHE" in os.environ:
        return True
    state = folder.stat()
    return state.st_uid in (os.getuid(), 0) and not state.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _write(folder: Path, file: str, content: bytes) -> Path:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _own(folder):
        raise PermissionError("others may write there")
    handle, temporary = tempfile.mkstemp(prefix=f".{file}.", dir=folder)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
        os.replace(temporary, folder / file)
    except BaseException:
        os.unlink(temporary)
        raise
    return folder / file
