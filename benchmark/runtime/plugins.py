"""Import of all modules of a package, which register themselves; words of names such as `cellvta@points=8`."""

import ast
import functools
import importlib
import pkgutil
import re
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from benchmark.runtime.errors import InputError, near_miss, short

# package -> group of entry points by which other packages offer more of what its modules register
OFFERED = {"benchmark.methods": "nuclei_benchmark.methods"}
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


@functools.cache  # looking through all packages takes longer than all that a look at a cell does
def offered(group: str) -> dict[str, EntryPoint]:
    """Name -> entry point of a group, of all packages that are installed; nothing of theirs is imported.

    Raises:
        InputError: two packages offer the same name.
    """
    found: dict[str, EntryPoint] = {}
    for point in entry_points(group=group):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise InputError(
                f"The packages {_package(other)} and {_package(point)} both offer '{point.name}' as one of {group}; "
                "uninstall one of them."
            )
    return found


def import_offered(group: str, registry) -> None:
    """Import what other packages offer by entry points, once, after which each must have registered its name.

    Args:
        registry: an mmengine Registry.

    Raises:
        InputError: an import fails, a name is taken, or is not registered; raised at each call.
    """
    for name, point in offered(group).items():
        key = f"{group}:{point.value}"
        if key not in _IMPORTED:
            _IMPORTED[key] = None
            taken = name in registry.module_dict
            try:
                if taken:
                    raise InputError("the name is taken")
                point.load()
                if name not in registry.module_dict:
                    raise InputError(f"it registers no '{name}'")
            except Exception as error:
                _IMPORTED[key] = error
        if (error := _IMPORTED[key]) is not None:
            raise InputError(
                f"The package {_package(point)} offers '{name}' ({point.value}) as one of {group}, which cannot be "
                f"used ({short(str(error)) or type(error).__name__}); mend or uninstall that package."
            ) from error


def _package(point: EntryPoint) -> str:
    return f"'{point.dist.name}'" if point.dist else "?"


def declared(package: str) -> set[str] | None:
    """Names that the modules of a package register, read from their text: importing them may import torch.

    With those that other packages offer, where these can.

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
    return names | offered(OFFERED[package]).keys() if package in OFFERED else names


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
