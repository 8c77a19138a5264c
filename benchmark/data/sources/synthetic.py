"""Drawn H&E with exact masks and types: data that needs no download.

Stain belongs to the slide, architecture to the tissue, nuclei to their class; see `tissue_profiles`,
`motifs`, `nucleus_shapes`, `distractors` and `stain`. To see it: `python -m benchmark contact-sheet`.
"""

import zlib
from collections.abc import Iterator

import numpy as np

from benchmark.data.drawing import distractors, motifs
from benchmark.data.drawing.canvas import Canvas
from benchmark.data.drawing.nucleus_shapes import CLASSES
from benchmark.data.drawing.stain import develop, draw_stain
from benchmark.data.drawing.tissue_profiles import PROFILES, draw_look
from benchmark.data.nuclei import Nuclei, Sample
from benchmark.data.registry import DATASETS
from benchmark.data.source import Part, Source, Split
from benchmark.runtime.errors import InputError

__all__ = ["CLASSES", "TISSUES", "VERSION", "Synthetic", "draw"]

TISSUES = tuple(PROFILES)
VERSION = 3  # raise it when the pixels that `draw` returns change
MPP = 0.25
RESERVED = 10_000  # slides from here on belong to no fold
_MARGIN = 24  # nuclei whose centre lies outside the patch reach into it
_EMPTY, _SPARSE = 1 / 40, 0.05


def draw(tissue: str, slide: int, index: int, seed: int = 0, size: int = 256) -> Sample:
    """One patch; a pure function of its arguments.

    Args:
        tissue: one of TISSUES.
        slide: number of the slide, which decides stain and character; those from 10000 on belong to no fold.
        index: number of the patch on its slide.
        seed: of the whole set.
        size: side in px at 0.25 µm/px.

    Returns:
        image uint8 (size, size, 3) and its nuclei, types 1..5 in the order of CLASSES. Where nuclei
        overlap, the pixel belongs to the upper one; no instance is without a pixel.

    Raises:
        InputError: unknown tissue.
    """
    if tissue not in PROFILES:
        raise InputError(f"Unknown synthetic tissue '{tissue}'; expected one of {', '.join(TISSUES)}.")
    place = [seed, zlib.crc32(tissue.encode()), slide]
    of_slide, rng = np.random.default_rng(place), np.random.default_rng([*place, index])
    profile = PROFILES[tissue]
    stain = draw_stain(of_slide, profile.strength)
    look = draw_look(of_slide, profile)
    canvas = Canvas(rng, size + 2 * _MARGIN, look)
    fate = rng.random()
    names = list(look.motifs)
    motif = names[int(rng.choice(len(names), p=list(look.motifs.values())))]
    motifs.build(canvas, motif)
    motifs.populate_stroma(canvas)
    distractors.under(canvas)
    if fate < _EMPTY:
        canvas.seats = []
    elif fate < _EMPTY + _SPARSE:
        canvas.seats = [canvas.seats[k] for k in rng.permutation(len(canvas.seats))[: rng.integers(2, 8)]]
    canvas.fill_seats()
    distractors.over(canvas)
    inner = slice(_MARGIN, _MARGIN + size)
    dye = None if canvas.dye is None else canvas.dye[inner, inner]
    image = develop(rng, canvas.h[inner, inner], canvas.e[inner, inner], dye, stain)
    instances = canvas.instances[inner, inner]
    ids = np.unique(instances)
    types = np.asarray([0, *canvas.types], np.uint8)[ids[ids > 0]]
    name = f"{tissue}-{slide}-{index}"
    return Sample(
        image,
        Nuclei.from_labels(instances, types, MPP, tissue=tissue, image_id=name, source=f"{tissue}-{slide}"),
    )


@DATASETS.register_module(name="synthetic")
class Synthetic(Source):
    """Three folds of drawn patches; no slide stands in two of them.

    Args:
        root: ignored. patches: per fold. seed: of the whole set. size: side of a patch in px.
    """

    name = "synthetic"
    classes = CLASSES
    tissues = TISSUES
    mpp = MPP
    licence = "Apache-2.0, as the code that draws them"

    def __init__(self, root=None, patches: int = 64, seed: int = 0, size: int = 256):
        super().__init__(root)
        for key, value, least in (("patches", patches, 1), ("seed", seed, 0), ("size", size, 64)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise InputError(
                    f"synthetic needs {key} as a whole number from {least} on, found {key}={value!r}; correct it."
                )
        self.patches, self.seed, self.size = patches, seed, size
        # about four patches a slide, every tissue equally often
        self.slides = len(TISSUES) * min(max(1, round(patches / (4 * len(TISSUES)))), 500)

    def folds(self) -> list[int]:
        return [1, 2, 3]

    def splits(self) -> list[int]:
        return [1, 2, 3]

    def split(self, k: int, sources: dict[int, list[str]]) -> Split:
        """PanNuke's: train / validation / test fold 1/2/3, 2/1/3, 3/2/1."""
        rule = {1: (1, 2, 3), 2: (2, 1, 3), 3: (3, 2, 1)}
        if k not in rule:
            raise InputError(f"synthetic has splits 1, 2 and 3; there is no split {k}.")
        train, val, test = ([Part(fold)] for fold in rule[k])
        return Split(train, val, test)

    def identity(self, fold: int) -> dict:
        return {
            "generator": VERSION,
            "seed": self.seed,
            "patches": self.patches,
            "slides": self.slides,
            "size": self.size,
            "fold": fold,
        }

    @property
    def naming(self) -> str:
        """Slides of one name are drawn anew by another seed."""
        return f"synthetic, seed {self.seed}"

    def count(self, fold: int) -> int:
        return self.patches

    def where(self, fold: int, row: int) -> tuple[str, int, int]:
        """(tissue, slide, index) of patch `row`, counted from 0."""
        slide = row % self.slides
        return TISSUES[slide % len(TISSUES)], (fold - 1) * RESERVED // 3 + slide, row // self.slides

    def samples(self, fold: int, start: int = 0) -> Iterator[Sample]:
        for row in range(start, self.patches):
            yield draw(*self.where(fold, row), seed=self.seed, size=self.size)
