"""Classes of predictions and of data, compared by name, never by number or likeness.

A file of `--classes` says which is which where the names differ:

    [classes]                         # every class of the predictions -> a class of the data, "" = untyped
    "Tumour cell" = "Neoplastic"
    "Lymphocyte" = "Inflammatory"     # several may become one
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.data.files import text
from benchmark.data.files.names import key
from benchmark.runtime.errors import InputError, near_miss


def distinct(names) -> bool:
    """Whether no two names are of one class."""
    return len({key(name) for name in names}) == len(names)


def listed(names) -> str:
    """Names as sentences have them."""
    return ", ".join(names) or "none"


@dataclass(frozen=True)
class ClassMap:
    """The content of a file of `--classes`: name in the predictions -> name in the data, "" for untyped."""

    path: Path
    to: dict[str, str]

    @property
    def mark(self) -> str:
        """8 hex digits that stand for the content."""
        pairs = sorted((key(name), key(to)) for name, to in self.to.items())
        return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:8]

    def ids(self, classes: tuple[str, ...]) -> dict[str, int]:
        """Key of each name in the predictions -> type id in the data. Raises InputError for a name that it lacks."""
        places = {key(name): k for k, name in enumerate(classes, 1)} | {"": 0}
        for name, to in self.to.items():
            if key(to) not in places:
                raise InputError(
                    f"{self.path}: '{name}' = '{to}', expected a class of the data ({listed(classes)}), or \"\" for "
                    f"untyped.{near_miss(to, classes)}"
                )
        return {key(name): places[key(to)] for name, to in self.to.items()}


def read_map(path: Path | None) -> ClassMap | None:
    """Read a file of `--classes`; None for None.

    Raises:
        InputError: unreadable, anything but a table [classes] of names, or a name twice (capitals do not matter).
    """
    if path is None:
        return None
    content = text.toml(path)
    table = content.get("classes")
    if list(content) != ["classes"] or not isinstance(table, dict) or not table:
        raise InputError(
            f'{path}: expected a table [classes] of lines "name in the predictions" = "name in the data", and nothing '
            f"else, found {', '.join(content) or 'nothing'}; correct it."
        )
    for name, to in table.items():
        if not isinstance(to, str):
            raise InputError(
                f"{path}: expected '{name}' to be a class of the data in quotes, found {to!r}; correct it."
            )
    if not distinct(list(table)):
        raise InputError(f"{path}: expected each name once (capitals do not matter), found one twice; keep one.")
    return ClassMap(Path(path), table)


@dataclass(frozen=True)
class Matched:
    """Which type of the data each type of the predictions is.

    Attributes:
        to: type id in the data of each type 1..C of the predictions, 0 = untyped.
        names: the data's name of each, "" = untyped.
        remark: in words, what is not as it was predicted; "" where both lists are alike.
        shared: of `by_shared_names`, where one side has classes that the other lacks: the classes of both, which are
            scored in place of the data's. `to` counts in them, and all other classes are type len(shared) + 1, which is
            a nucleus of no scored class; None: the data's own.
        true: then: the same for each type 1..C of the data.
    """

    to: tuple[int, ...]
    names: tuple[str, ...]
    remark: str = ""
    shared: tuple[str, ...] | None = None
    true: tuple[int, ...] = ()

    @property
    def table(self) -> np.ndarray | None:
        """uint8 (C + 1,): type of the predictions -> type of the data; None where they are the same numbers."""
        if self.to == tuple(range(1, len(self.to) + 1)):
            return None
        return np.array([0, *self.to], np.uint8)

    @property
    def true_table(self) -> np.ndarray | None:
        """uint8 (data's classes + 1,): type of the data -> type that is scored; None where they are the same."""
        return None if self.shared is None else np.array([0, *self.true], np.uint8)


def by_shared_names(own, classes, whose: str, of: str, class_map: ClassMap | None = None) -> Matched:
    """As `matched` for data that the predictor was not made for: where names differ, the classes of both are scored.

    Nuclei of other classes, predicted or true, count where types do not: in bPQ and detection.

    Raises:
        InputError: as `matched`, but for other names than the data's.
    """
    own, classes = tuple(own), tuple(classes)
    known = {key(name) for name in own}
    if class_map is not None or not distinct(own) or known == set(map(key, classes)):
        return matched(own, classes, whose, of, class_map)
    shared = tuple(name for name in classes if key(name) in known)
    places = {key(name): k for k, name in enumerate(shared, 1)}
    other = len(shared) + 1
    to, true = (tuple(places.get(key(name), other) for name in names) for names in (own, classes))
    how = f"mPQ and scores by type are of {listed(shared)} alone" if shared else "none is the same, hence no mPQ"
    remark = (
        f"Classes by name: predicted are {listed(own)}, {of} has {listed(classes)}; {how}, and nuclei of other classes "
        "count in bPQ and detection."
    )
    return Matched(to, tuple(shared[k - 1] if k < other else "" for k in to), remark, shared, true)


def matched(own, classes, whose: str, of: str, class_map: ClassMap | None = None) -> Matched:
    """Match the classes of predictions with those of the data.

    Args:
        own: names of types 1..C of the predictions, in order. classes: those of the data.
        whose: where the predictions' names come from, for sentences. of: the data, such as "the dataset x".
        class_map: decides in place of the names themselves.

    Raises:
        InputError: other names than the data's, or fewer or more, without a map; or a map that lacks a name of the
            predictions, or names classes that one of the sides does not have.
    """
    own, classes = tuple(own), tuple(classes)
    if class_map is not None:
        return _by_map(own, classes, whose, of, class_map)
    places = {key(name): k for k, name in enumerate(classes, 1)}
    if not distinct(own) or {key(name) for name in own} != set(places):
        raise InputError(
            f"{whose}: expected the classes of {of} ({listed(classes)}), found {listed(own)}; say which is which in a "
            "file, --classes map.toml (docs/score.md)."
        )
    to = tuple(places[key(name)] for name in own)
    remark = ""
    if to != tuple(range(1, len(own) + 1)):
        remark = f"The classes are reordered by name: predicted are {listed(own)}; {of} has {listed(classes)}."
    return Matched(to, tuple(classes[k - 1] for k in to), remark)


def _by_map(own, classes, whose: str, of: str, class_map: ClassMap) -> Matched:
    known = {key(name) for name in own}
    for name in class_map.to:
        if key(name) not in known:
            raise InputError(
                f"{class_map.path}: '{name}' is no class of {whose} ({listed(own)}); correct it.{near_miss(name, own)}"
            )
    ids = class_map.ids(classes)
    lacking = [name for name in own if key(name) not in ids]
    if lacking:
        raise InputError(
            f"{class_map.path}: expected a line for each class of {whose} ({listed(own)}), found none for "
            f'{listed(lacking)}; add it ({of} has {listed(classes)}; "" is untyped).'
        )
    to = tuple(ids[key(name)] for name in own)
    names = tuple(classes[k - 1] if k else "" for k in to)
    pairs = ", ".join(f"{name} as {as_ or 'untyped'}" for name, as_ in zip(own, names))
    unused = [name for k, name in enumerate(classes, 1) if k not in to]
    never = f"; never predicted: {listed(unused)}" if unused else ""
    return Matched(to, names, f"The classes are mapped by {class_map.path.name}: {pairs}{never}.")
