"""The files of a run as its metrics.json lists them: name, size, SHA-256, and whether a result needs them.

`needed` files (config.json, the records) make the result: without one of them the run is damaged. `removable` files
(weights, predictions, raw maps) may be deleted to save space; the run stays complete. Of log.jsonl and cost.json, which
hold times, the list lies in provenance.json, so that metrics.json is the same bytes whenever the run is repeated.

Runs stored before there were lists have none; of them nothing is compared.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from benchmark.runtime.errors import InputError
from benchmark.runtime.files import finite

NEEDED, REMOVABLE = "needed", "removable"
FILES, CHECKSUM = "files", "checksum"


class Damaged(InputError, ValueError):
    """A file whose content is not what the run wrote. The message is one sentence that names it."""


def entry(path: Path, kind: str) -> dict:
    """What is listed of a file: {"size": bytes, "sha256": hex digest, "kind": needed or removable}."""
    return {"size": path.stat().st_size, "sha256": digest(path), "kind": kind}


def listed(
    content: dict, needed: Iterable[Path] = (), removable: Iterable[Path] = (), absent: dict[str, dict] | None = None
) -> dict:
    """The content of a JSON file with the list of those files that exist and, for itself, a checksum.

    Args:
        absent: entries of files that exist no longer, listed too.
    """
    kinds = [*((path, NEEDED) for path in needed), *((path, REMOVABLE) for path in removable)]
    files = (absent or {}) | {path.name: entry(path, kind) for path, kind in kinds if path.is_file()}
    content = {key: value for key, value in content.items() if key != CHECKSUM} | {FILES: files}
    return content | {CHECKSUM: _checksum(content)}


def files_of(content: dict) -> dict[str, dict]:
    """File name -> entry, as listed in a JSON file's content; {} where it has no list."""
    files = content.get(FILES)
    if not isinstance(files, dict):
        return {}
    return {
        name: one for name, one in files.items() if isinstance(one, dict) and {"size", "sha256", "kind"} <= set(one)
    }


def check_content(path: Path, content: dict) -> None:
    """Compare the content of a JSON file with its checksum, where it has one. Raises Damaged when they differ."""
    if CHECKSUM in content and content[CHECKSUM] != _checksum(content, read=True):
        raise Damaged(f"{path}: its content is not what was written (its checksum differs); make the run anew.")


def check(path: Path, files: dict[str, dict]) -> None:
    """Compare a file with its entry, by size and hash. An unlisted file passes.

    Raises:
        Damaged: it is there and differs; OSError: it cannot be read.
    """
    known = files.get(path.name)
    if known and path.exists() and (path.stat().st_size != known["size"] or digest(path) != known["sha256"]):
        advice = "make the run anew" if known["kind"] == NEEDED else "delete it or make the run anew"
        raise Damaged(f"{path}: its content is not what the run wrote (SHA-256 differs); {advice}.")


def faults(folder: Path, files: dict[str, dict], kind: str) -> list[str]:
    """Files of a kind that are absent or of another size, such as "images.parquet is missing", by presence and size."""
    out = []
    for name, known in sorted(files.items()):
        path = folder / name
        if known["kind"] != kind:
            continue
        if not path.is_file():
            out.append(f"{name} is missing")
        elif path.stat().st_size != known["size"]:
            out.append(f"{name} has {path.stat().st_size} bytes instead of {known['size']}")
    return out


def digest(path: Path) -> str:
    """Hex SHA-256 of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _checksum(content: dict, read: bool = False) -> str:
    """Hex SHA-256 of a JSON file's content without its checksum.

    Args:
        read: it was read from JSON, so that its values are plain already; `finite` would take longer than all the rest.
    """
    rest = {key: value for key, value in content.items() if key != CHECKSUM}
    try:
        text = json.dumps(rest if read else finite(rest), sort_keys=True, allow_nan=False)
    except ValueError:  # Python reads NaN, which no run wrote
        text = json.dumps(finite(rest), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
