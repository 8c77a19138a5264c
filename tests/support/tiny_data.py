"""Tiny datasets in every layout, written into a test's own folder."""

import csv
import shutil
from pathlib import Path

import numpy as np

from benchmark.data.files.archive import Rows
from benchmark.data.nuclei import Nuclei, Sample
from benchmark.data.source import Part, Source, Split

TINY = "synthetic@patches=6"  # the smallest dataset that needs no files
SIDE = 32
CONIC_SLIDES = (("glas_1", 7), ("consep_1", 6), ("dpath_9-b", 5), ("crag_3", 2))
CONIC_NAMES = [f"{slide}-{i:04d}" for slide, n in CONIC_SLIDES for i in range(n)]


def fold_arrays(n: int = 5, seed: int = 0, side: int = SIDE):
    """images uint8 (n, side, side, 3), masks uint16 (n, side, side, 6) and tissues, as PanNuke has them.

    Ids have gaps; image 1 is empty; no nucleus touches another.
    """
    rng = np.random.default_rng(seed)
    images = rng.integers(2, 256, (n, side, side, 3), dtype=np.uint8)
    masks = np.zeros((n, side, side, 6), np.uint16)
    for i in range(n):
        for cell in range(0 if i == 1 else 4):
            top, left = 16 * (cell // 2) + 2, 16 * (cell % 2) + 3
            height, width = rng.integers(4, 9, 2)
            masks[i, top : top + height, left : left + width, rng.integers(5)] = 300 * cell + 7
    masks[..., 5] = ~masks[..., :5].any(-1)
    return images, masks, np.array(["Breast", "Colon"] * n)[:n].astype("<U13")


def pannuke(root: Path, folds=(1, 2, 3), n: int = 5, dtype=np.uint8, mask_dtype=np.uint16, zipped: bool = False):
    """Write folds as published, extracted or zipped, and return the root."""
    for fold in folds:
        images, masks, tissues = fold_arrays(n, seed=fold)
        extracted(root, fold, images.astype(dtype), masks.astype(mask_dtype), tissues)
        if zipped:
            zip_fold(root, fold)
    return root


def extracted(root: Path, fold: int, images, masks, tissues) -> Path:
    """Write one extracted fold; returns 'Fold K'."""
    top = root / f"Fold {fold}"
    for name, array in (("images/images", images), ("masks/masks", masks), ("images/types", tissues)):
        folder, file = name.split("/")
        path = top / folder / f"fold{fold}" / f"{file}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, array)
    return top


def zip_fold(root: Path, fold: int) -> Path:
    """Turn an extracted fold into fold_K.zip."""
    shutil.make_archive(str(root / f"fold_{fold}"), "zip", root, f"Fold {fold}")
    shutil.rmtree(root / f"Fold {fold}")
    return root / f"fold_{fold}.zip"


def provenance(path: Path, rows: list[tuple[str, str]]) -> None:
    """rows: (source_image, types_real) per patch."""
    table(
        path,
        ["index", "source", "source_image", "types_real"],
        [(i, "X", s, t) for i, (s, t) in enumerate(rows)],
    )


def table(path: Path, header, rows) -> None:
    with open(path, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([header, *rows])


def file_bytes(folder: Path) -> dict[str, bytes]:
    """Relative name -> content of every file below a folder, locks left out."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and not p.name.endswith(".lock"))
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def conic(root, dtype=np.int32, names=CONIC_NAMES, side=16):
    """Write CoNIC as published, 20 patches of four source images unless others are named, and return the root."""
    root.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    n = len(names)
    labels = np.zeros((n, side, side, 2), dtype)
    labels[:, 2:6, 2:6] = 900, 6
    labels[:, 8:12, 8:12] = 40, 2
    labels[0, 11, 8:12, 1] = 5  # an instance of mixed type
    labels[3] = 0
    np.save(root / "images.npy", rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8))
    np.save(root / "labels.npy", labels)
    table(root / "patch_info.csv", ["patch_info"], [[name] for name in names])
    table(root / "counts.csv", ["neutrophil", "epithelial"], [[0, 1]] * n)
    return root


class Drawn(Source):
    """A source of n images without files; `stop` raises KeyboardInterrupt before that image."""

    name, classes, tissues, mpp = "drawn", ("a", "b"), ("Colon",), 0.5

    def __init__(self, n: int, stop: int | None = None, pause: float = 0.0):
        super().__init__()
        self.n, self.stop, self.pause, self.drawn = n, stop, pause, []

    def folds(self):
        return [1]

    def splits(self):
        return [1]

    def split(self, k, sources):
        thirds = np.arange(len(sources.get(1, []))) % 3
        return Split(*([Part(1, np.flatnonzero(thirds == side))] for side in range(3)))

    def identity(self, fold):
        return {"n": self.n}

    def count(self, fold):
        return self.n

    def samples(self, fold, start=0):
        import time

        for i in range(start, self.n):
            if i == self.stop:
                raise KeyboardInterrupt
            time.sleep(self.pause)
            self.drawn.append(i)
            rng = np.random.default_rng(i)
            image = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
            labels = np.repeat(np.repeat(rng.integers(0, 4, (4, 4)), 4, 0), 4, 1) * 5
            types = rng.integers(0, 3, (16, 16)) if i % 50 == 3 else (labels // 5 % 2) + 1
            meta = {"tissue": "Colon" if i % 2 else "Brain", "image_id": f"i{i}", "source": f"s{i // 4}"}
            yield Sample(image, Nuclei.from_labels(labels, types, self.mpp, typed=i % 7 > 0, **meta))


def pannuke_parts(root: Path, place: Path) -> None:
    """Divide data in PanNuke's layout by the column `source` of their provenance: a folder below `place` for each."""
    from benchmark.data.sources.pannuke_files import ARRAYS, PanNukeFiles

    for fold in (1, 2, 3):
        arrays = {name: Rows(PanNukeFiles(root).published(fold).arrays[name]).whole() for name in ARRAYS}
        with open(root / f"provenance_fold{fold}.csv", newline="", encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream))
        for part in sorted({row["source"] for row in rows}):
            chosen = [i for i, row in enumerate(rows) if row["source"] == part]
            extracted(place / part, fold, *(arrays[name][chosen] for name in ("images.npy", "masks.npy", "types.npy")))
            lines = [(i, part, rows[k]["source_image"], rows[k]["types_real"]) for i, k in enumerate(chosen)]
            header = ["index", "source", "source_image", "types_real"]
            table(place / part / f"provenance_fold{fold}.csv", header, lines)
