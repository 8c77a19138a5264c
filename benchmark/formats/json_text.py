"""The content of a JSON file of outlines, packed or not, and what is wrong with one that is no JSON."""

import json
from pathlib import Path

from benchmark.data.files import archive, text
from benchmark.formats import packed
from benchmark.runtime.errors import InputError


def read(path: Path):
    """The value that a file holds; of newline-delimited JSON, a list with the object of each line.

    Raises:
        InputError: unreadable, truncated, no JSON (with line and column), or an object that names a key twice.
    """
    content = packed.text_of(path)
    with archive.reading(path):
        try:
            return text.shallow(_value(content, path))
        except json.JSONDecodeError as error:
            lines = _by_line(content, path) if error.msg == "Extra data" else None
            if lines is not None:
                return text.shallow(lines)
            whole = content.rstrip()
            if error.pos >= len(whole) or not whole.endswith(("}", "]")):
                raise  # it ends early
            quoted = " (it has single quotes, as Python prints its objects)" if whole[error.pos] == "'" else ""
            raise InputError(
                f"{path}: expected JSON, found something else in line {error.lineno}, column {error.colno}: "
                f"{error.msg}{quoted}; correct it there, or write the file with a JSON library."
            ) from error


def _value(content: str, path: Path):
    return json.loads(content, object_pairs_hook=lambda pairs: _once(pairs, path))


def _by_line(content: str, path: Path) -> list[dict] | None:
    """The objects of a file with one in each line, None where a line holds anything else."""
    try:
        values = [_value(line, path) for line in content.split("\n") if line.strip()]
    except json.JSONDecodeError:
        return None
    return values if all(isinstance(value, dict) for value in values) else None


def _once(pairs: list[tuple], path: Path) -> dict:
    """An object of JSON, which may name a key twice; then the last one would be taken."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InputError(f"{path}: expected each name once, found '{twice}' twice in one object; correct it.")
    return content
