"""NuCLS: breast cancer, 13 types, 0.2 µm/px, fields of many slides of TCGA.

Amgad et al., "NuCLS: a scalable crowdsourcing approach and dataset for nucleus classification and segmentation in
breast cancer" (GigaScience 2022). CC0.

`rgb/*.png`, `csv/*.csv` and `mask/*.png` of one name each, beside each other at any place below the root. A row of the
csv is a nucleus: raw_classification, type (polyline or rectangle), coords_x and coords_y (vertices, between commas).
A rectangle has no outline, hence is no segmentation: it is left out, counted and said. Nuclei reach beyond the image;
what lies there is cut off. For outlines that overlap see `data.sources.outlined`. The mask, which paints rectangles as
it paints outlines, is looked at for one thing only: whether it is of this image.

`source` is the patient, and the hospital stands in the name too (TCGA-A1-A0SK: A1). One split, hospitals dealt to
training, validation and test in the ratio 70 : 10 : 20 of fields: which hospital stands in which of the published folds
is not said by these files.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmark.data.files import archive, checks, names, raster, text
from benchmark.data.files.aperio import Outline
from benchmark.data.files.tally import Tally
from benchmark.data.nuclei import Nuclei, Sample
from benchmark.data.registry import DATASETS
from benchmark.data.source import Part, Split
from benchmark.data.sources import by_source, fields, outlined
from benchmark.runtime.errors import InputError

CLASSES = (
    "tumor", "fibroblast", "lymphocyte", "plasma_cell", "macrophage", "mitotic_figure", "vascular_endothelium",
    "myoepithelium", "apoptotic_body", "neutrophil", "ductal_epithelium", "eosinophil", "unlabeled",
)  # fmt: skip
SHARES = (0.7, 0.1, 0.2)
FOLDERS = ("rgb", "csv", "mask")
COLUMNS = ("raw_classification", "type", "coords_x", "coords_y")
_PATIENT = re.compile(r"TCGA-([A-Z0-9]{2})-[A-Z0-9]{4}")


@DATASETS.register_module(name="nucls")
class NuCLS(fields.Fields):
    """NuCLS below `root`; image ids are the names of the fields. Arguments and errors: as of `Fields`."""

    name, title = "nucls", "NuCLS"
    classes = CLASSES
    tissues = ("Breast",)
    mpp = 0.2
    sides = {1: "only"}

    def listed(self, root: Path) -> dict[int, list[fields.Field]]:
        places = []
        for folder, below, _ in archive.walk(root, 5):
            named = {names.key(name): folder / name for name in below}
            if named.keys() >= {*FOLDERS}:
                places.append([named[name] for name in FOLDERS])
        if not places:
            raise InputError(
                f"NuCLS is missing below '{root}': expected the folders rgb, csv and mask beside each other, found "
                "none; extract the archive there, or correct DATA_ROOT."
            )
        if len(places) > 1:
            raise InputError(
                f"'{places[0][0].parent}' and '{places[1][0].parent}' are both of NuCLS; name one of them as DATA_ROOT."
            )
        images, tables, masks = (
            names.listing(place, (end,)) for place, end in zip(places[0], (".png", ".csv", ".png"))
        )
        if not images:
            raise InputError(f"{places[0][0]}: expected fields as PNG files, found none; extract the archive again.")
        pairs = fields.paired(images, tables, places[0][1], ".csv files of nuclei")
        mask_of = dict(fields.paired(images, masks, places[0][2], "masks"))
        return {1: [_field(image, table, mask_of[image]) for image, table in pairs]}

    def split(self, k: int, sources: dict[int, list[str]]) -> Split:
        if k != 1:
            raise InputError(f"NuCLS has one split here, by hospital, found FOLD={k}; use FOLD=1.")
        hospitals = [_PATIENT.match(source)[1] for source in sources.get(1, [])]
        if 0 < len(set(hospitals)) < len(SHARES):
            raise InputError(
                f"NuCLS: expected fields of at least 3 hospitals to split by, found {sorted(set(hospitals))}; use the "
                "whole data set."
            )
        return Split(*([Part(1, rows)] for rows in by_source.deal(hospitals, SHARES)))

    def remarks(self) -> list[str]:
        """How the fields are split."""
        hospitals = {_PATIENT.match(field.source)[1] for field in self._listed[1]}
        return [
            f"{self.name}: {len(self._listed[1])} fields of {len(hospitals)} hospitals, dealt to one split; the files "
            "do not say which of the published folds a hospital stands in."
        ]

    def samples(self, fold: int, start: int = 0) -> Iterator[Sample]:
        title = f"{self.name} fold {fold}"
        with outlined.Tally(title) as self._outlines, Tally(title) as self._tally:
            yield from super().samples(fold, start)

    def nuclei(self, field: fields.Field, shape: tuple[int, int], doubts: checks.Doubts) -> Nuclei:
        outlines = self._of_table(field.labels)
        labels, present = outlined.painted(outlines, shape, field.labels, self._outlines)
        types = np.array([outlines[k].kind for k in present], np.uint8)
        _check_mask(field.more[0], labels, field.labels)
        doubts.add(str(field.labels), labels)  # types go by names here: 0 is no slip of counting
        self._tally.add("nuclei are called AMBIGUOUS and have no type", np.count_nonzero(types == 0))
        return Nuclei.from_labels(labels, types, self.mpp)

    def _of_table(self, path: Path) -> list[Outline]:
        """The outlines of a csv, `kind` being the type: 1..13, 0 for an ambiguous nucleus. Rectangles are counted.

        A class that an annotator corrected ("correction_tumor") is that class.
        """
        rows = text.table(path)
        if rows and not set(COLUMNS) <= rows[0].keys():
            raise InputError(
                f"{path}: expected the columns {', '.join(COLUMNS)}, found {', '.join(rows[0])}; fetch it again."
            )
        type_of = {names.key(name): k for k, name in enumerate(CLASSES, 1)} | {"ambiguous": 0}
        outlines = []
        for number, row in enumerate(rows, 1):
            if row["type"] == "rectangle":
                self._tally.add("nuclei are boxes without an outline, which are no segmentations and are left out")
                continue
            if row["type"] != "polyline":
                raise InputError(
                    f"{path}: expected type polyline or rectangle, found '{row['type']}' in row {number}; correct it."
                )
            kind = type_of.get(names.key(row["raw_classification"]).removeprefix("correction_"))
            if kind is None:
                raise InputError(
                    f"{path}: expected raw_classification to be one of {', '.join(CLASSES)}, found "
                    f"'{row['raw_classification']}' in row {number}; correct it."
                )
            outlines.append(Outline(_ring(row, f"{path} row {number}"), kind))
        return outlines


def _field(image: Path, table: Path, mask: Path) -> fields.Field:
    match = _PATIENT.search(image.stem)
    if match is None:
        raise InputError(
            f"{image}: expected the name of a TCGA slide, such as TCGA-A1-A0SK-DX1, in the name of the file, found "
            "none; give it its published name."
        )
    return fields.Field(image, table, name=image.stem, source=match[0], tissue="Breast", more=(mask,))


def _ring(row: dict[str, str], where: str) -> np.ndarray:
    """float64 (K, 2): x, y of the vertices of a row."""
    try:
        sides = [np.array(row[name].split(","), np.float64) for name in ("coords_x", "coords_y")]
        fits = len(sides[0]) == len(sides[1]) and all(np.isfinite(side).all() for side in sides)
    except ValueError:
        fits = False
    if not fits:
        raise InputError(
            f"{where}: expected as many numbers in coords_x as in coords_y, between commas, found "
            f"'{row['coords_x']:.40}' and '{row['coords_y']:.40}'; fetch the file again."
        )
    return np.stack(sides, 1)


def _check_mask(path: Path, labels: np.ndarray, table: Path) -> None:
    """Raises InputError for a mask of another size, or one without a nucleus wherever the csv has one."""
    shape = raster.shape(path)
    if shape != (*labels.shape, 3):
        raise InputError(
            f"{path}: expected a mask (height, width, 3) of the image's {labels.shape}, found {shape}; fetch it again."
        )
    mask = raster.array(path, colours=True)
    if labels.any() and not (mask[..., 1:][labels > 0] > 0).all(-1).any():
        raise InputError(
            f"{path}: expected a nucleus where {table.name} has one, found none; one of the two is of another image: "
            "fetch both again."
        )
