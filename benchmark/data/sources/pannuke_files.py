"""Finding the files of PanNuke's folds below a root.

Zips, extracted folders, symlinks, any nesting and spelling of 'Fold K' are taken;
a path that names two folds is refused.
"""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from benchmark.data.files import archive, names, text
from benchmark.data.files.archive import Member
from benchmark.data.sources import cellvit_layout
from benchmark.runtime.errors import InputError

ARRAYS = ("images.npy", "types.npy", "masks.npy")
FOLDS = (1, 2, 3)
ROW = 4096  # bytes of a row of a provenance file; real ones have some dozens
REAL_TYPES = {"4-class", "5-class"}


@dataclass(frozen=True)
class Origin:
    """One patch in the provenance file: its source image, and whether its types are real."""

    source: str = ""
    typed: bool = True


@dataclass(frozen=True)
class PublishedFold:
    """The three arrays of a fold as published; `provenance` is None where the data name none."""

    arrays: dict[str, Member]
    provenance: Member | None


class PanNukeFiles:
    """The folds below `root`, a folder or one zip.

    Raises:
        InputError: on first use, when the root is missing.
    """

    def __init__(self, root: Path | None):
        self._root = root

    @cached_property
    def root(self) -> Path:
        return archive.check_root(self._root, "pannuke")

    @cached_property
    def listing(self) -> archive.Listing:
        provenance = [f"provenance_fold{fold}.csv" for fold in FOLDS]
        listing = archive.find(self.root, {*ARRAYS, "provenance.csv", *provenance})
        if self.root.is_file():
            beside = [self.root.parent / name for name in provenance]
            listing.members += [Member(path, "", (path.name,)) for path in beside if path.is_file()]
        return listing

    @cached_property
    def per_image(self) -> dict[int, Path]:
        """Raw fold -> folder in CellViT's layout, where the fold is not there as published."""
        folders = cellvit_layout.find(self.root) if self.root.is_dir() else {}
        return {fold: folder for fold, folder in folders.items() if fold in FOLDS and not self._ranked(fold, True)}

    @cached_property
    def _groups(self) -> dict[tuple, dict[str, Member]]:
        groups: dict[tuple, dict[str, Member]] = {}
        for member in self.listing.members:
            if member.name in ARRAYS:
                groups.setdefault(_place(member), {})[member.name] = member
        return groups

    def _ranked(self, fold: int, whole: bool) -> list[tuple]:
        """Places that hold all arrays of a fold (whole) or some of them: extracted ones before zips, shallow first."""
        places = []
        for place, arrays in self._groups.items():
            if place[0] == fold and (len(arrays) == len(ARRAYS)) == whole:
                places.append(place)
        return sorted(places, key=lambda place: (_rank(place), place))

    def folds(self) -> list[int]:
        """Raw folds of which at least a part is there, in either layout.

        Raises:
            InputError: a zip cannot be opened that holds, or may hold, a fold which is not there otherwise.
        """
        folds = sorted(set(FOLDS) & ({place[0] for place in self._groups} | set(self.per_image)))
        lacking = [fold for fold in FOLDS if fold not in folds]
        for path, error in self.listing.broken.items():
            if lacking and _number(path.stem) in (None, *lacking):
                raise archive.unreadable(path, error)
        return folds

    def published(self, fold: int) -> PublishedFold:
        """The files of a fold as published.

        Raises:
            InputError: it is missing, incomplete, unreadable, or there twice.
        """
        places = self._ranked(fold, whole=True)
        if not places:
            self.complain(fold)
        if len(places) > 1 and _rank(places[0]) == _rank(places[1]):
            first, second = (self._groups[place]["images.npy"] for place in places[:2])
            raise InputError(f"Fold {fold} lies twice below '{self.root}': {first} and {second}; keep one of them.")
        inside = [m for m in self.listing.members if m.name == "provenance.csv"]
        inside = [m for m in inside if (str(m.file) if m.inner else "", m.below[:-1]) == places[0][1:]]
        return PublishedFold(self._groups[places[0]], self.beside(fold) or next(iter(inside), None))

    def passed_over(self, fold: int) -> str:
        """A sentence where a copy of a fold, with files of other sizes, lies beside the one that is read, or ""."""
        copies = [self._groups[place] for place in self._ranked(fold, whole=True)]
        other = archive.unlike(copies[0], copies[1:]) if copies else None
        if not other:
            return ""
        return (
            f"fold {fold} lies there twice: {copies[0]['images.npy']} is read, {other['images.npy']}, whose files have "
            "other sizes, is not; remove the copy that is not meant."
        )

    def complain(self, fold: int):
        """Raise the InputError that says why a fold cannot be had."""
        for path, error in self.listing.broken.items():
            if _number(path.stem) in (fold, None):
                raise archive.unreadable(path, error)
        for place in self._ranked(fold, whole=False):
            arrays = self._groups[place]
            missing = ", ".join(name for name in ARRAYS if name not in arrays)
            raise InputError(
                f"Fold {fold} is incomplete: beside {next(iter(arrays.values()))} expected "
                f"images.npy, types.npy and masks.npy, found no {missing}; extract the whole archive."
            )
        present = ", ".join(map(str, self.folds())) or "none"
        raise InputError(
            f"Fold {fold} of PanNuke is missing below '{self.root}': expected 'fold_{fold}.zip' or "
            f"the extracted 'Fold {fold}/images/fold{fold}/images.npy', found folds: {present}; "
            "download it or correct DATA_ROOT."
        )

    def beside(self, fold: int) -> Member | None:
        """provenance_fold<K>.csv, the shallowest. Raises InputError for two of the same depth."""
        files = [m for m in self.listing.members if m.name == f"provenance_fold{fold}.csv"]
        files.sort(key=lambda m: (len(m.below), str(m)))
        if len(files) > 1 and len(files[0].below) == len(files[1].below):
            raise InputError(f"{files[0].name} lies twice: {files[0]} and {files[1]}; keep one of them.")
        return files[0] if files else None


def origins(provenance: Member | None, n: int) -> list[Origin]:
    """The origin of each of n patches. Raises InputError when the file does not describe n patches."""
    if provenance is None:
        return [Origin()] * n
    rows = text.table(provenance, most=ROW * (n + 1))
    if len(rows) != n:
        raise InputError(f"{provenance}: expected a row for each of {n} images, found {len(rows)} rows; correct it.")
    if "types_real" not in rows[0]:
        columns = ", ".join(map(str, rows[0]))
        raise InputError(f"{provenance}: expected the column types_real, found {columns}; correct its header.")
    order = [text.whole(row.get("index", str(i))) for i, row in enumerate(rows)]
    if {*order} != {*range(n)}:
        raise InputError(f"{provenance}: expected the column index to hold each of 0..{n - 1} once; correct it.")
    result = [Origin()] * n
    for i, row in zip(order, rows):
        result[i] = Origin(row.get("source_image", ""), row["types_real"] in REAL_TYPES)
    return result


def _number(name: str) -> int | None:
    match = re.fullmatch(r"fold[ _-]*(\d+)", name, re.IGNORECASE)
    return int(match[1]) if match else None


def _rank(place: tuple) -> tuple:
    return bool(place[1]), len(place[2])


def _place(member: Member) -> tuple:
    """(fold, zip or "", components above images/ or masks/) of one of the three arrays.

    Raises:
        InputError: the names on the way disagree about the fold, as in 'Fold 1/images/fold2'.
    """
    folders = member.below[:-1]
    numbers = {n for n in map(_number, folders) if n is not None}
    if len(numbers) > 1:
        raise InputError(
            f"{member} is mislabelled: expected one fold, found the folds {sorted(numbers)} in its path; "
            "rename it or fetch it again."
        )
    inner = [i for i, name in enumerate(folders) if names.key(name) in ("images", "masks")]
    above = folders[: inner[-1]] if inner else folders
    return (next(iter(numbers), 0), str(member.file) if member.inner else "", above)
