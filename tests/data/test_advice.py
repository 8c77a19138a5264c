"""Every sentence of a data reader on bad input ends with what to do about it."""

import ast
from pathlib import Path

import pytest

import benchmark.data

ROOT = Path(benchmark.data.__file__).parent


def _sentences(path: Path):
    """(line, text) of each InputError with a text of its own; a placeholder stands as {}."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "InputError" and node.args:
            parts = getattr(node.args[0], "values", [node.args[0]])
            yield node.lineno, "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in parts)


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_what_was_expected_and_found_is_followed_by_advice(path):
    bare = [(line, text) for line, text in _sentences(path) if "found" in text]
    bare = [(line, text) for line, text in bare if not {";", ":"} & {*text.rpartition("found")[2]}]
    assert not bare, "a sentence that ends with what was found does not say what to do"
