"""Lizard and NuCLS as their owners publish them, a few small images of each."""

from pathlib import Path

import numpy as np
import scipy.io
from PIL import Image

from tests.support import tiny_data

# image -> (Source, Split, height, width)
LIZARD = {
    "consep_1": ("consep", 1, 40, 48),
    "crag_2": ("crag", 2, 48, 40),
    "dpath_3": ("dpath", 3, 32, 64),
    "glas_4": ("glas", 1, 40, 40),
    "pannuke_5": ("pannuke", 2, 24, 24),
    "tcga_6": ("tcga", 3, 56, 32),
}
IDS, CLASSES = (40, 7, 901), (2, 6, 3)  # row k of a .mat: nucleus IDS[k] is of class CLASSES[k]


def picture(seed: int, height: int, width: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(2, 256, (height, width, 3), dtype=np.uint8))


def lizard_map(height: int, width: int) -> np.ndarray:
    """int32 (H, W) with the nuclei IDS, each of its own size."""
    labels = np.zeros((height, width), np.int32)
    for k, number in enumerate(IDS):
        labels[2 + 7 * k : 7 + 7 * k, 3 : 8 + 3 * k] = number
    return labels


def lizard(root: Path) -> Path:
    """Write Lizard, three images in each of its two folders, and return the root."""
    labels = root / "Lizard_Labels" / "Labels"
    labels.mkdir(parents=True)
    for k, (name, (_, _, height, width)) in enumerate(LIZARD.items()):
        folder = root / f"Lizard_Images{1 + k % 2}"
        folder.mkdir(exist_ok=True)
        picture(k, height, width).save(folder / f"{name}.png")
        arrays = {
            "inst_map": lizard_map(height, width),
            "id": np.array(IDS)[:, None],
            "class": np.array(CLASSES)[:, None],
            "bbox": np.zeros((3, 4)),
            "centroid": np.zeros((3, 2)),
        }
        scipy.io.savemat(labels / f"{name}.mat", arrays)
    rows = [(name, origin, split) for name, (origin, split, _, _) in LIZARD.items()]
    tiny_data.table(root / "Lizard_Labels" / "info.csv", ["Filename", "Source", "Split"], rows)
    return root


NUCLS = (
    "TCGA-A1-A0SK-DX1_id-1_left-10_top-20_bottom-60_right-50",
    "TCGA-A2-A0T2-DX1_id-2_left-10_top-20_bottom-60_right-50",
    "TCGA-A2-A0T2-DX1_id-2_left-90_top-20_bottom-60_right-50",
    "TCGA-BH-A0BG-DX1_id-3_left-10_top-20_bottom-60_right-50",
)
HEADER = [
    "raw_classification", "main_classification", "super_classification", "type", "xmin", "ymin", "xmax", "ymax",
    "coords_x", "coords_y",
]  # fmt: skip
SIDE = 48
# raw class, main class, super class, type, vertices x, y: the last reaches beyond the image
NUCLEI = (
    ("tumor", "tumor_nonMitotic", "tumor_any", "polyline", (4, 14, 14, 4), (4, 4, 12, 12)),
    ("lymphocyte", "lymphocyte", "sTIL", "rectangle", (20, 30), (20, 30)),
    ("correction_fibroblast", "nonTILnonMQ_stromal", "nonTIL_stromal", "polyline", (20, 26, 26, 20), (2, 2, 8, 8)),
    ("unlabeled", "AMBIGUOUS", "AMBIGUOUS", "polyline", (40, 60, 60, 40), (40, 40, 44, 44)),
)


def nucls(root: Path) -> Path:
    """Write four fields of NuCLS of three hospitals, NUCLEI in each, and return the root."""
    top = root / "QC"
    for folder in ("rgb", "csv", "mask", "visualization"):
        (top / folder).mkdir(parents=True)
    mask = np.zeros((SIDE, SIDE, 3), np.uint8)
    rows = []
    for k, (raw, main, group, kind, x, y) in enumerate(NUCLEI):
        box = min(x), min(y), max(x), max(y)
        mask[box[1] : box[3], box[0] : box[2]] = 1 + k, 10 + k, 2
        outline = (",".join(map(str, x)), ",".join(map(str, y))) if kind == "polyline" else ("", "")
        rows.append((raw, main, group, kind, *box, *outline))
    for seed, name in enumerate(NUCLS):
        picture(seed, SIDE, SIDE).save(top / "rgb" / f"{name}.png")
        Image.fromarray(mask).save(top / "mask" / f"{name}.png")
        tiny_data.table(top / "csv" / f"{name}.csv", HEADER, rows)
    return root
