"""The prepared sets of a joint training as one: `JointPrepared`, and one side of a split of all: `JointSubset`.

What a set lacks is not guessed. An image of a set without types is untyped. An image of a set that lacks classes says
nothing of these: `JointSubset.named` has the classes that it does speak of, to which training restricts the loss of
types; where types are scored, the image is untyped, since a nucleus of a lacking class would have another type or none.
Tissues that a set does not name are unknown.
"""

import hashlib
import json
from dataclasses import replace
from functools import cached_property

import numpy as np

from benchmark.data import overlap
from benchmark.data.files.names import key
from benchmark.data.files.resolution import differs
from benchmark.data.nuclei import Sample
from benchmark.data.source import Part, Split
from benchmark.data.store import duplicates
from benchmark.data.store.patches import Patches
from benchmark.data.store.prepare import SIDES, Prepared
from benchmark.data.store.subset import Subset
from benchmark.runtime.errors import InputError

VERSION = 1  # of how sets are joined; part of a result's identity
SEEN = {"test": ("train", "val"), "val": ("train",)}  # side -> sides of another set whose images may not stand on it


class JointSet:
    """The images of one set on a side of the joint split, with the classes and tissues of all; picklable.

    Args:
        images: of the set. label: its name in results.
        own, classes: classes of the set and of all.
        tissues: of all. trains: whether this is a training side.

    Attributes:
        images, label: as the arguments.
        named: bool (C + 1,): background and the classes that the set has.
        tissues, sources, image_ids, typed, nuclei, counts: as of `Subset`; sources and ids begin with the label.
    """

    def __init__(
        self,
        images: Subset | Patches,
        label: str,
        own: tuple[str, ...],
        classes: tuple[str, ...],
        tissues: tuple[str, ...],
        trains: bool,
    ):
        self.images, self.label = images, label
        places = {key(name): k for k, name in enumerate(classes, 1)}
        self._table = np.array([0, *(places[key(name)] for name in own)], np.uint8)
        self.named = np.zeros(len(classes) + 1, bool)
        self.named[self._table] = True
        self._types_count = bool(own) and (trains or bool(self.named.all())) if classes else True
        self._tissues = {key(name): name for name in tissues}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Sample:
        sample = self.images[i]
        nuclei = sample.nuclei.retyped(self._table) if len(self._table) > 1 else sample.nuclei
        named = replace(
            nuclei,
            tissue=self._tissue(nuclei.tissue),
            image_id=self._name(nuclei.image_id),
            source=self._name(nuclei.source),
            typed=nuclei.typed and self._types_count,
        )
        return replace(sample, nuclei=named)

    def _tissue(self, name: str) -> str:
        return self._tissues.get(key(name), name)

    def _name(self, name: str) -> str:
        return f"{self.label}/{name}" if name else ""

    @property
    def tissues(self) -> list[str]:
        return [self._tissue(name) for name in self.images.tissues]

    @property
    def sources(self) -> list[str]:
        return [self._name(name) for name in self.images.sources]

    @property
    def image_ids(self) -> list[str]:
        return [self._name(name) for name in self.images.image_ids]

    @property
    def typed(self) -> np.ndarray:
        return self.images.typed & self._types_count

    @property
    def nuclei(self) -> np.ndarray:
        return self.images.nuclei

    @property
    def counts(self) -> np.ndarray:
        out = np.zeros((len(self), len(self.named) - 1), np.int64)
        out[:, self._table[1:] - 1] = self.images.counts
        return out


class JointSubset:
    """The images of all sets on one side, set after set, as a sequence of Sample; picklable.

    Attributes:
        sets: a JointSet each.
        named: bool (S, C + 1), `JointSet.named` of each set; None where all sets that have types have all classes.
        tissues, sources, image_ids, typed, nuclei, counts: as of `Subset`.
    """

    def __init__(self, sets: list[JointSet]):
        self.sets = sets
        self._starts = np.cumsum([0, *map(len, sets)])
        partial = any(1 < one.named.sum() < len(one.named) for one in sets)
        self.named = np.stack([one.named for one in sets]) if partial else None

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, i: int) -> Sample:
        """Image i; negative positions count from the end. Raises IndexError beyond either end."""
        which, row = self.place(i)
        return self.sets[which][row]

    def place(self, i: int) -> tuple[int, int]:
        """(number of the set from 0, position in it) of image i."""
        if not -len(self) <= i < len(self):
            raise IndexError(f"position {i} of {len(self)} images")
        i = int(i) % len(self)
        which = int(np.searchsorted(self._starts, i, side="right")) - 1
        return which, i - int(self._starts[which])

    def _all(self, name: str) -> list:
        return [value for one in self.sets for value in getattr(one, name)]

    @cached_property
    def tissues(self) -> list[str]:
        return self._all("tissues")

    @cached_property
    def sources(self) -> list[str]:
        return self._all("sources")

    @cached_property
    def image_ids(self) -> list[str]:
        return self._all("image_ids")

    @cached_property
    def typed(self) -> np.ndarray:
        return np.concatenate([one.typed for one in self.sets])

    @cached_property
    def nuclei(self) -> np.ndarray:
        return np.concatenate([one.nuclei for one in self.sets])

    @cached_property
    def counts(self) -> np.ndarray:
        return np.concatenate([one.counts for one in self.sets])


class JointPrepared(Prepared):
    """The prepared sets of a `data.joint.Joint` as one; attributes are those of `Prepared`.

    `folds` are those of all sets, numbered from 1. Split k is split k of each set. An image that stands on the
    validation or test side of one set and that another set trains on (or, for the test side, validates on) is left out
    there, see `data.overlap`.
    """

    def __init__(self, source, sets: list[Prepared]):
        folds = [fold for one in sets for _, fold in sorted(one.folds.items())]
        super().__init__(source, dict(enumerate(folds, 1)))
        self.sets, self.labels = tuple(sets), source.labels
        self._kept: dict[tuple[int, str], list[overlap.Overlap]] = {}

    def splits(self) -> list[int]:
        return self._source.splits()

    def split(self, k: int) -> Split:
        """Split k of every set in the folds as they are numbered here, with the images that `images` leaves out."""
        sides: dict[str, list[Part]] = {side: [] for side in SIDES}
        before = 0
        for one in self.sets:
            numbers = {fold: before + place for place, fold in enumerate(sorted(one.folds), 1)}
            split = one.split(k)
            for side, parts in sides.items():
                parts += [Part(numbers[part.fold], part.rows) for part in getattr(split, side)]
            before += len(numbers)
        return Split(**sides)

    def images(self, k: int, side: str) -> list[duplicates.Image]:
        """The whole images of a side, but for those that are left out."""
        out: list[duplicates.Image] = []
        for one, seen in zip(self.sets, self.overlaps(k, side)):
            left_out = {*seen.left_out}
            out += [image for i, image in enumerate(one.images(k, side)) if i not in left_out]
        return out

    def overlaps(self, k: int, side: str) -> list[overlap.Overlap]:
        """What the trainings on the other sets have seen of each set's validation or test side.

        Raises:
            InputError: as `data.overlap.between`.
        """
        if side not in SEEN:
            return [overlap.Overlap(0) for _ in self.sets]
        if (k, side) not in self._kept:
            self._kept[k, side] = [
                overlap.merged(
                    [overlap.between(other, k, one, k, SEEN[side], side) for other in self.sets if other is not one],
                    f"{overlap.WHAT[side]} images of {label}",
                )
                for label, one in zip(self.labels, self.sets)
            ]
        return self._kept[k, side]

    def fingerprint(self, k: int) -> str:
        """Hex digest of what split k of each set shows, how they are joined and which images are left out."""
        left_out = {side: [list(one.left_out) for one in self.overlaps(k, side)] for side in SEEN}
        words = ["joint", VERSION, self.name, list(self.classes), list(self.tissues), float(self.mpp), left_out]
        words += [[one.fingerprint(k) for one in self.sets]]
        return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()

    def subset(self, k: int, side: str, without: tuple[int, ...] = (), scale: float = 1.0) -> JointSubset:
        """The images of one side of split k of every set, but for those that are left out.

        Where a set's images are cut into patches, these have the set's `train_patch` once they are resampled to `mpp`.
        """
        if side not in SIDES:
            raise InputError(f"Expected one of the sides {', '.join(SIDES)}, found '{side}'; choose one.")
        assert not without and scale == 1.0, "of one set alone"
        return JointSubset(
            [
                JointSet(
                    one.subset(k, side, seen.left_out, self.mpp / one.mpp if differs(one.mpp, self.mpp) else 1.0),
                    label,
                    one.classes,
                    self.classes,
                    self.tissues,
                    trains=side == "train",
                )
                for one, label, seen in zip(self.sets, self.labels, self.overlaps(k, side))
            ]
        )

    def remarks(self, k: int | None) -> list[str]:
        """Which classes sets lack, and what is left out of validation and test; the sets' own remarks are theirs."""
        lines = list(self.source_remarks)
        for side in SEEN if k is not None else ():
            for label, seen in zip(self.labels, self.overlaps(k, side)):
                if seen.left_out:
                    lines.append(
                        f"{self.name}: {len(seen.left_out)} of {seen.images} {overlap.WHAT[side]} images of {label} "
                        "are known to the training on another of the sets and left out."
                    )
                if seen.unknown and side == "test":
                    lines.append(f"{self.name}: what the sets have in common is unknown beyond that: {seen.unknown}.")
        return list(dict.fromkeys(lines))
