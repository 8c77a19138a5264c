"""Two small folders of drawn patches that share some of their classes, for joint training."""

from pathlib import Path

import numpy as np
from PIL import Image

from benchmark.data.nuclei import Nuclei
from benchmark.data.sources.synthetic import draw

SIDE = 64
SIDES = ("train", "val", "test")
# PanNuke's types 1 to 5 in the classes of each set, 0 = the nucleus is left out
CLASSES = {"one": ("Tumour", "Inflammatory"), "two": ("inflammatory", "Stroma", "Dead")}
TYPES = {"one": (0, 1, 2, 1, 2, 1), "two": (0, 1, 1, 2, 3, 2)}
TISSUES = {"one": "Colon", "two": ""}


def folder(
    root: Path, name: str, per_side: int = 2, slide: int = 40, mpp: float = 0.25, typed: bool = True, side: int = SIDE
) -> Path:
    """Write a data set of `per_side` images on each side of its split; each image is of a slide of its own.

    Args:
        name: "one" or "two", which decides the classes.
        slide: number of the first drawn slide.
        typed: False for a set without types.
    """
    for part in ("images", "labels", *(["types"] if typed else [])):
        (root / part).mkdir(parents=True)
    lines = ["file,fold,source"]
    for k, where in enumerate(SIDES):
        for i in range(per_side):
            number = slide + k * per_side + i
            sample = draw("Colon", number, 0, size=side)
            stem = f"{where}{i}"
            Image.fromarray(sample.image).save(root / "images" / f"{stem}.png")
            np.save(root / "labels" / f"{stem}.npy", sample.nuclei.instances)
            if typed:
                np.save(root / "types" / f"{stem}.npy", pixel_types(sample.nuclei, name))
            lines.append(f"{stem}.png,{where},{name}-{number}")
    (root / "images.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    listed = ", ".join(f'"{word}"' for word in CLASSES[name]) if typed else ""
    tissue = f'tissue = "{TISSUES[name]}"\n' if TISSUES[name] else ""
    toml = f'name = "{name}"\nclasses = [{listed}]\nmpp = {mpp}\npatch = {side}\n{tissue}'
    (root / "dataset.toml").write_text(toml, encoding="utf-8")
    return root


def pixel_types(nuclei: Nuclei, name: str) -> np.ndarray:
    """uint8 (H, W): the drawn types as the set `name` numbers its classes."""
    return np.array(TYPES[name], np.uint8)[nuclei.pixel_types()]
