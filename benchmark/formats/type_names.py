"""classes.toml: the classes that are scored, and what each side's files call them.

    classes = ["Neoplastic", "Inflammatory"]   # type k + 1 is classes[k]
    mpp = 0.25                                  # optional: micrometres per pixel
    [pred]                                      # optional: names or ids in the predictions -> a class, "" = untyped
    tumor = "Neoplastic"
    "7" = "Inflammatory"
    [true]                                      # optional: the same for the ground truth

A name that no table lists must be a class's own (capitals do not matter). A table that lists ids lists all that occur.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmark.data.files import text
from benchmark.data.files.names import normal
from benchmark.runtime.errors import InputError, near_miss

_KEYS = ("classes", "mpp", "true", "pred")
UNTYPED = ("", "untyped", "unclassified", "none")


@dataclass(frozen=True)
class TypeNames:
    """How one side's files name types.

    Attributes:
        classes: names of types 1..C, or None where nobody named them: ids stand for themselves.
        table: name or id as text, lower case -> type id.
        outside: type maps may name types where there is no instance (an argmax over all pixels); they count nothing.
    """

    classes: tuple[str, ...] | None = None
    table: dict[str, int] = field(default_factory=dict)
    outside: bool = False

    def id_of(self, word, where: str) -> int:
        """Type id of a name (text) or id (number). Raises InputError for an unknown one."""
        if not isinstance(word, str):
            return int(self.ids(np.array([_number(word, where)]), where)[0])
        key = normal(word).lower()
        if key in self.table:
            return self.table[key]
        if key in UNTYPED:
            return 0
        if self.classes is None:
            raise InputError(
                f"{where}: names the type '{word}'; say with --types classes.toml which classes there are."
            )
        known = [normal(name).lower() for name in self.classes]
        if key not in known:
            raise InputError(
                f"{where}: unknown type '{word}'; expected one of {', '.join(self.classes)}, or a line for it in "
                f"classes.toml.{near_miss(word, self.classes)}"
            )
        return known.index(key) + 1

    def ids(self, values: np.ndarray, where: str) -> np.ndarray:
        """uint8 type ids of an array of numbers >= 0. Raises InputError for one that is no class."""
        numbers = {int(k): v for k, v in self.table.items() if k.isdigit()}
        occurring = np.unique(values)
        if numbers:
            numbers.setdefault(0, 0)
            unknown = [k for k in occurring.tolist() if k not in numbers]
            if unknown:
                raise InputError(
                    f"{where}: holds the type {unknown[0]}, which classes.toml does not list; add it there."
                )
            return np.array([numbers[k] for k in occurring.tolist()], np.uint8)[np.searchsorted(occurring, values)]
        most = 255 if self.classes is None else len(self.classes)
        if occurring.size and (occurring[-1] > most or occurring[0] < 0):
            wrong = occurring[-1] if occurring[-1] > most else occurring[0]
            named = "" if self.classes is None else f" ({', '.join(self.classes) or 'no classes'})"
            raise InputError(f"{where}: expected types 0..{most}{named}, found {wrong}; check the classes.")
        return values.astype(np.uint8)


@dataclass(frozen=True)
class Settings:
    """The content of classes.toml; `true` and `pred` name the types of each side."""

    classes: tuple[str, ...] | None = None
    mpp: float | None = None
    true: TypeNames = field(default_factory=TypeNames)
    pred: TypeNames = field(default_factory=TypeNames)


def read(path: Path | None, classes: tuple[str, ...] | None = None, outside: bool = False) -> Settings:
    """Read classes.toml.

    Args:
        path: None for no file.
        classes: names that are known already (a dataset's); the file may then leave them out.
        outside: as in TypeNames.

    Raises:
        InputError: unreadable, unknown keys, wrong kinds, a table that leads to no class, other classes than `classes`.
    """
    if path is None:
        names = TypeNames(classes, outside=outside)
        return Settings(classes, None, names, names)
    content = text.toml(path)
    for key in content:
        if key not in _KEYS:
            raise InputError(f"{path}: expected the keys {', '.join(_KEYS)}, found '{key}'.{near_miss(key, _KEYS)}")
    own = content.get("classes", None if classes is None else list(classes))
    if not isinstance(own, list) or not all(isinstance(c, str) and c for c in own) or len(set(own)) != len(own):
        raise InputError(f"{path}: expected classes to be a list of distinct names, found {own!r}; correct it.")
    if classes is not None and tuple(own) != tuple(classes):
        raise InputError(
            f"{path}: its classes are {', '.join(own)}, the dataset's {', '.join(classes)}; leave them out."
        )
    mpp = content.get("mpp")
    if mpp is not None and not (type(mpp) in (int, float) and 0 < mpp < 100):
        raise InputError(f"{path}: expected mpp to be micrometres per pixel such as 0.25, found {mpp!r}; correct it.")
    sides = {}
    for side in ("true", "pred"):
        table = content.get(side, {})
        if not isinstance(table, dict):
            raise InputError(f"{path}: expected [{side}] to be a table of name = class, found {table!r}; correct it.")
        for name, to in table.items():
            if to != "" and to not in own:
                raise InputError(f'{path}: [{side}] {name} = {to!r}; expected one of {", ".join(own)}, or "".')
        ids: dict[str, int] = {}
        for name, to in table.items():
            kind = own.index(to) + 1 if to else 0
            if ids.setdefault(normal(name).lower(), kind) != kind:
                raise InputError(f"{path}: [{side}] leads '{name}' to two classes (capitals do not matter); keep one.")
        sides[side] = TypeNames(tuple(own), ids, outside)
    return Settings(tuple(own), None if mpp is None else float(mpp), **sides)


def _number(value, where: str) -> int:
    whole = isinstance(value, int | float | np.number) and not isinstance(value, bool) and np.isfinite(value)
    if not whole or value < 0 or value != int(value):
        raise InputError(f"{where}: expected a type as a name or a whole number of at least 0, found {value!r}.")
    return int(value)
