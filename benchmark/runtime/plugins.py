"""Import of all modules of a package, which register themselves; words of names such as `cellvta@points=8`."""

import ast
import importlib
import pkgutil
import re
from collections.abc import Iterable
from pathlib import Path

from benchmark.runtime.errors import InputError, near_miss, short

_IMPORTED: dict[str, Exception | None] = {}


def import_all(package: str) -> None:
    """Import every module of a package, once; what a broken one raises is raised at each call."""
    if package not in _IMPORTED:
        _IMPORTED[package] = None
        try:
            for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
                importlib.import_module(f"{package}.{module.name}")
        except Exception as error:
            _IMPORTED[package] = error
    if (error := _IMPORTED[package]) is not None:
        raise error  # each time: a later call must not miss the names of a file that is broken


def declared(package: str) -> set[str] | None:
    """Names that the modules of a package register, read from their text: importing them may import torch.

    None where a module registers in another form than `register_module(name="…")`: its names are not known then.
    """
    names = set()
    for folder in importlib.import_module(package).__path__:
        for path in Path(folder).glob("*.py"):
            code = path.read_text(encoding="utf-8")
            here = re.findall(r"""register_module\(name=["'](\w+)["']\)""", code)
            if len(here) != code.count("register_module"):
                return None
            names |= {*here}
    return names


def check_name(what: str, name: str, names: Iterable[str]) -> None:
    """Raises InputError, with a near-miss hint, for a name that is none of `names`."""
    if name not in names:
        known = sorted(names)
        raise InputError(f"Unknown {what} '{short(name)}'; known are {', '.join(known)}.{near_miss(name, known)}")


def name_of(text: str) -> str:
    """The method in `method@row,key=value,…`. Raises InputError when the text has another form."""
    if not re.fullmatch(r"[a-z0-9_]+(@[^@/\\\s]+)?", text):
        raise InputError(
            f"'{short(text)}' is not a method name; expected method@row,key=value such as 'cellvta@small,points=8'."
        )
    return text.partition("@")[0]


def value_of(text: str):
    """A Python literal, true, false or none in any case, else the text itself."""
    lowered = {"true": True, "false": False, "none": None}
    if text.lower() in lowered:
        return lowered[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):  # the last two: nested too deeply
        return text


def text_of(value) -> str:
    """A value as one writes it after `key=`, without spaces."""
    return str(value).lower() if isinstance(value, bool) or value is None else str(value).replace(" ", "")


def words_of(text: str) -> list[str]:
    """The words between the commas of a text; a comma within brackets, as in `betas=(0.9,0.95)`, parts nothing."""
    words, depth = [""], 0
    for letter in text:
        depth = max(0, depth + (letter in "([{") - (letter in ")]}"))
        if letter == "," and depth == 0:
            words.append("")
        else:
            words[-1] += letter
    return [word for word in words if word]
