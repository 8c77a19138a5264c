"""Names that a file of contours gives to the ids of its types: CellViT's `type_map`, HoVer-Net's `type_info`."""

import sys
from pathlib import Path

from benchmark.data.files import checks
from benchmark.data.files.names import key, number
from benchmark.formats.type_names import UNTYPED
from benchmark.runtime.errors import InputError

KEYS = ("type_map", "type_info")
BACKGROUND = (*UNTYPED, "background", "bg", "nolabe", "nolabel", "unlabeled", "unlabelled")  # names of id 0


def type_names(content: dict, nuclei: dict, names, path: Path) -> dict[int, str]:
    """Id -> name of the types that occur, without those that the user's table lists.

    Empty where the file names none, and where nobody named the classes, so that ids count by number, which is said.

    Args:
        content: of the file. nuclei: key -> nucleus, of which `type` is looked at. names: the `TypeNames` of this side.

    Raises:
        InputError: names in a form that is not known, two that differ, or none for an id that occurs.
    """
    present = [k for k in KEYS if isinstance(content.get(k), dict | list) and content[k]]
    others = [k for k, value in content.items() if k not in KEYS and isinstance(value, dict | list)]
    if content is not nuclei:
        checks.say_unread(path, [k for k in others if may_be_types(k)], "type_map, beside the nuclei's type")
    kinds = (nucleus.get("type") for nucleus in nuclei.values() if isinstance(nucleus, dict))
    ids = {k for kind in kinds if (k := type_id(kind)) is not None and str(k) not in names.table}
    if not present or not ids:
        return {}
    of = _by_id(content[present[0]], present[0], path)
    if len(present) > 1 and _by_id(content[present[1]], present[1], path) != of:
        raise InputError(f"{path}: its {present[0]} and its {present[1]} name its types differently; keep one of them.")
    if key(of.get(0, "")) in BACKGROUND:
        ids.discard(0)
    called = ", ".join(f"{k} = {of[k]}" for k in sorted(of) if k in ids)
    lacking = sorted(ids - set(of))
    if names.classes is None:
        if called:
            print(
                f"{path}: its types count by number, although it names them ({called}): nothing names the classes; "
                "--types classes.toml does",
                file=sys.stderr,
            )
        return {}
    if lacking:
        raise InputError(
            f"{path}: expected a name in {present[0]} for each type that occurs, found none for "
            f"{', '.join(map(str, lacking))} (it has {called or 'none of those that occur'}); add them there, or list "
            "these ids in --types classes.toml."
        )
    return {k: of[k] for k in ids}


def type_id(kind) -> int | None:
    """The whole number that a nucleus has as its type, also as text; None for a name, none and anything else."""
    if isinstance(kind, str):
        return number(kind.strip())
    whole = isinstance(kind, int | float) and not isinstance(kind, bool) and kind == kind // 1
    return int(kind) if whole and abs(kind) < 2**53 else None


def may_be_types(word: str) -> bool:
    """Whether a key of a file may hold types, or names of them, and no probabilities."""
    return checks.may_be_types(word) and "prob" not in word.lower()


def _by_id(of, called: str, path: Path) -> dict[int, str]:
    """Id -> name, from {id: name}, {name: id} or a list whose first is the background.

    A name may also stand as [name, colour], as HoVer-Net has it, or as {"name": name}.
    """
    if isinstance(of, list):
        if all(isinstance(one, dict) and "id" in one for one in of):
            pairs = [(type_id(one["id"]), _name(one)) for one in of]
        else:
            pairs = list(enumerate(map(_name, of)))
            if key(pairs[0][1] or "?") not in BACKGROUND:
                raise _unknown(of, called, path, ", the first of them Background; its ids may begin with 0 or 1")
    elif all(number(k) is not None for k in of):
        pairs = [(number(k), _name(value)) for k, value in of.items()]
    else:
        values = [value.get("id") if isinstance(value, dict) else value for value in of.values()]
        pairs = [(None if isinstance(value, str) else type_id(value), k) for k, value in zip(of, values)]
    if any(k is None or name is None for k, name in pairs) or len({k for k, _ in pairs}) < len(pairs):
        raise _unknown(of, called, path)
    return dict(pairs)


def _name(value) -> str | None:
    """The name in a value of a map: itself, [name, colour] or {"name": name}."""
    if isinstance(value, dict):
        value = value.get("name")
    if isinstance(value, list) and value:
        value = value[0]
    return value if isinstance(value, str) else None


def _unknown(of, called: str, path: Path, more: str = "") -> InputError:
    beginning = repr(of if isinstance(of, list) else dict(list(of.items())[:3]))
    return InputError(
        f"{path}: expected {called} to name each id once ({{id: name}}, {{name: id}} or a list of names{more}), found "
        f"{beginning:.100}; correct it, or list the ids in --types classes.toml."
    )
