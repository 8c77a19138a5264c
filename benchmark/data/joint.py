"""Several data sets to train on at once: `DATASET="pannuke:/data/pannuke+monuseg:/data/monuseg"`.

Each set keeps its own split, its own validation and its own prepared folds. Classes and tissues are the union by name,
in the order in which the sets name them. What a set lacks is not guessed: see `data.joint_sides`.
"""

import itertools

from benchmark.data.files.class_names import listed
from benchmark.data.files.names import key
from benchmark.data.joint_sides import JointPrepared
from benchmark.data.set_names import JOIN
from benchmark.data.source import Source
from benchmark.data.store.prepare import Prepared
from benchmark.runtime.errors import InputError


class Joint(Source):
    """Several data sets as one.

    Args:
        parts: the sets, in order. labels: what the results of each go by.

    Attributes:
        mpp: of the first set, to whose resolution the images of all are resampled for training.

    Raises:
        InputError: one set twice, classes that nothing compares with each other, or no split that all have.
    """

    def __init__(self, parts: list[Source], labels: list[str]):
        super().__init__(None)
        self.parts, self.labels = tuple(parts), tuple(labels)
        self.name = JOIN.join(labels)
        self._check_names()
        self.classes = union(part.classes for part in parts)
        self.tissues = union(part.tissues for part in parts)
        self.mpp = parts[0].mpp
        licences = [f"{label}: {part.licence or 'not known'}" for label, part in zip(labels, parts)]
        self.licence = "; ".join(licences) if any(part.licence for part in parts) else ""
        self._check_classes()
        if not self.splits():
            own = "; ".join(f"{label} has {listed(map(str, part.splits()))}" for label, part in zip(labels, parts))
            raise InputError(
                f"{self.name}: expected a split that all of these sets have, found none ({own}); join others."
            )

    def folds(self) -> list[int]:
        """The folds of all sets, numbered from 1 in the sets' order."""
        return list(range(1, sum(len(part.folds()) for part in self.parts) + 1))

    def splits(self) -> list[int]:
        """Those that all sets have: split k is split k of each."""
        return [k for k in self.parts[0].splits() if all(k in part.splits() for part in self.parts)]

    def remarks(self) -> list[str]:
        """Which of the classes each set lacks; the sets' own remarks are theirs."""
        lines = []
        for label, part in zip(self.labels, self.parts):
            own = {key(name) for name in part.classes}
            lacking = [name for name in self.classes if key(name) not in own]
            if not own and self.classes:
                lines.append(f"{self.name}: {label} names no types; its images are left out of type losses.")
            elif lacking:
                lines.append(
                    f"{self.name}: {label} has no {listed(lacking)}: its images say nothing of these classes in "
                    "training, and are left out of mPQ and per-class scores here."
                )
        return lines

    def joined(self, parts: list[Prepared]) -> JointPrepared:
        """The prepared sets as one."""
        return JointPrepared(self, parts)

    def _check_names(self) -> None:
        for label in self.labels:
            if JOIN in label:
                raise InputError(
                    f"'{label}' cannot be joined with other data sets: + stands between the names of sets; name it "
                    "otherwise."
                )
        for (one, first), (other, second) in itertools.combinations(zip(self.labels, self.parts), 2):
            name = first.name.partition("@")[0]
            # drawn images differ by their seed; of all other sets a scheme or an argument makes no other images
            if name == second.name.partition("@")[0] and (one == other or name != "synthetic"):
                raise InputError(f"{self.name}: expected each data set once, found {one} and {other}; leave one out.")

    def _check_classes(self) -> None:
        """Raises InputError where the sets fall into groups without a class in common: no image would ever compare the
        classes of one with those of another."""
        groups: list[tuple[set[str], list[str]]] = []  # (keys of classes, labels of the sets)
        for label, part in zip(self.labels, self.parts):
            if not part.classes:
                continue
            keys, labels = {key(name) for name in part.classes}, [label]
            apart = []
            for others, names in groups:
                if others & keys:
                    keys, labels = keys | others, names + labels
                else:
                    apart.append((others, names))
            groups = [*apart, (keys, labels)]
        if len(self.classes) > 255:
            raise InputError(f"{self.name}: expected at most 255 classes, found {len(self.classes)}; give a scheme.")
        if len(groups) > 1:
            classes = dict(zip(self.labels, (listed(part.classes) for part in self.parts)))
            one, other = groups[0][1][0], groups[1][1][0]
            raise InputError(
                f"{self.name}: expected a class in common, {one} has {classes[one]} and {other} has {classes[other]}; "
                "no image would compare the classes of one with the other's; give them a scheme (classes=, "
                "docs/datasets/README.md)."
            )


def union(lists) -> tuple[str, ...]:
    """Names in their order, each once: those of one key are one name, spelt as where it comes first."""
    names: dict[str, str] = {}
    for own in lists:
        for name in own:
            names.setdefault(key(name), name)
    return tuple(names.values())
