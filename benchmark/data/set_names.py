"""Several data sets in one word, for joint training: `pannuke:/data/pannuke+monuseg:/data/monuseg`.

A set is a name as DATASET= takes it, and its folder behind a colon where it is not that of DATA_ROOT=.
"""

from collections.abc import Collection

from benchmark.runtime.errors import InputError

JOIN = "+"


def split(text: str, known: Collection[str]) -> list[str]:
    """The sets in a word, each `name`, `name@arguments` or either with `:folder`; one where nothing joins several.

    Within arguments and folders a plus joins only where the name of a data set follows, so that `folder:/data/a+b` is
    one set; in the value of `name=` it never does: `pannuke@name=consep+monuseg` is one set.

    Args:
        known: names of all registered data sets.

    Raises:
        InputError: no set before or behind a plus.
    """
    sets: list[str] = []
    for piece in text.split(JOIN):
        joins = bool(sets) and registered(piece) in known and not _in_name(sets[-1])
        if not sets or joins or not {"@", ":"} & {*sets[-1]}:
            sets.append(piece)
        else:
            sets[-1] += JOIN + piece
    if len(sets) > 1 and not all(map(registered, sets)):
        raise InputError(f"'{text}': expected a data set on both sides of each +, found none; name it, or leave + out.")
    return sets


def _in_name(text: str) -> bool:
    """Whether the text ends in an argument `name=`, whose value may have a plus in it."""
    return ":" not in text and text.rpartition("@")[2].rpartition(",")[2].startswith("name=")


def registered(text: str) -> str:
    """The registered name of one set."""
    return text.partition(":")[0].partition("@")[0]


def with_folder(text: str) -> tuple[str, str | None]:
    """(name with its arguments, folder) of one set; the folder is None where none is named.

    Raises:
        InputError: no name, or a colon without a folder.
    """
    name, colon, folder = text.partition(":")
    if not name or (colon and not folder):
        raise InputError(f"'{text}' names no data set; expected a name such as consep, or name:folder.")
    return name, folder or None
