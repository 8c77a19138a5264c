"""MoNuSeg: seven organs in training and in test, nuclei without types, x40, 37 + 14 images of 1000 x 1000 px of TCGA.

Kumar et al., "A dataset and a technique for generalized nuclear segmentation for computational pathology" (IEEE TMI
2017) and "A multi-organ nucleus segmentation challenge" (IEEE TMI 2020). CC BY-NC-SA 4.0.

`Tissue Images/*.tif` beside `Annotations/*.xml` is the training part, a folder of *.tif and *.xml together the test
part; both at any place below the root. The XML holds outlines, see `data.sources.outlined` for what becomes of them.
Parquet files of the set below the root are read in their place, see `data.sources.mirror`.
`source` is the patient, the first 12 characters of the TCGA name. The files name no organs.
"""

from collections.abc import Iterator
from pathlib import Path

from benchmark.data.files import aperio, archive, checks, names
from benchmark.data.nuclei import Nuclei, Sample
from benchmark.data.registry import DATASETS
from benchmark.data.sources import fields, outlined, patients
from benchmark.runtime.errors import InputError

IMAGES = (".tif", ".tiff", ".png")
PATIENT = 12  # letters of a TCGA name: TCGA-A7-A13E


@DATASETS.register_module(name="monuseg")
class MoNuSeg(fields.Fields):
    """MoNuSeg below `root`; image ids are the TCGA names. Arguments and errors: as of `Fields`."""

    name, title = "monuseg", "MoNuSeg"
    mpp = 0.25  # published as x40
    mirrored = ()

    def listed(self, root: Path) -> dict[int, list[fields.Field]]:
        training, test = [], []
        for folder, below, _ in archive.walk(root, 4):
            named = {names.key(name): folder / name for name in below}
            if {"tissue images", "annotations"} <= named.keys():
                training.append((named["tissue images"], named["annotations"]))
            elif names.key(folder.name) not in ("tissue images", "annotations"):
                if names.listing(folder, IMAGES) and names.listing(folder, (".xml",)):
                    test.append((folder, folder))
        listed = {}
        for fold, places in ((patients.TRAIN, training), (patients.TEST, test)):
            if len(places) > 1:
                raise InputError(
                    f"'{places[0][0]}' and '{places[1][0]}' both look like the {fields.SIDES[fold]} part of MoNuSeg; "
                    "name the folder of MoNuSeg alone as DATA_ROOT, or keep one of them there."
                )
            if places:
                listed[fold] = _fields(*places[0])
        if not listed:
            raise InputError(
                f"MoNuSeg is missing below '{root}': expected 'Tissue Images/*.tif' beside 'Annotations/*.xml', or a "
                "folder of *.tif and *.xml (the test part), found neither; extract the archives there, or correct "
                "DATA_ROOT."
            )
        return listed

    def samples(self, fold: int, start: int = 0) -> Iterator[Sample]:
        self._tally = outlined.Tally(f"{self.name} fold {fold}")
        with self._tally:
            yield from super().samples(fold, start)

    def nuclei(self, field: fields.Field, shape: tuple[int, int], doubts: checks.Doubts) -> Nuclei:
        labels, _ = outlined.painted(aperio.read(field.labels), shape, field.labels, self._tally)
        return Nuclei.from_labels(labels, None, self.mpp)


def _fields(images: Path, annotations: Path) -> list[fields.Field]:
    pairs = fields.paired(
        names.listing(images, IMAGES), names.listing(annotations, (".xml",)), annotations, ".xml files of outlines"
    )
    stems = [names.normal(image.stem) for image, _ in pairs]
    if strange := next(
        (stem for stem in stems if not names.key(stem).startswith("tcga-") or len(stem) < PATIENT), None
    ):
        raise InputError(
            f"{images}: expected images of TCGA, whose first {PATIENT} letters name the patient, such as "
            f"TCGA-A7-A13E-01Z-00-DX1, found '{strange}'; give it its published name."
        )
    return [fields.Field(*pair, name=stem, source=stem[:PATIENT]) for pair, stem in zip(pairs, stems)]
