"""PanNuke in the per-image layout in which CellViT keeps it.

`foldK/images/K_i.png`, `foldK/labels/K_i.npy` (a pickled dict with inst_map and type_map), `foldK/types.csv`
(image, tissue) and `foldK/cell_count.csv` (optional; one row per image). K counts from 0 there; folders that
count from 1 are met too, and are taken so when no fold0 is present.
"""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.data.files import archive, checks, label_files, names, text
from benchmark.data.nuclei import Nuclei
from benchmark.runtime import pickles
from benchmark.runtime.errors import InputError


def read_dict(path: Path) -> dict:
    """The dict of arrays in a pickled .npy, executing nothing.

    Raises:
        InputError: unreadable, or anything but a dict of arrays.
    """
    expected = "a dict with inst_map and type_map"
    value = pickles.read_npy(path, expected, "copy it again from a trusted place")
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected {expected}, found a pickled {type(value).__name__}; copy it again.")
    return value


@dataclass(frozen=True)
class CellViTFold:
    """One fold in this layout: stems of the images in numeric order, (image, labels) and the tissue of each."""

    folder: Path
    stems: tuple[str, ...]
    files: tuple[tuple[Path, Path], ...]
    tissues: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.stems)

    def identity(self) -> dict:
        """Names, tissues and digests of all files."""
        files = hashlib.sha256()
        for path in (path for pair in self.files for path in pair):
            files.update(archive.Member(path, "", (path.name,)).digest().encode())
        words = hashlib.sha256(repr((self.stems, self.tissues)).encode())
        return {"layout": "cellvit", "n": len(self), "files": files.hexdigest(), "names": words.hexdigest()}

    def read(self, i: int, classes, mpp: float, doubts: checks.Doubts, **meta) -> tuple[np.ndarray, Nuclei]:
        """Image uint8 (H, W, 3) and Nuclei of position i, whose labels `doubts` looks at; types if they are real."""
        image, path = label_files.image(self.files[i][0], doubts), self.files[i][1]
        maps = read_dict(path)
        for key in ("inst_map", "type_map"):
            if not isinstance(maps.get(key), np.ndarray) or maps[key].shape != image.shape[:2]:
                shape = getattr(maps.get(key), "shape", "none")
                raise InputError(
                    f"{path}: expected {key} of the image's shape {image.shape[:2]}, found {shape}; copy this file and "
                    f"{self.files[i][0].name} again, from one place."
                )
        instances = checks.ids(maps["inst_map"], f"{path} inst_map")
        types = checks.types(maps["type_map"], classes, f"{path} type_map")
        checks.inside(types, instances, str(path))
        doubts.add(str(path), instances, types if meta.get("typed", True) else None)
        return image, Nuclei.from_labels(instances, types, mpp, **meta)


def find(root: Path, depth: int = 4) -> dict[int, Path]:
    """Raw fold (from 1) -> folder of each fold in this layout below `root`. Raises InputError for a fold twice."""
    folder_of: dict[int, Path] = {}
    for folder, folders, _ in archive.walk(root, depth):
        match = re.fullmatch(r"fold[ _-]*(\d+)", folder.name, re.IGNORECASE)
        if match and "labels" in folders and "images" in folders and names.listing(folder / "images", (".png",)):
            other = folder_of.setdefault(int(match[1]), folder)
            if other != folder:
                raise InputError(f"'{other}' and '{folder}' hold the same fold; keep one of them below '{root}'.")
    shift = 1 if 0 in folder_of else 0
    return {number + shift: folder for number, folder in sorted(folder_of.items())}


def load(folder: Path) -> CellViTFold:
    """List and check one fold.

    Raises:
        InputError: an image without label or the reverse, types.csv absent or without one of the images,
            cell_count.csv with another number of rows.
    """
    images = label_files.by_stem(folder / "images", (".png",))
    labels = label_files.by_stem(folder / "labels", (".npy",))
    if images.keys() != labels.keys():
        lonely = sorted(images.keys() ^ labels.keys())[0]
        has, lacks = ("image", "label") if lonely in images else ("label", "image")
        raise InputError(
            f"{folder}: expected one label for each image, found {len(images)} images and "
            f"{len(labels)} labels, '{lonely}' being an {has} without {lacks}; copy the fold again."
        )
    number = int(re.search(r"\d+$", folder.name)[0])
    strange = [s for s in images if "_" in s and names.number(s.split("_")[0]) not in (None, number)]
    if strange:
        raise InputError(
            f"{folder}: expected images named {number}_<i>.png, found '{strange[0]}.png' of "
            "another fold; the folder is mislabelled."
        )
    stems = sorted(images, key=lambda s: [int(x) if x.isdecimal() else x for x in re.split(r"(\d+)", s)])
    tissue_of = _table(folder / "types.csv")
    missing = [images[s].stem for s in stems if s not in tissue_of]
    if missing or len(tissue_of) != len(stems):
        detail = f", and none for '{missing[0]}'" if missing else ""
        raise InputError(
            f"{folder / 'types.csv'}: expected one tissue for each of {len(stems)} images, found "
            f"{len(tissue_of)}{detail}; copy the fold again."
        )
    counts = folder / "cell_count.csv"
    if counts.exists() and (n := len(text.table(counts))) != len(stems):
        raise InputError(f"{counts}: expected a row for each of {len(stems)} images, found {n}; copy it again.")
    files = tuple((images[s], labels[s]) for s in stems)
    return CellViTFold(folder, tuple(path.stem for path, _ in files), files, tuple(tissue_of[s] for s in stems))


def _table(path: Path) -> dict[str, str]:
    """`names.key` of the image's stem -> tissue."""
    rows = text.table(path)
    columns = list(rows[0]) if rows else []
    image = next((c for c in ("img", "image", "file", "name") if c in columns), None)
    tissue = next((c for c in ("type", "tissue") if c in columns), None)
    if image is None or tissue is None:
        raise InputError(
            f"{path}: expected the columns img and type, found {', '.join(columns) or 'none'}; correct it."
        )
    tissue_of: dict[str, str] = {}
    for row in rows:
        stem = names.key(names.stem(row[image]))
        if tissue_of.setdefault(stem, row[tissue]) != row[tissue]:
            raise InputError(f"{path}: expected one tissue for each image, found two for '{stem}'; correct it.")
    return tissue_of
