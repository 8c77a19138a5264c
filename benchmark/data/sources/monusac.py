"""MoNuSAC: four organs, four types, x40, 209 + 101 regions of 74 to 2162 px of TCGA slides.

Verma et al., "MoNuSAC2020: a multi-organ nuclei segmentation and classification challenge" (IEEE TMI 2021).
CC BY-NC-SA 4.0.

A folder for each slide (`TCGA-55-1594-01Z-00-DX1`) with `<region>.tif` (beside an .svs, which is not read) and
`<region>.xml`: an Annotation for each type, whose first attribute names it, holds the outlines; see
`data.sources.outlined` for what becomes of them. Slides below a folder with "test" in its name are the test part, all
others the training part. `source` is the patient, the first 12 characters of the TCGA name.

Parquet files of the set below the root are read in their place, see `data.sources.mirror`.

Ambiguous regions, in which predictions are not counted: outlines of an Annotation called Ambiguous, and pixels above 0
of a mask, a .tif or .png below a folder with "ambiguous" in its name that is called as the region, or as the region and
_mask.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmark.data.files import aperio, archive, checks, names, raster
from benchmark.data.nuclei import Nuclei, Sample
from benchmark.data.registry import DATASETS
from benchmark.data.sources import fields, outlined, patients
from benchmark.data.sources.monuseg import PATIENT
from benchmark.runtime.errors import InputError

CLASSES = ("Epithelial", "Lymphocyte", "Macrophage", "Neutrophil")
AMBIGUOUS = "ambiguous"
IMAGES = (".tif", ".tiff", ".png")


@DATASETS.register_module(name="monusac")
class MoNuSAC(fields.Fields):
    """MoNuSAC below `root`; image ids are the regions' names. Arguments and errors: as of `Fields`."""

    name, title = "monusac", "MoNuSAC"
    classes = CLASSES
    mpp = 0.25  # published as x40
    mirrored = ("Ambiguous", *CLASSES)

    def listed(self, root: Path) -> dict[int, list[fields.Field]]:
        listed: dict[int, list[fields.Field]] = {}
        masks: dict[str, Path] = {}
        for folder, _, _ in archive.walk(root, 4):
            below = [names.key(part) for part in folder.relative_to(root).parts]
            if any(AMBIGUOUS in part for part in below):
                for path in names.listing(folder, IMAGES):
                    other = masks.setdefault(names.key(path.stem).removesuffix("_mask"), path)
                    if other != path:
                        raise InputError(f"{other} and {path} are both of ambiguous regions of one image; keep one.")
            elif (xml := names.listing(folder, (".xml",))) and names.key(folder.name).startswith("tcga-"):
                fold = patients.TEST if any("test" in part for part in below) else patients.TRAIN
                pairs = fields.paired(names.listing(folder, IMAGES), xml, folder, ".xml files of outlines")
                for image, labels in pairs:
                    stem = names.normal(image.stem)
                    listed.setdefault(fold, []).append(
                        fields.Field(image, labels, name=stem, source=names.normal(folder.name)[:PATIENT])
                    )
        if not listed:
            raise InputError(
                f"MoNuSAC is missing below '{root}': expected a folder for each slide, such as "
                "TCGA-55-1594-01Z-00-DX1, with .tif and .xml files, found none; extract the archives there, or correct "
                "DATA_ROOT."
            )
        regions = {names.key(field.name) for fields_of in listed.values() for field in fields_of}
        self._stray = [path for stem, path in masks.items() if stem not in regions]
        for fields_of in listed.values():
            if twice := names.twice(field.name for field in fields_of):
                raise InputError(f"{root}: the region '{twice}' of MoNuSAC lies twice; keep one of them.")
        return {fold: [_with_mask(f, masks) for f in of_fold] for fold, of_fold in sorted(listed.items())}

    def remarks(self) -> list[str]:
        """As of `Fields`, how many test regions have a mask of ambiguous regions, and masks of no region."""
        lines = super().remarks()
        if self._mirror:  # its regions come with the masks of the nuclei, not as files
            return lines
        if test := self._listed.get(patients.TEST, []):
            masked = sum(1 for field in test if field.more)
            lines.append(f"{self.name}: {masked} of {len(test)} test regions have a mask of ambiguous regions.")
        if self._stray:
            lines.append(
                f"{self.name}: WARNING: {len(self._stray)} masks of ambiguous regions are called after none of the "
                f"regions and are not used (the first: {self._stray[0]}); call each as its region, or its region and "
                "_mask."
            )
        return lines

    def samples(self, fold: int, start: int = 0) -> Iterator[Sample]:
        self._tally = outlined.Tally(f"{self.name} fold {fold}")
        with self._tally:
            yield from super().samples(fold, start)

    def nuclei(self, field: fields.Field, shape: tuple[int, int], doubts: checks.Doubts) -> Nuclei:
        regions = aperio.read(field.labels)
        kinds = [names.key(region.kind) for region in regions]
        known = {names.key(name): k for k, name in enumerate(self.classes, 1)}
        strange = next((r.kind for r, kind in zip(regions, kinds) if kind not in known and kind != AMBIGUOUS), None)
        if strange is not None:
            raise InputError(
                f"{field.labels}: expected annotations named {', '.join(self.classes)} or Ambiguous, found "
                f"'{strange}'; name them so."
            )
        typed = [k for k, kind in enumerate(kinds) if kind != AMBIGUOUS]
        labels, present = outlined.painted([regions[k] for k in typed], shape, field.labels, self._tally)
        types = np.array([known[kinds[typed[k]]] for k in present], np.uint8)
        doubts.add(str(field.labels), labels, types)
        unclear = [region for region, kind in zip(regions, kinds) if kind == AMBIGUOUS]
        ignore = outlined.painted(unclear, shape, field.labels, outlined.Tally(""))[0] > 0
        for path in field.more:
            ignore |= _mask(path, shape)
        nuclei = Nuclei.from_labels(labels, types, self.mpp)
        return replace(nuclei, ignore=ignore) if ignore.any() else nuclei


def _with_mask(field: fields.Field, masks: dict[str, Path]) -> fields.Field:
    mask = masks.get(names.key(field.name))
    return replace(field, more=(mask,)) if mask else field


def _mask(path: Path, shape: tuple[int, int]) -> np.ndarray:
    """bool (H, W): where a mask, of grey values or of colours, is above 0."""
    values = raster.array(path, colours=len(raster.shape(path)) == 3)
    values = values.any(-1) if values.ndim == 3 else values
    if values.shape != shape:
        raise InputError(
            f"{path}: expected a mask of the image's shape {shape}, found {values.shape}; is it of another image?"
        )
    return values > 0
