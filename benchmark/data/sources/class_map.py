"""Other classes for a data set, by a class map: `consep@classes=4`, for any data set that has types.

    classes = ["epithelial", "inflammatory"]   # the classes that the data then have, in order
    [map]                                      # every class of the data set -> one of these, "" = without a type
    "Epithelial" = "epithelial"
    "Lymphocyte" = "inflammatory"              # several may become one

Known maps are the files of the folder `class_maps` beside this one's parent: `<data set>-<scheme>.toml`.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmark.data.files import text
from benchmark.data.files.class_names import distinct, listed
from benchmark.data.files.names import key, normal
from benchmark.data.nuclei import Sample
from benchmark.data.source import Source, Split, is_own_name
from benchmark.runtime.errors import InputError, near_miss

FOLDER = Path(__file__).parents[1] / "class_maps"


@dataclass(frozen=True)
class Scheme:
    """The classes that a class map makes of a data set's own.

    Attributes:
        name: what results go by: that of a known map without the data set's ("4"), else the file's stem and 8 hex
            digits of the content.
        classes: in order. table: uint8 (C + 1,), type of the data set -> type of the scheme, 0 = untyped.
    """

    name: str
    classes: tuple[str, ...]
    table: tuple[int, ...]

    def identity(self) -> dict:
        """What decides the types, JSON-able."""
        return {"classes": list(self.classes), "table": list(self.table)}


def known(dataset: str) -> list[str]:
    """Names of the schemes that come with the program for a registered data set, sorted."""
    return sorted(path.stem.removeprefix(f"{dataset}-") for path in FOLDER.glob(f"{dataset}-*.toml"))


def read(text_of: str, dataset: str, own: tuple[str, ...]) -> Scheme:
    """The scheme that `classes=` names.

    Args:
        text_of: "4", "consep-4" or the path of a TOML file.
        dataset: registered name of the data set. own: its classes in order.

    Raises:
        InputError: the data have no types; no such map; or a file that is none, leaves a class out, or names one that
            is not there.
    """
    if not own:
        raise InputError(f"{dataset}@classes={text_of}: the data set has no types to map; leave classes out.")
    word = text_of.removeprefix(f"{dataset}-")
    if word in known(dataset):
        return Scheme(word, *_read(FOLDER / f"{dataset}-{word}.toml", own))
    path = Path(text_of)
    if not path.is_file():
        words = known(dataset)
        raise InputError(
            f"{dataset}@classes={text_of}: expected one of {listed(words)}, or a TOML file, found neither; "
            f"correct it, or write the file (docs/datasets/README.md).{near_miss(text_of, words)}"
        )
    classes, table = _read(path, own)
    digest = hashlib.sha256(json.dumps([classes, table]).encode()).hexdigest()[:8]
    stem = path.stem if is_own_name(path.stem) else "map"
    return Scheme(f"{stem}-{digest}", classes, table)


def _read(path: Path, own: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """(classes, type of the data set -> type of the scheme) of a file, checked."""
    content = text.toml(path)
    classes, to = content.get("classes"), content.get("map")
    strings = isinstance(classes, list) and all(isinstance(name, str) and normal(name) for name in classes)
    if set(content) != {"classes", "map"} or not strings or not isinstance(to, dict):
        raise InputError(
            f'{path}: expected classes = ["…"] and a table [map] of lines "class of the data" = "class", and nothing '
            f"else, found {', '.join(content) or 'nothing'}; correct it."
        )
    if not classes or not distinct(classes) or len(classes) > 255:
        raise InputError(f"{path}: expected 1 to 255 distinct names in classes, found {listed(classes)}; correct it.")
    places = {key(name): k for k, name in enumerate(classes, 1)} | {"": 0}
    wrong = next((name for name in to.values() if not isinstance(name, str) or key(name) not in places), None)
    if wrong is not None:
        raise InputError(
            f'{path}: expected every class to become one of {listed(classes)}, or "" for none, found {wrong!r}; '
            f"correct it.{near_miss(str(wrong), classes)}"
        )
    target = {key(name): places[key(kind)] for name, kind in to.items()}
    lacking = [name for name in own if key(name) not in target]
    strange = [name for name in to if key(name) not in set(map(key, own))]
    if lacking or strange or len(target) < len(to):
        fault = f"none for {listed(lacking)}" if lacking else f"one for '{strange[0]}'" if strange else "one twice"
        raise InputError(
            f"{path}: expected one line of [map] for each class of the data ({listed(own)}), found {fault}; correct "
            'it ("" leaves nuclei of a class without a type).'
        )
    return tuple(map(normal, classes)), (0, *(target[key(name)] for name in own))


class Mapped(Source):
    """A data set with the classes of a scheme in place of its own; all else is as it is.

    Args:
        source: the data set. scheme: made for its classes.
    """

    def __init__(self, source: Source, scheme: Scheme):
        super().__init__(source.root)
        self.source, self.scheme = source, scheme
        self.name = f"{source.name}@classes={scheme.name}"
        self.classes, self.tissues, self.mpp = scheme.classes, source.tissues, source.mpp
        self.varies, self.train_patch, self.licence = source.varies, source.train_patch, source.licence

    def folds(self) -> list[int]:
        return self.source.folds()

    def splits(self) -> list[int]:
        return self.source.splits()

    def split(self, k: int, sources: dict[int, list[str]]) -> Split:
        return self.source.split(k, sources)

    def identity(self, fold: int) -> dict:
        return {"source": self.source.identity(fold), "scheme": self.scheme.identity()}

    def count(self, fold: int) -> int:
        return self.source.count(fold)

    @property
    def naming(self) -> str:
        return self.source.naming

    def origin(self, source: str) -> str:
        return self.source.origin(source)

    def doubt(self, source: str) -> str:
        return self.source.doubt(source)

    def remarks(self) -> list[str]:
        """Those of the data set, and how its classes are mapped."""
        pairs = [
            f"{name} as {self.classes[to - 1] if to else 'untyped'}"
            for name, to in zip(self.source.classes, self.scheme.table[1:])
        ]
        lines = [*self.source.remarks(), f"{self.name}: the classes are mapped: {', '.join(pairs)}."]
        if not any(self.scheme.table):
            lines.append(
                f"{self.name}: this leaves every class untyped, so no nucleus has a type, as may be meant to train or "
                "test on the nuclei alone, beside sets without types; otherwise name a class in [map]."
            )
        return lines

    def samples(self, fold: int, start: int = 0) -> Iterator[Sample]:
        table = np.array(self.scheme.table, np.uint8)
        for sample in self.source.samples(fold, start):
            yield replace(sample, nuclei=sample.nuclei.retyped(table))
