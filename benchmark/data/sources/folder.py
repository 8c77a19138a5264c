"""Anyone's own data: a folder with images, label maps and a small `dataset.toml`.

    classes = ["tumour", "lymphocyte"]   # type k + 1 is classes[k]; [] for nuclei without types
    mpp = 0.25                           # micrometres per pixel
    name = "mystudy"                     # optional; names the results; default "folder"
    tissue = "Colon"                     # optional; for all images the table gives none for
    patch = 256                          # optional; side of the patches in pixels, a multiple of 16
    folds = 5                            # optional; at least 3, see below
    [files]                              # optional; paths beside dataset.toml, these being the defaults
    images = "images"                    # RGB, 8 bit (or any numbers in 0..255, rounded): PNG, TIFF, JPEG, npy
    labels = "labels"                    # same stem: instance map, 0 = background: PNG, TIFF, npy or mat
    types = "types"                      # same stem: type map, 0 = none; not needed where a mat has types
    table = "images.csv"                 # columns file, and any of fold, source, tissue; a row per image

Images may differ in size. Each is cut from its top left corner into patches of `patch` x `patch`; what the
last ones lack, and what an image smaller than a patch lacks, is filled with white that holds no nuclei:
nothing is left out, counted twice or made up. Nuclei on a cut become one nucleus in each patch, as in any
patch dataset.

Splits keep the patches of a source together: the slide or patient named in the table's `source`, else the
image. Without folds there is one split, sources dealt 70 : 10 : 20. With `folds = n` sources are dealt to n
folds, or the table's `fold` column says 1..n; split k then tests on fold k, validates on the next one and
trains on the others. A `fold` column of the words train, val and test is one split, used as it is.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmark.data.files import archive, checks, label_files, names, text
from benchmark.data.nuclei import Nuclei, Sample
from benchmark.data.registry import DATASETS
from benchmark.data.source import Part, Source, Split
from benchmark.data.sources import by_source, folder_settings
from benchmark.runtime.errors import InputError

SHARES = (0.7, 0.1, 0.2)
_WORDS = ("train", "val", "test")


@dataclass(frozen=True)
class _Image:
    """One image file with its place in the dataset; `types` is None without a type map file."""

    image: Path
    labels: Path
    types: Path | None
    fold: int
    source: str
    tissue: str


@DATASETS.register_module(name="folder")
class Folder(Source):
    """The dataset described by `<root>/dataset.toml`.

    Raises:
        InputError: dataset.toml is missing or wrong.
    """

    name = "folder"

    def __init__(self, root: str | Path | None = None):
        super().__init__(root)
        self.root = archive.check_root(self.root, "folder")
        settings = folder_settings.read(self.root / "dataset.toml")
        self.name = settings["name"]
        self.classes = tuple(settings["classes"])
        self.mpp = float(settings["mpp"])
        self.patch = settings["patch"]
        self._tissue, self._folds = settings["tissue"], settings["folds"]
        self._paths = {
            key: folder_settings.below(self.root, settings["files"].get(key, default))
            for key, default in folder_settings.FILES.items()
        }
        for key in settings["files"]:
            if not self._paths[key].exists():
                raise InputError(f"{self.root / 'dataset.toml'}: '{self._paths[key]}' is missing; correct files.{key}.")

    @cached_property
    def tissues(self) -> tuple[str, ...]:
        return tuple(sorted({image.tissue for image in self._images} - {""}))

    def folds(self) -> list[int]:
        return sorted({image.fold for image in self._images})

    def splits(self) -> list[int]:
        return [1] if self._words or len(self.folds()) == 1 else self.folds()

    def split(self, k: int, sources: dict[int, list[str]]) -> Split:
        if k not in self.splits():
            raise InputError(
                f"Dataset '{self.name}' has the splits {self.splits()}, found FOLD={k}; choose one of these."
            )
        folds = self.folds()
        if self._words:
            return Split([Part(1)], [Part(2)], [Part(3)])
        if len(folds) > 1:
            val = folds[k % len(folds)]
            return Split([Part(f) for f in folds if f not in (k, val)], [Part(val)], [Part(k)])
        names = sources.get(1, [])
        if 0 < len(set(names)) < 3:
            raise InputError(
                f"Dataset '{self.name}': expected at least 3 sources to split by, found {len(set(names))}; "
                "add images of others, or name each image's part (train, val or test) in the column fold of images.csv."
            )
        return Split(*([Part(1, rows)] for rows in by_source.deal(names, SHARES)))

    def identity(self, fold: int) -> dict:
        digest = hashlib.sha256()
        for entry in self._of(fold):
            for path in (entry.image, entry.labels, entry.types):
                words = archive.Member(path, "", (path.name,)).digest() if path else "none"
                digest.update(f"{path.name if path else ''} {words}\n".encode())
            digest.update(f"{entry.source}\n{entry.tissue}\n".encode())
        settings = {"patch": self.patch, "mpp": self.mpp, "classes": list(self.classes)}
        return {
            "layout": "folder",
            "fold": fold,
            "n": self.count(fold),
            "files": digest.hexdigest(),
        } | settings

    def count(self, fold: int) -> int:
        return sum(len(self._tiles(entry)) for entry in self._of(fold))

    def remarks(self) -> list[str]:
        """Tissues and sources in several spellings, and pictures of kinds that are not read."""
        lines = []
        for what, (_, others) in (("tissues", self._spelt_tissues), ("sources", self._spelt_sources)):
            if others:
                lines.append(f"{self.name}: {what} that differ by capitals, blanks or form alone are one: {others}.")
        if unread := names.unread(self._paths["images"]):
            lines.append(f"{self.name}: {self._paths['images']}: {unread}")
        return lines

    def samples(self, fold: int, start: int = 0) -> Iterator[Sample]:
        with checks.Doubts(self.classes) as doubts:
            for entry in self._of(fold):
                tiles = self._tiles(entry)
                if start >= len(tiles):
                    start -= len(tiles)
                    continue
                sample = self._read(entry, doubts)
                for top, left in tiles[start:]:
                    stem = names.stem(entry.image)
                    name = f"{stem}-{top}-{left}" if len(tiles) > 1 else stem
                    yield self._cut(sample, top, left, name)
                start = 0

    def _of(self, fold: int) -> list[_Image]:
        return [image for image in self._images if image.fold == fold]

    def _tiles(self, entry: _Image) -> list[tuple[int, int]]:
        if entry.image not in self._sizes:
            self._sizes[entry.image] = label_files.size(entry.image)
        height, width = self._sizes[entry.image]
        return [(top, left) for top in range(0, height, self.patch) for left in range(0, width, self.patch)]

    @cached_property
    def _sizes(self) -> dict[Path, tuple[int, int]]:
        return {}

    def _read(self, entry: _Image, doubts: checks.Doubts) -> Sample:
        """A whole image, padded to whole patches; `doubts` looks at its labels."""
        pixels = label_files.image(entry.image, doubts)
        shape = pixels.shape[:2]
        labels = label_files.labels(entry.labels, shape, self.classes)
        types = label_files.type_map(entry.types, shape, self.classes) if entry.types else labels.types
        if types is not None and types.ndim == 2:
            checks.inside(types, labels.instances, str(entry.types or entry.labels))
        doubts.add(str(entry.labels), labels.instances, types)
        meta = {"tissue": entry.tissue, "source": entry.source, "typed": types is not None}
        nuclei = Nuclei.from_labels(labels.instances, types, self.mpp, **meta)
        beyond = [(0, -side % self.patch) for side in shape]
        padded = None if nuclei.type_map is None else np.pad(nuclei.type_map, beyond)
        nuclei = nuclei.with_map(np.pad(nuclei.instances, beyond), padded)
        return Sample(np.pad(pixels, [*beyond, (0, 0)], constant_values=255), nuclei)

    def _cut(self, sample: Sample, top: int, left: int, name: str) -> Sample:
        image = sample.image[top : top + self.patch, left : left + self.patch]
        return Sample(image, replace(sample.nuclei.crop(top, left, self.patch, self.patch), image_id=name))

    @cached_property
    def _words(self) -> bool:
        """Whether the table names train, val and test."""
        folds = {names.key(row.get("fold", "")) for row in self._table.values()} - {""}
        return bool(folds) and folds <= set(_WORDS)

    @cached_property
    def _table(self) -> dict[str, dict[str, str]]:
        path = self._paths["table"]
        if not path.exists():
            return {}
        rows = text.table(path)
        for name in rows[0] if rows else ["(nothing)"]:
            if name not in ("file", "fold", "source", "tissue"):
                raise InputError(
                    f"{path}: expected the columns file, fold, source and tissue, found '{name}'; rename it."
                )
        if "file" not in rows[0]:
            raise InputError(f"{path}: expected the column file; add it.")
        row_of: dict[str, dict[str, str]] = {}
        for row in rows:
            whole = names.key(row["file"])
            stem = whole if whole in self._files else names.key(names.stem(row["file"]))
            if stem in row_of:
                raise InputError(f"{path}: expected a row for each image, found two for '{stem}'; keep one of them.")
            row_of[stem] = row
        return row_of

    @cached_property
    def _files(self) -> dict[str, Path]:
        """`names.key` of the stem -> file of each image."""
        return label_files.by_stem(self._paths["images"], label_files.IMAGES)

    @cached_property
    def _images(self) -> list[_Image]:
        images = self._files
        labels = label_files.by_stem(self._paths["labels"], label_files.LABELS)
        folder = self._paths["types"]
        types = label_files.by_stem(folder, label_files.LABELS[:-1]) if folder.exists() else {}
        _same(images, labels, self._paths["labels"])
        if types:
            _same(images, types, folder)
        elif self.classes and not any(path.suffix.lower() == ".mat" for path in labels.values()):
            raise InputError(
                f"{self.root / 'dataset.toml'} lists {len(self.classes)} classes, but the type maps "
                f"are missing: expected the folder '{folder}' or labels in mat files with types; add "
                "them or set classes = []."
            )
        if self._table:
            _same(images, self._table, self._paths["table"])
        (sources, _), (tissues, _) = self._spelt_sources, self._spelt_tissues
        entries = []
        for stem, source, tissue, fold in zip(images, sources, tissues, self._dealt(list(images), sources)):
            entries.append(_Image(images[stem], labels[stem], types.get(stem), fold, source, tissue))
        return entries

    @cached_property
    def _spelt_sources(self) -> tuple[list[str], str]:
        """Source of each image, each in its first spelling; the others in words, see `names.one_spelling`."""
        named = {stem: self._table.get(stem, {}).get("source") for stem in self._files}
        return names.one_spelling([named[stem] or names.stem(path) for stem, path in self._files.items()])

    @cached_property
    def _spelt_tissues(self) -> tuple[list[str], str]:
        """As `_spelt_sources`, of the tissues."""
        return names.one_spelling([self._table.get(stem, {}).get("tissue") or self._tissue for stem in self._files])

    def _dealt(self, stems: list[str], sources: list[str]) -> list[int]:
        """Raw fold of each image."""
        column = [self._table.get(stem, {}).get("fold", "") for stem in stems]
        if any(column):
            return self._folds_of_table(column, sources)
        if not self._folds:
            return [1] * len(stems)
        if len(set(sources)) < self._folds:
            raise InputError(
                f"Dataset '{self.name}': expected at least {self._folds} sources, found {len(set(sources))}; "
                "lower folds in dataset.toml, or add images of other sources."
            )
        fold_of = {}
        for fold, rows in enumerate(by_source.deal(sources, [1.0] * self._folds), 1):
            fold_of.update(dict.fromkeys(rows.tolist(), fold))
        return [fold_of[i] for i in range(len(stems))]

    def _folds_of_table(self, column: list[str], sources: list[str]) -> list[int]:
        """Raw fold of each image from the table's column `fold`; train, val and test are the folds 1, 2 and 3.

        Raises:
            InputError: the column does not name the folds 1..n, or names two for one source.
        """
        folds = [_fold_number(word) for word in column]
        n = max(folds)
        complete = set(folds) == set(range(1, n + 1)) and n >= 3
        mixed = not self._words and set(map(names.key, column)) & set(_WORDS)
        if not complete or mixed or (self._folds and self._folds != n):
            raise InputError(
                f"{self._paths['table']}: expected each image's fold as 1..n (n >= 3), all in "
                f"use, or as train, val and test, found "
                f"{', '.join(sorted({word or 'nothing' for word in column}))}; correct the column."
            )
        fold_of: dict[str, int] = {}
        for source, fold in zip(sources, folds):
            if fold_of.setdefault(source, fold) != fold:
                raise InputError(
                    f"{self._paths['table']}: expected each source in one fold, found '{source}' "
                    f"in folds {fold_of[source]} and {fold}; put its images into one."
                )
        return folds


def _fold_number(word: str) -> int:
    """Raw fold that an entry of the column `fold` names; 0 for an entry that names none."""
    if names.key(word) in _WORDS:
        return _WORDS.index(names.key(word)) + 1
    return text.whole(word) or 0


def _same(images: dict, others: dict, where: Path) -> None:
    """Raises InputError unless both have the same stems."""
    lonely = sorted(set(images) ^ set(others))
    if lonely:
        state = "has none" if lonely[0] in images else "has no image"
        raise InputError(
            f"{where}: expected one entry for each of {len(images)} images, found {len(others)}, and "
            f"'{lonely[0]}' {state}; add what is missing, or take the other away."
        )
