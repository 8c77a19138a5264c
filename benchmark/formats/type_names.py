"""classes.toml: the classes that are scored, and what each side's files call them.

    classes = ["Neoplastic", "Inflammatory"]   # type k + 1 is classes[k]
    mpp = 0.25                                  # optional: micrometres per pixel
    [pred]                                      # optional: names or ids in the predictions -> a class, "" = untyped
    tumor = "Neoplastic"
    "7" = "Inflammatory"
    [true]                                      # optional: the same for the ground truth

A name that no table lists must be a class's own (capitals do not matter). A table that lists ids lists all that occur.
Where a file or what lies beside it names its types, they are matched by these names (`named`).
"""

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from benchmark.data.files import text
from benchmark.data.files.class_names import ClassMap, Matched, distinct, matched
from benchmark.data.files.names import key, normal, number
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
        listing: the file that `table` comes from, where it must list all names and ids that occur; None: where it lists
            ids, all ids.
    """

    classes: tuple[str, ...] | None = None
    table: dict[str, int] = field(default_factory=dict)
    outside: bool = False
    listing: Path | None = None

    def id_of(self, word, where: str) -> int:
        """Type id of a name, or of an id, a number or its digits as text. Raises InputError for an unknown one."""
        if not isinstance(word, str):
            return int(self.ids(np.array([_number(word, where)]), where)[0])
        name = key(word)
        if name in self.table:
            return self.table[name]
        if name in UNTYPED:
            return 0
        if self.listing:
            raise InputError(
                f"{where}: names the type '{word}', which {self.listing} does not list; add it there."
                f"{near_miss(word, self.table)}"
            )
        known = [key(known) for known in self.classes or ()]
        if name not in known and (whole := number(name)) is not None:
            return int(self.ids(np.array([whole]), where)[0])
        if self.classes is None:
            raise InputError(
                f"{where}: names the type '{word}'; say with --types classes.toml which classes there are."
            )
        if name not in known:
            raise InputError(
                f"{where}: unknown type '{word}'; expected one of {', '.join(self.classes)}, or a line for it in "
                f"classes.toml.{near_miss(word, self.classes)}"
            )
        return known.index(name) + 1

    def ids(self, values: np.ndarray, where: str) -> np.ndarray:
        """uint8 type ids of an array of numbers >= 0. Raises InputError for one that is no class."""
        numbers = {n: v for k, v in self.table.items() if (n := number(k)) is not None}
        occurring = np.unique(values)
        if numbers or self.listing:
            numbers.setdefault(0, 0)
            unknown = [k for k in occurring.tolist() if k not in numbers]
            if unknown:
                raise InputError(
                    f"{where}: holds the type {unknown[0]}, which {self.listing or 'classes.toml'} does not list; add "
                    "it there."
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
        classes: names that are known already (a dataset's); the file may then leave them out, and where it has them in
            another order, that is the order of the ids in the files, which is said on stderr.
        outside: as in TypeNames.

    Raises:
        InputError: unreadable, unknown keys, wrong kinds, a table that leads to no class, other classes than `classes`.
    """
    if path is None:
        names = TypeNames(classes, outside=outside)
        return Settings(classes, None, names, names)
    content = text.toml(path)
    for word in content:
        if word not in _KEYS:
            raise InputError(f"{path}: expected the keys {', '.join(_KEYS)}, found '{word}'.{near_miss(word, _KEYS)}")
    own = content.get("classes", None if classes is None else list(classes))
    if not isinstance(own, list) or not all(isinstance(c, str) and normal(c) for c in own) or not distinct(own):
        raise InputError(f"{path}: expected classes to be a list of distinct names, found {own!r}; correct it.")
    own = tuple(map(normal, own))
    order = matched(own, own if classes is None else classes, str(path), "the dataset")
    mpp = content.get("mpp")
    if mpp is not None and not (type(mpp) in (int, float) and 0 < mpp < 100):
        raise InputError(f"{path}: expected mpp to be micrometres per pixel such as 0.25, found {mpp!r}; correct it.")
    scored = own if classes is None else tuple(classes)
    sides = {side: _side(path, side, content.get(side, {}), scored, outside) for side in ("true", "pred")}
    if order.remark:
        print(order.remark, file=sys.stderr)
        sides = {side: _numbered(names, order) for side, names in sides.items()}
    return Settings(scored, None if mpp is None else float(mpp), **sides)


def _side(path: Path, side: str, table, classes: tuple[str, ...], outside: bool) -> TypeNames:
    """The names of one side from its table in classes.toml."""
    if not isinstance(table, dict):
        raise InputError(f"{path}: expected [{side}] to be a table of name = class, found {table!r}; correct it.")
    places = {key(name): k for k, name in enumerate(classes, 1)} | {"": 0}
    ids: dict[str, int] = {}
    for name, to in table.items():
        if not isinstance(to, str) or key(to) not in places:
            raise InputError(f'{path}: [{side}] {name} = {to!r}; expected one of {", ".join(classes)}, or "".')
        if ids.setdefault(key(name), places[key(to)]) != places[key(to)]:
            raise InputError(f"{path}: [{side}] leads '{name}' to two classes (capitals do not matter); keep one.")
    return TypeNames(classes, ids, outside)


def named(
    side: TypeNames, own: tuple[str, ...], whose: str, class_map: ClassMap | None = None
) -> tuple[TypeNames, str]:
    """A side whose files hold numbers that are known to stand for names, and a sentence on what that changes.

    A table of classes.toml that lists ids has the user's word for what they are; one that lists names leads from them.

    Args:
        side: with classes.
        own: names of types 1..C. whose: where they come from, for sentences.

    Raises:
        InputError: as `class_names.matched`, or a name that the table does not lead to a class.
    """
    ids = any(number(word) is not None for word in side.table)
    if class_map is None and side.table:
        to = () if ids else tuple(side.id_of(name, whose) for name in own)
        return (side, "") if ids else (_numbered(side, Matched(to, ())), "")
    matching = matched(own, side.classes or (), whose, "the ground truth", class_map)
    return _numbered(side, matching), matching.remark


def mapped(side: TypeNames, class_map: ClassMap) -> TypeNames:
    """A side whose files name each type, or its number, as a map lists them. Raises InputError as `ClassMap.ids`."""
    return replace(side, table=class_map.ids(side.classes or ()), listing=class_map.path)


def _numbered(side: TypeNames, matching: Matched) -> TypeNames:
    """A side whose types are the numbers of `matching`, unless its table lists numbers of its own."""
    if matching.table is None or any(number(word) is not None for word in side.table):
        return side
    return replace(side, table=side.table | {str(k): to for k, to in enumerate(matching.to, 1)})


def _number(value, where: str) -> int:
    whole = isinstance(value, int | float | np.number) and not isinstance(value, bool) and np.isfinite(value)
    if not whole or value < 0 or value != int(value):
        shown = value.item() if isinstance(value, np.generic) else value
        raise InputError(f"{where}: expected a type as a name or a whole number of at least 0, found {shown!r}.")
    return int(value)
