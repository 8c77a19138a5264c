"""Lizard: colon, six types, x20, 238 images of many sizes in three splits.

Graham et al., "Lizard: a large-scale dataset for colonic nuclear instance segmentation and classification" (ICCV
Workshops 2021). CC BY-NC-SA 4.0.

`Lizard_Images1/*.png`, `Lizard_Images2/*.png`, `Lizard_Labels/Labels/*.mat` and `Lizard_Labels/info.csv`, at any place
below the root. A .mat holds inst_map, id and class: row k describes the nucleus id[k]; ids have gaps and are in any
order. info.csv says of each image (Filename) which set it was taken from (Source) and which of the three parts it
belongs to (Split). `source` is the image.

FOLD=k tests on part k and trains on the other two, of which the fifth of the images with the lowest hash of their names
is for validation. CoNIC is cut from these images, and some are of CoNSeP, GlaS, CRAG, DigestPath, PanNuke and TCGA.
"""

from collections import Counter
from pathlib import Path

import numpy as np

from benchmark.data import facts
from benchmark.data.files import archive, checks, label_files, names, text
from benchmark.data.nuclei import Nuclei
from benchmark.data.registry import DATASETS
from benchmark.data.source import Part, Split
from benchmark.data.sources import fields, patients
from benchmark.data.sources.conic import CLASSES, taken_from
from benchmark.runtime.errors import InputError

COLUMNS = ("filename", "source", "split")
SOURCES = ("consep", "crag", "digestpath", "dpath", "glas", "pannuke", "tcga")  # that the column Source names
ADVICE = "extract lizard_images1.zip, lizard_images2.zip and lizard_labels.zip there, or correct DATA_ROOT"


@DATASETS.register_module(name="lizard")
class Lizard(fields.Fields):
    """Lizard below `root`; image ids are consep_1 and the like. Arguments and errors: as of `Fields`."""

    name, title = "lizard", "Lizard"
    classes = CLASSES
    tissues = ("Colon",)
    mpp = 0.5
    sides = {1: "first", 2: "second", 3: "third"}

    def __init__(self, root: str | Path | None = None, patch: int = 256):
        super().__init__(root, patch)
        self._origins: dict[str, str] = {}  # `names.key` of each image -> its entry in the column Source

    def listed(self, root: Path) -> dict[int, list[fields.Field]]:
        images, labels, tables = [], [], []
        for folder, _, files in archive.walk(root, 4):
            if names.key(folder.name).startswith("lizard_images"):
                images += names.listing(folder, (".png",))
            elif names.key(folder.name) == "labels":
                labels += names.listing(folder, (".mat",))
            tables += [folder / name for name in files if names.key(name) == "info.csv"]
        for what, files in (("Lizard_Images1/*.png", images), ("Labels/*.mat", labels), ("info.csv", tables)):
            if not files:
                raise InputError(f"Lizard is incomplete below '{root}': expected {what}, found none; {ADVICE}.")
        if len(tables) > 1:
            raise InputError(f"'{tables[0]}' and '{tables[1]}' are both of Lizard; keep one of them.")
        pairs = fields.paired(images, labels, labels[0].parent, ".mat files of labels")
        rows = _table(tables[0], [names.stem(image) for image, _ in pairs])
        listed: dict[int, list[fields.Field]] = {}
        for pair in pairs:
            stem = names.stem(pair[0])
            row = rows[names.key(stem)]
            self._origins[names.key(stem)] = row["source"]
            field = fields.Field(*pair, name=stem, source=stem, tissue="Colon")
            listed.setdefault(int(row["split"]), []).append(field)
        return listed

    def splits(self) -> list[int]:
        return list(self.sides)

    def split(self, k: int, sources: dict[int, list[str]]) -> Split:
        if k not in self.sides:
            raise InputError(f"Lizard has the splits 1, 2 and 3, found FOLD={k}; choose one of these.")
        others = [fold for fold in self.sides if fold != k]
        chosen = set(patients.held_out(name for fold in others for name in sources.get(fold, [])))
        held = {fold: np.array([name in chosen for name in sources.get(fold, [])], bool) for fold in others}
        train = [Part(fold, np.flatnonzero(~held[fold])) for fold in others]
        return Split(train, [Part(fold, np.flatnonzero(held[fold])) for fold in others], [Part(k)])

    def origin(self, source: str) -> str:
        if not self._listed:  # which fills the column
            return ""
        return taken_from(self._origins.get(names.key(source), "")) or taken_from(source)

    def doubt(self, source: str) -> str:
        if not self._listed or names.key(self._origins.get(names.key(source), "")) in SOURCES:
            return ""
        return "has images of a Source that is not known, whose file names alone say whether they are of another set"

    def remarks(self) -> list[str]:
        """Another number of images than published, and the sets that the images were taken from."""
        lines = []
        n, published = sum(map(len, self._listed.values())), sum(facts.of("lizard").images.values())
        if n != published:
            lines.append(f"{self.name}: {n} images, the published set has {published}.")
        taken = ", ".join(f"{origin} ({count})" for origin, count in sorted(Counter(self._origins.values()).items()))
        lines.append(
            f"{self.name}: its images were taken from {taken}, and CoNIC from them: never train on one and test on the "
            "other without leaving them out."
        )
        if strange := sorted({origin for origin in self._origins.values() if names.key(origin) not in SOURCES}):
            n = sum(origin in strange for origin in self._origins.values())
            lines.append(
                f"{self.name}: WARNING: the Source of {n} image{'s' * (n > 1)} is none of those known "
                f"({', '.join(SOURCES)}), found {', '.join(strange)}: whether other data sets hold "
                f"{'them' if n > 1 else 'it'} is judged by file names alone, and unknown beyond that."
            )
        return lines

    def nuclei(self, field: fields.Field, shape: tuple[int, int], doubts: checks.Doubts) -> Nuclei:
        labels = label_files.labels(field.labels, shape, self.classes, complete=True)
        if labels.types is None:
            raise InputError(
                f"{field.labels}: expected class and id beside inst_map, found no types; extract it again."
            )
        doubts.add(str(field.labels), labels.instances, labels.types)
        return Nuclei.from_labels(labels.instances, labels.types, self.mpp)


def _table(path: Path, stems: list[str]) -> dict[str, dict[str, str]]:
    """`names.key` of an image -> its row of info.csv; a row for each image, and none of others.

    Raises:
        InputError: other columns, an image without a row or with two, no source, or a split other than 1, 2 and 3.
    """
    rows = text.table(path)
    columns = list(rows[0]) if rows else []
    if not set(COLUMNS) <= set(columns):
        raise InputError(
            f"{path}: expected the columns Filename, Source and Split, found {', '.join(columns)}; {ADVICE}."
        )
    row_of: dict[str, dict[str, str]] = {}
    for row in rows:
        stem = names.key(names.stem(row["filename"]))
        if stem in row_of:
            raise InputError(f"{path}: expected a row for each image, found two of '{stem}'; keep one of them.")
        if not names.key(row["source"]):
            raise InputError(
                f"{path}: expected Source to name the set that '{stem}' was taken from, found nothing; {ADVICE}."
            )
        if text.whole(row["split"]) not in (1, 2, 3):
            raise InputError(f"{path}: expected Split to be 1, 2 or 3, found '{row['split']}' of '{stem}'; correct it.")
        row_of[stem] = row | {"split": str(text.whole(row["split"]))}
    lonely = sorted({*map(names.key, stems)} ^ row_of.keys())
    if lonely:
        state = "has no image" if lonely[0] in row_of else "has no row"
        raise InputError(
            f"{path}: expected a row for each of {len(stems)} images, found {len(row_of)}, and '{lonely[0]}' {state}; "
            f"{ADVICE}."
        )
    return row_of
