"""PanNuke: 19 tissues, five types, 40x, three published folds.

Gamper et al., "PanNuke: an open pan-cancer histology dataset for nuclei instance segmentation and
classification" (2019) and "PanNuke dataset extension, insights and baselines" (arXiv:2003.10778). CC BY-NC-SA
4.0.

Read as published (`fold_K.zip`, or extracted: `Fold K/images/foldK/images.npy` and `types.npy`,
`Fold K/masks/foldK/masks.npy`, at any place below the root), in CellViT's per-image layout, or, where the root holds
neither, as Parquet files (see `pannuke_parquet`). A
`provenance_fold<K>.csv` beside the data (or `provenance.csv` inside the fold) names the source image of each
patch and, in `types_real`, whether its types are real ('4-class', '5-class') or a placeholder (anything else:
untyped). The published archive names no slides: its folds are used as they are and `source` is "".
"""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmark.data import facts
from benchmark.data.files import archive, checks, text
from benchmark.data.files.archive import Member, Rows
from benchmark.data.nuclei import Nuclei, Sample
from benchmark.data.registry import DATASETS
from benchmark.data.source import TAKEN, Part, Source, Split, is_own_name
from benchmark.data.sources import cellvit_layout, parquet_folds
from benchmark.data.sources.pannuke_files import ARRAYS, PanNukeFiles, PublishedFold, origins
from benchmark.data.sources.pannuke_parquet import PanNukeParquet
from benchmark.runtime.errors import InputError

CLASSES = ("Neoplastic", "Inflammatory", "Connective", "Dead", "Epithelial")
TISSUES = (
    "Adrenal_gland", "Bile-duct", "Bladder", "Breast", "Cervix", "Colon", "Esophagus", "HeadNeck", "Kidney",
    "Liver", "Lung", "Ovarian", "Pancreatic", "Prostate", "Skin", "Stomach", "Testis", "Thyroid", "Uterus",
)  # fmt: skip
SPLITS = {1: (1, 2, 3), 2: (2, 1, 3), 3: (3, 2, 1)}


@DATASETS.register_module(name="pannuke")
class PanNuke(Source):
    """PanNuke below `root`, a folder or a zip. Image ids are `<fold>_<index>`.

    Args:
        name: for other data in PanNuke's layout: what they are called in results and tables. No published figure of
            PanNuke stands beside them.

    Raises:
        InputError: no such root, or a name that is taken.
    """

    name = "pannuke"
    classes = CLASSES
    tissues = TISSUES
    mpp = 0.25

    def __init__(self, root: str | Path | None = None, name: str = "pannuke"):
        super().__init__(root)
        if name != "pannuke" and not is_own_name(name):
            raise InputError(
                f"pannuke@name={name}: expected a plain word for data in PanNuke's layout, other than "
                f"{', '.join(TAKEN)}; choose another name."
            )
        self.name = name
        self.licence = "CC BY-NC-SA 4.0" if name == "pannuke" else ""  # of data of one's own it is not known
        self._files = PanNukeFiles(self.root)

    @cached_property
    def _parquet(self) -> PanNukeParquet | None:
        """The folds as Parquet files, None where they lie there in another form."""
        root = self._files.root
        if not parquet_folds.listed(root) or (root.is_dir() and self._files.folds()):
            return None
        return PanNukeParquet(root, self.classes, self.tissues)

    def folds(self) -> list[int]:
        if self._parquet:
            return self._parquet.folds()
        folds = self._files.folds()
        if not folds:
            self._files.complain(1)
        return folds

    def splits(self) -> list[int]:
        return list(SPLITS)

    def split(self, k: int, sources: dict[int, list[str]]) -> Split:
        if k not in SPLITS:
            raise InputError(f"PanNuke has the splits 1, 2 and 3, found FOLD={k}; choose one of these.")
        return Split(*([Part(fold)] for fold in SPLITS[k]))

    def identity(self, fold: int) -> dict:
        if self._parquet:
            return self._parquet.identity(fold)
        if fold in self._files.per_image:
            listing, provenance = self._per_image(fold)
            origins(provenance, len(listing))
            return {"fold": fold, "provenance": _digest(provenance)} | listing.identity()
        images, masks, tissues, provenance = self._published(fold)
        origins(provenance, len(images))
        return {
            "layout": "pannuke",
            "fold": fold,
            "images": images.identity(),
            "masks": masks.identity(),
            "tissues": hashlib.sha256("\n".join(tissues).encode()).hexdigest(),
            "provenance": _digest(provenance),
        }

    def count(self, fold: int) -> int:
        if self._parquet:
            return self._parquet.count(fold)
        images = self._per_image(fold)[0] if fold in self._files.per_image else self._published(fold)[0]
        return len(images)

    def remarks(self) -> list[str]:
        """Folds with other numbers of images than published, which data of one's own in this layout have; copies that
        are not read."""
        published = facts.of("pannuke").images if self.name == "pannuke" else {}
        copies = [] if self._parquet else [self._files.passed_over(fold) for fold in self.folds()]
        return [f"{self.name}: WARNING: {line}" for line in copies if line] + [
            f"{self.name}: its fold {fold} has {n} images, the published one has {published[key]}."
            for fold in self.folds()
            if (key := f"fold{fold}") in published and (n := self.count(fold)) != published[key]
        ]

    def samples(self, fold: int, start: int = 0) -> Iterator[Sample]:
        if self._parquet:
            return self._parquet.samples(fold, start, self.mpp, self.name)
        read = self._samples_per_image if fold in self._files.per_image else self._samples_published
        return read(fold, start)

    def _samples_published(self, fold: int, start: int) -> Iterator[Sample]:
        images, masks, tissues, provenance = self._published(fold)
        origin = origins(provenance, len(images))
        pairs = zip(images.rows(start), masks.rows(start), strict=True)
        with archive.judging(images.member, masks.member), checks.Doubts() as doubts:
            for i, (image, mask) in enumerate(pairs, start):
                where = f"{masks.member}, image {i}"
                image = checks.rgb(image, f"{images.member}, image {i}", doubts)
                mask = checks.ids(mask, where)
                background_last(mask, where)
                meta = {"tissue": tissues[i], "image_id": f"{fold}_{i}", "source": origin[i].source}
                nuclei = merge(mask[..., :5], self.mpp, typed=origin[i].typed, **meta)
                doubts.add(where, nuclei.instances)
                yield Sample(image, nuclei)

    def _samples_per_image(self, fold: int, start: int) -> Iterator[Sample]:
        listing, provenance = self._per_image(fold)
        origin = origins(provenance, len(listing))
        with checks.Doubts(self.classes) as doubts:
            for i in range(start, len(listing)):
                index = listing.stems[i].split("_", 1)[-1]
                meta = {"tissue": listing.tissues[i], "image_id": f"{fold}_{index}", "source": origin[i].source}
                meta["typed"] = origin[i].typed
                image, nuclei = listing.read(i, self.classes, self.mpp, doubts, **meta)
                yield Sample(image, nuclei if origin[i].typed else untyped(nuclei))

    def _per_image(self, fold: int) -> tuple[cellvit_layout.CellViTFold, Member | None]:
        return cellvit_layout.load(self._files.per_image[fold]), self._files.beside(fold)

    def _published(self, fold: int) -> tuple[Rows, Rows, list[str], Member | None]:
        """Images, masks, tissues and provenance of a fold, their shapes checked against each other."""
        files: PublishedFold = self._files.published(fold)
        images, types, masks = (Rows(files.arrays[name]) for name in ARRAYS)
        checks.check_rgb_rows(images, "use the published file or convert it to RGB")
        expected = (*images.shape[:3], 6)
        if masks.shape != expected:
            raise InputError(
                f"{masks.member}: expected masks of shape {expected} to match images.npy, found "
                f"{masks.shape}; the files are of different folds or damaged, fetch them again."
            )
        checks.check_ids_dtype(masks.dtype, masks.member)
        if types.shape != (len(images),) or types.dtype.kind not in "US":
            raise InputError(
                f"{types.member}: expected a tissue name for each of {len(images)} images, found "
                f"{types.dtype} of shape {types.shape}; the files are of different folds or damaged, "
                "fetch them again."
            )
        words = types.whole().tolist()
        names = [text.decoded(word, types.member) if isinstance(word, bytes) else str(word) for word in words]
        return images, masks, names, files.provenance


def background_last(channels: np.ndarray, where: str) -> None:
    """Refuse masks whose first channel is the background, which would be one huge nucleus of the first class.

    Such a channel has one id and covers exactly what the other channels leave. So may a class in an image that one
    nucleus of it fills; then the last channel is background, hence has one id too, and is the larger.

    Args:
        channels: int64 (H, W, C), the last one being the background. where: file and image, for the sentence.

    Raises:
        InputError: the background comes first.
    """
    first, last = channels[..., 0], channels[..., -1]
    rest = first == 0
    area = rest.size - np.count_nonzero(rest)
    if not area or first.max() != first[~rest].min() or not np.array_equal(rest, channels[..., 1:].any(-1)):
        return
    ids = np.unique(last[last > 0])
    if len(ids) > 1 or area > rest.size / 2:
        raise InputError(
            f"{where}: expected the channels {', '.join(CLASSES)} and background, found the background first "
            f"({area} of {rest.size} pixels in one id); move channel 0 to the end."
        )


def merge(channels: np.ndarray, mpp: float, typed: bool = True, **meta) -> Nuclei:
    """Nuclei of per-class instance channels: each (channel, id) is its own, later channels win.

    Args:
        channels: int64 (H, W, C), 0 = background; ids may have gaps and repeat between channels.
        mpp: micrometres per pixel.
        typed: False where the channels are a placeholder: all types are 0.
        meta: the remaining attributes of Nuclei.

    Returns:
        Nuclei numbered by channel, then id; one whose every pixel is covered does not exist.
    """
    labels = np.zeros(channels.shape[:2], np.int64)
    step = int(channels.max(initial=0)) + 1
    for channel in range(channels.shape[2]):
        here = channels[..., channel] > 0
        labels[here] = channels[..., channel][here] + channel * step
    ids = np.unique(labels)
    ids = ids[ids > 0]
    nuclei = Nuclei.from_labels(labels, ids // step + 1, mpp, **meta)
    return nuclei if typed else untyped(nuclei)


def untyped(nuclei: Nuclei) -> Nuclei:
    """The same nuclei, all of type 0 and marked as without real types."""
    return replace(nuclei, types=np.zeros_like(nuclei.types), typed=False, type_map=None)


def _digest(member: Member | None) -> str | None:
    return None if member is None else hashlib.sha256(member.read()).hexdigest()
