"""Import of all modules of a package, which register themselves, and values in names such as `cellvta@points=8`."""

import ast
import importlib
import pkgutil

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


def value_of(text: str):
    """A Python literal, true, false or none in any case, else the text itself."""
    lowered = {"true": True, "false": False, "none": None}
    if text.lower() in lowered:
        return lowered[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
