"""A result that another takes the place of is moved aside, never deleted.

It goes to `<results>/_stale/<dataset>/<method>/<run>-<its key>`, file by file: the folder itself stays, with the lock
that this process holds. Where it goes is written down first, so that after a kill at any moment the next attempt
finishes the move; until then the folder counts as one without a result.
"""

import re
import shutil
from pathlib import Path

from benchmark.results import identity
from benchmark.results.run_folder import STALE, RunFolder
from benchmark.runtime.errors import InputError
from benchmark.runtime.files import atomic


def key_of(folder: RunFolder) -> str | None:
    """The key of what lies in a folder: of its result, else of its unfinished run; None where neither says it."""
    metrics = folder.stored(folder.metrics)
    key = metrics.get("key") or (identity.key(metrics["identity"]) if isinstance(metrics.get("identity"), dict) else "")
    key = key or folder.stored(folder.config).get("key")
    return key if isinstance(key, str) and re.fullmatch(r"[0-9a-f]{1,64}", key) else None


def move(folder: RunFolder) -> Path:
    """Move all that a run left in its folder aside, and return where to; only for who holds the lock."""
    *_, dataset, method, run = folder.path.parts
    beside = folder.path.parents[2] / STALE / dataset / method
    stem, number = f"{run}-{key_of(folder) or 'unknown'}", 1
    target = beside / stem
    while target.exists():
        number += 1
        target = beside / f"{stem}-{number}"
    with atomic(folder.leaving, "w") as handle:
        handle.write(target.name)
    return finish(folder)


def finish(folder: RunFolder) -> Path:
    """Go on with a move that `move` began, and return where to; only for who holds the lock.

    Raises:
        InputError: the file that says where to is damaged.
    """
    *_, dataset, method, run = folder.path.parts
    name = folder.leaving.read_text(encoding="utf-8")
    if not re.fullmatch(rf"{re.escape(run)}-\w+(-\d+)?", name):
        raise InputError(f"{folder.leaving} is damaged; move what lies beside it away by hand, and delete it.")
    target = folder.path.parents[2] / STALE / dataset / method / name
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(folder.left, key=lambda path: path == folder.metrics):  # last, what makes a folder a result
        shutil.move(path, target / path.name)
    folder.leaving.unlink()
    return target
