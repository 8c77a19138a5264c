"""CoNSeP: colon, seven types, x40, 27 training and 14 test images of 1000 x 1000 px.

Graham et al., "HoVer-Net: simultaneous segmentation and classification of nuclei in multi-tissue histology images"
(Medical Image Analysis 2019). For research use.

`Train/Images/train_1.png` with `Train/Labels/train_1.mat`, and `Test` alike, at any place below the root. A .mat holds
inst_map, type_map, inst_type and inst_centroid. The 41 images are of 16 patients, whom the files do not name: `source`
is the image.
"""

from pathlib import Path

from benchmark.data.files import archive, checks, label_files, names
from benchmark.data.nuclei import Nuclei
from benchmark.data.registry import DATASETS
from benchmark.data.sources import fields
from benchmark.runtime.errors import InputError

CLASSES = (
    "other",
    "inflammatory",
    "healthy epithelial",
    "malignant epithelial",  # dysplastic or malignant
    "fibroblast",
    "muscle",
    "endothelial",
)


@DATASETS.register_module(name="consep")
class CoNSeP(fields.Fields):
    """CoNSeP below `root`; image ids are train_1 and the like. Arguments and errors: as of `Fields`."""

    name, title = "consep", "CoNSeP"
    classes = CLASSES
    tissues = ("Colon",)
    mpp = 0.25  # published as x40

    def listed(self, root: Path) -> dict[int, list[fields.Field]]:
        folder_of: dict[int, Path] = {}
        for folder, below, _ in archive.walk(root, 4):
            fold = {side: fold for fold, side in fields.SIDES.items()}.get(names.key(folder.name))
            if fold and {"images", "labels"} <= set(map(names.key, below)):
                other = folder_of.setdefault(fold, folder)
                if other != folder:
                    raise InputError(f"'{other}' and '{folder}' hold the same part of CoNSeP; keep one of them.")
        if not folder_of:
            raise InputError(
                f"CoNSeP is missing below '{root}': expected Train/Images/train_1.png with Train/Labels/train_1.mat, "
                "and Test alike, found no such folder; extract consep.zip there, or correct DATA_ROOT."
            )
        return {fold: _fields(folder) for fold, folder in sorted(folder_of.items())}

    def nuclei(self, field: fields.Field, shape: tuple[int, int], doubts: checks.Doubts) -> Nuclei:
        labels = label_files.labels(field.labels, shape, self.classes)
        if labels.types is None:
            raise InputError(
                f"{field.labels}: expected type_map or inst_type beside inst_map, found neither; extract it again."
            )
        if labels.types.ndim == 2:
            checks.inside(labels.types, labels.instances, str(field.labels))
        doubts.add(str(field.labels), labels.instances, labels.types)
        return Nuclei.from_labels(labels.instances, labels.types, self.mpp)


def _fields(folder: Path) -> list[fields.Field]:
    parts = {names.key(path.name): path for path in folder.iterdir() if path.is_dir()}
    images, labels = names.listing(parts["images"], label_files.IMAGES), names.listing(parts["labels"], (".mat",))
    if not images:
        raise InputError(f"{parts['images']}: expected the images of CoNSeP, found none; extract consep.zip again.")
    pairs = fields.paired(images, labels, parts["labels"], ".mat files of labels")
    stems = [names.normal(image.stem) for image, _ in pairs]
    return [fields.Field(*pair, name=stem, source=stem, tissue="Colon") for pair, stem in zip(pairs, stems)]
