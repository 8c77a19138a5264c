"""What every dataset is before it is prepared: folds of samples, a split rule and an identity."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from benchmark.data.nuclei import Sample


@dataclass(frozen=True)
class Part:
    """Images of one raw fold that stand on one side of a split. rows: positions in the fold, or None for all."""

    fold: int
    rows: np.ndarray | None = None


@dataclass(frozen=True)
class Split:
    """One published split: lists of parts."""

    train: list[Part]
    val: list[Part]
    test: list[Part]


# names that data of one's own cannot have: results under them are of the published set
TAKEN = ("pannuke", "conic", "synthetic", "folder", "consep", "monuseg", "monusac", "lizard", "nucls", "parquet")
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


def is_own_name(name) -> bool:
    """Whether data of one's own may go by this name: a plain word, since folders are called after it, not in TAKEN."""
    return isinstance(name, str) and _PLAIN.fullmatch(name) is not None and name not in TAKEN


class Source:
    """A dataset as it lies on disk (or is drawn). Subclasses register in `data.registry.DATASETS`.

    Attributes:
        name: the registered name, or the one that the user gives the data: results and tables go by it.
        classes: nucleus types in order; type id k+1 is classes[k].
        tissues: the known tissues in order: the tissue head's classes and the tissue mean's members.
        mpp: micrometres per pixel.
        varies: whether images of one fold may differ in size; they are stored one after another then.
        train_patch: side in px of the patches in which training and validation see larger images; None: as they are.
            The test side is of whole images.
        licence: of images and labels, "" where it is not known.
        parts: the data sets that this one joins (`data.joint`), () for one of its own.
    """

    name: ClassVar[str] = ""
    classes: tuple[str, ...] = ()
    tissues: tuple[str, ...] = ()
    mpp: float = 0.25
    varies: bool = False
    train_patch: int | None = None
    licence: str = ""
    parts: "tuple[Source, ...]" = ()

    def __init__(self, root: str | Path | None = None):
        self.root = None if root is None else Path(root)

    def folds(self) -> list[int]:
        """Raw folds present, counted from 1. Raises InputError when the root is missing or holds none."""
        raise NotImplementedError

    def splits(self) -> list[int]:
        """Published splits, counted from 1 (FOLD=k)."""
        raise NotImplementedError

    def split(self, k: int, sources: dict[int, list[str]]) -> Split:
        """Split k. sources: raw fold -> the source name of each of its images. Raises InputError for unknown k."""
        raise NotImplementedError

    def identity(self, fold: int) -> dict:
        """What this raw fold is, cheaply: sizes, shapes, dtypes and a hash of headers and samples (or seed and
        generator version). Equal identity means equal prepared data. JSON-able, no absolute path, no mtime.
        Checks the archive and raises InputError when it is missing, truncated, mismatched or mislabelled."""
        raise NotImplementedError

    def count(self, fold: int) -> int:
        """Number of images in a raw fold."""
        raise NotImplementedError

    @property
    def naming(self) -> str:
        """Whose names its sources have: data sets of one naming share an image where they share a source's name."""
        return self.name.partition("@")[0]

    def origin(self, source: str) -> str:
        """Registered name of another data set that an image of this source was taken from; "" where there is none."""
        return ""

    def doubt(self, source: str) -> str:
        """Why `origin` may not know whence an image of this source is, after the data set's name; "" where it does."""
        return ""

    def remarks(self) -> list[str]:
        """What is read otherwise than it is written, or is not read, in sentences for the user."""
        return []

    def joined(self, parts: list):
        """The prepared `parts`, a `data.store.prepare.Prepared` each, as one."""
        raise NotImplementedError

    def samples(self, fold: int, start: int = 0) -> Iterator[Sample]:
        """The images of a raw fold in order, from `start`; holds a bounded number in memory.
        Raises InputError naming file and index for images or labels that are not what they should be."""
        raise NotImplementedError
