"""Data sets of whole fields with a training and a test part, as CoNSeP, MoNuSeg and MoNuSAC are.

A field is an image as it was annotated, of 1000 x 1000 px or of any size. It is kept whole; training and validation see
it in patches (`Source.train_patch`), the test side is of whole fields, as the published scores are.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from benchmark.data import facts
from benchmark.data.files import archive, checks, label_files, names
from benchmark.data.nuclei import Nuclei, Sample
from benchmark.data.source import Source, Split
from benchmark.data.sources import parquet_folds, patients
from benchmark.data.sources.mirror import Mirror
from benchmark.runtime.errors import InputError

SIDES = {patients.TRAIN: "train", patients.TEST: "test"}


@dataclass(frozen=True)
class Field:
    """The files of one field and what it is called.

    Attributes:
        image, labels: its files. name: its id. source: its patient, or itself where the data name none.
        tissue: "" where the data name none.
        more: further files that decide its labels.
    """

    image: Path
    labels: Path
    name: str
    source: str
    tissue: str = ""
    more: tuple[Path, ...] = ()


class Fields(Source):
    """A data set of fields below `root`, an extracted folder: raw fold 1 is the training part, 2 the test part.

    Args:
        patch: side in px of the patches in which training and validation see the fields.

    Raises:
        InputError: a patch of another size than a multiple of 16 from 16 to 8192.
    """

    varies = True
    title = ""  # as sentences have it
    sides = SIDES  # raw fold -> what its part is called
    mirrored: tuple[str, ...] | None = None  # classes of the categories of its Parquet files; None: there are none

    def __init__(self, root: str | Path | None = None, patch: int = 256):
        super().__init__(root)
        if type(patch) is not int or not 16 <= patch <= 8192 or patch % 16:
            raise InputError(f"{self.name}@patch={patch}: expected a multiple of 16 from 16 to 8192; choose one.")
        self.train_patch = patch
        self.licence = facts.of(type(self).name).licence_name

    @property
    def tissues(self) -> tuple[str, ...]:
        """Those that Parquet files name; the published files name none unless a subclass knows better."""
        return self._mirror.tissues if self.root and self.root.exists() and self._mirror else ()

    def listed(self, root: Path) -> dict[int, list[Field]]:
        """Raw fold -> its fields in order, of the folds that lie below `root`. Raises InputError: none lies there, or
        an image without labels."""
        raise NotImplementedError

    def nuclei(self, field: Field, shape: tuple[int, int], doubts: checks.Doubts) -> Nuclei:
        """The nuclei of a field whose image has this shape (H, W); names are filled in by the caller.

        Raises:
            InputError: labels that cannot be read, or are of another image.
        """
        raise NotImplementedError

    def folds(self) -> list[int]:
        return self._mirror.folds() if self._mirror else sorted(self._listed)

    def splits(self) -> list[int]:
        return [1]

    def split(self, k: int, sources: dict[int, list[str]]) -> Split:
        return patients.split(self.title, k, sources.get(patients.TRAIN, []))

    def identity(self, fold: int) -> dict:
        if self._mirror:
            return self._mirror.identity(fold)
        digest = hashlib.sha256()
        for field in self._of(fold):
            label_files.check_image(field.image)  # by its header, before the first one is converted
            for path in (field.image, field.labels, *field.more):
                digest.update(f"{path.name} {archive.Member(path, '', (path.name,)).digest()}\n".encode())
            digest.update(f"{field.name}\n{field.source}\n{field.tissue}\n".encode())
        return {"layout": type(self).name, "fold": fold, "n": self.count(fold), "files": digest.hexdigest()}

    def count(self, fold: int) -> int:
        return self._mirror.count(fold) if self._mirror else len(self._of(fold))

    def remarks(self) -> list[str]:
        """Parts with other numbers of images than published, and the patients on whom is validated."""
        lines = []
        published = facts.of(type(self).name).images
        for fold, side in SIDES.items():
            present, expected = len(self._sources(fold)), published.get(side)
            if fold in self.folds() and expected is not None and present != expected:
                lines.append(f"{self.name}: its {side} part has {present} images, the published one has {expected}.")
        if chosen := patients.held_out(self._sources(patients.TRAIN)):
            lines.append(f"{self.name}: validation is on the training images of {', '.join(chosen)}.")
        return lines

    def samples(self, fold: int, start: int = 0) -> Iterator[Sample]:
        if self._mirror:
            yield from self._mirror.samples(fold, start, self.mpp, self.name)
            return
        with checks.Doubts(self.classes) as doubts:
            for field in self._of(fold)[start:]:
                image = label_files.image(field.image, doubts)
                nuclei = self.nuclei(field, image.shape[:2], doubts)
                yield Sample(image, replace(nuclei, tissue=field.tissue, image_id=field.name, source=field.source))

    def _sources(self, fold: int) -> list[str]:
        """`source` of each image of a fold; empty for one that is missing."""
        if self._mirror:
            return self._mirror.sources(fold) if fold in self.folds() else []
        return [field.source for field in self._listed.get(fold, [])]

    @cached_property
    def _mirror(self) -> Mirror | None:
        """The parts as Parquet files, where the data set has such and they lie below the root."""
        if self.mirrored is None:
            return None
        root = archive.check_root(self.root, self.name)
        return Mirror(root, self.title, self.mirrored, self.classes) if parquet_folds.listed(root) else None

    @cached_property
    def _listed(self) -> dict[int, list[Field]]:
        root = archive.check_root(self.root, self.name)
        if not root.is_dir():
            raise InputError(
                f"{root}: expected the folder of {self.title}, found a file; extract it and name its folder."
            )
        return self.listed(root)

    def _of(self, fold: int) -> list[Field]:
        if fold not in self._listed:
            raise InputError(
                f"{self.title}: its {self.sides[fold]} part is missing below '{self.root}'; extract it there, or "
                "correct DATA_ROOT."
            )
        return self._listed[fold]


def paired(images: list[Path], labels: list[Path], where, what: str) -> list[tuple[Path, Path]]:
    """(image, labels) by the stems of their names, in natural order of these.

    Args:
        where: the folder, for sentences. what: the labels, such as ".mat files of labels".

    Raises:
        InputError: an image without labels, labels without an image, or two files of one name.
    """
    sides = []
    for paths in (images, labels):
        of_stem: dict[str, Path] = {}
        for path in paths:
            other = of_stem.setdefault(names.key(path.stem), path)
            if other != path:
                raise InputError(
                    f"{where}: expected one file for each image, found {other.name} and {path.name}; keep one."
                )
        sides.append(of_stem)
    lonely = sorted(sides[0].keys() ^ sides[1].keys())
    if lonely:
        state = "has none" if lonely[0] in sides[0] else "has no image"
        raise InputError(
            f"{where}: expected {what}, one for each of {len(images)} images, found {len(labels)}, and '{lonely[0]}' "
            f"{state}; extract the whole archive."
        )
    return [(sides[0][stem], sides[1][stem]) for stem in sorted(sides[0], key=natural)]


def natural(name: str) -> list:
    """A key that sorts train_2 before train_10."""
    return [int(part) if k % 2 else part for k, part in enumerate(re.split(r"([0-9]{1,18})", name))]
