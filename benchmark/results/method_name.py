"""The canonical name of a run's method: `method@row,argument=value,…,recipe.key=value,…,weights=file`.

What the user chose and what decides a result stands in it, and so in the run's folder: the arguments that differ from
the row's, then the settings: values of the recipe that differ from the one that all runs of its kind share, and the
weights that fill the encoder where BACKBONE= names them. A value that no file name can hold, also on Windows, has a
hash in its place (`recipe.augment=~1a2b3c4d`), and so have the last words of a name that grows too long
(`,~1a2b3c4d`); config.json has them in full. No name of a device, such as CON, can arise: a method comes first.
"""

import hashlib
import json
import re
from typing import NamedTuple

from benchmark.results.run_id import KINDS
from benchmark.runtime.plugins import text_of, value_of, words_of

LONGEST = 150  # characters of a name
LONGEST_VALUE = 40
HASH = re.compile(r"~[0-9a-f]{8}")
UNFIT = re.compile(
    r"""[^!-~]|[<>:"/\\|?*@]|^~|\.$"""
)  # spaces, control characters, letters beyond ASCII; at its end a dot


class Word(NamedTuple):
    """`key=value` in a name.

    Attributes:
        value: as the identity of the result has it.
        text: what stands for the value.
    """

    key: str
    value: object
    text: str

    @classmethod
    def of(cls, key: str, value: object) -> "Word":
        """The word of a value that stands for itself: what is read from its text is the value again."""
        text = text_of(value)
        same = repr(value_of(text)) == repr(value) and text == text.lower()  # macOS and Windows do not tell A from a
        return cls(key, value, text if same and _fits(text) else _hash(value))

    @classmethod
    def called(cls, key: str, value: object, text: str) -> "Word":
        """The word of a value that a text of its own stands for."""
        return cls(key, value, text if _fits(text) else _hash(value))

    def __str__(self) -> str:
        return f"{self.key}={self.text}"


def canonical(head: str, words: list[Word]) -> tuple[str, dict[str, object]]:
    """(the name, what hashes in it stand for: {"recipe.augment": …}).

    Args:
        head: `method@row`.
        words: in their order in the name.
    """
    hidden = {word.key: word.value for word in words if HASH.fullmatch(word.text)}
    whole = ",".join([head, *map(str, words)])
    if len(whole) <= LONGEST:
        return whole, hidden
    name, shown = head, 0
    while len(f"{name},{words[shown]},~12345678") <= LONGEST:
        name, shown = f"{name},{words[shown]}", shown + 1
    rest = {word.key: word.value for word in words[shown:]}
    return f"{name},{_hash(rest)}", hidden | rest


def parts(name: str) -> tuple[str, list[str]]:
    """(`method@row` with its arguments, the words of its settings) of a canonical name."""
    head, at, rest = name.partition("@")
    words = words_of(rest)
    settings = [word for word in words if word.startswith(("recipe.", "weights=")) or HASH.fullmatch(word)]
    return f"{head}{at}{','.join(word for word in words if word not in settings)}", settings


def described(settings: dict[str, object]) -> str:
    """Settings of the recipe as tables show them: "optimiser.lr 0.0005, schedule.name step"; "" without any."""
    recipe = {key: value for key, value in settings.items() if key != "weights"}
    words = [Word.of(key, tuple(value) if isinstance(value, list) else value) for key, value in recipe.items()]
    return ", ".join(f"{word.key.removeprefix('recipe.')} {word.text}" for word in words)


def _fits(text: str) -> bool:
    """Whether a text can stand in a name: fit for a file name, one word, and not read as the kind of a run."""
    ends = tuple(end for end in KINDS.values() if end)
    whole = words_of(f"{text},next") == [text, "next"]
    return len(text) <= LONGEST_VALUE and whole and not UNFIT.search(text) and not text.endswith(ends)


def _hash(value: object) -> str:
    canonical_json = json.dumps(value, sort_keys=True, default=repr)
    return f"~{hashlib.sha256(canonical_json.encode()).hexdigest()[:8]}"
