"""A sheet of samples as one PNG, bare above and outlined below: what a dataset looks like, at a glance."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from benchmark.data.nuclei import Nuclei, Sample
from benchmark.runtime.files import atomic

# PanNuke's five in the colours that its figures use, then white for untyped and further types
_COLOURS = np.uint8([(255, 255, 255), (255, 30, 30), (30, 230, 30), (40, 90, 255), (255, 230, 0), (255, 150, 0)])


def outlined(sample: Sample) -> np.ndarray:
    """uint8 (H, W, 3): the image with one px outlines inside each nucleus, coloured by type."""
    instances = sample.nuclei.instances
    inner = (ndimage.grey_erosion(instances, size=3) == instances) & (
        ndimage.grey_dilation(instances, size=3) == instances
    )
    types = np.concatenate([np.zeros(1, np.uint8), sample.nuclei.types])[instances]
    types[types >= len(_COLOURS)] = 0
    image = sample.image.copy()
    border = (instances > 0) & ~inner
    image[border] = _COLOURS[types[border]]
    return image


def sheet(samples: Iterable[Sample], columns: int = 6, predicted: list[Nuclei] | None = None) -> np.ndarray:
    """uint8 RGB: rows of images, each row followed by the same row outlined, then by the predictions' outlines.

    Images are filled up with white to the size of the largest.

    Args:
        predicted: a prediction for each sample, in the same order.

    Raises:
        ValueError: no sample.
    """
    samples = list(samples)
    if not samples:
        raise ValueError("a contact sheet needs images, found no image")
    height, width = (max(s.image.shape[axis] for s in samples) for axis in (0, 1))
    predicted = None if predicted is None else [_enlarged(nuclei, height, width) for nuclei in predicted]
    samples = [
        Sample(
            np.pad(s.image, _beyond(s.image, height, width), constant_values=255), _enlarged(s.nuclei, height, width)
        )
        for s in samples
    ]
    rows = []
    for start in range(0, len(samples), columns):
        row = samples[start : start + columns]
        blank = [np.full((height, width, 3), 255, np.uint8)] * (columns - len(row) if rows else 0)
        captions = [f"{s.nuclei.tissue} {s.nuclei.source} n={len(s.nuclei)}" for s in row]
        bare = [_caption(s.image, text) for s, text in zip(row, captions)]
        rows += [np.concatenate(bare + blank, 1), np.concatenate([*map(outlined, row), *blank], 1)]
        if predicted is not None:
            predictions = [Sample(s.image, nuclei) for s, nuclei in zip(row, predicted[start : start + columns])]
            rows += [np.concatenate([*map(outlined, predictions), *blank], 1)]
    return np.concatenate(rows, 0)


def _beyond(array: np.ndarray, height: int, width: int) -> list[tuple[int, int]]:
    """What fills an array (H, W, …) up to this height and width."""
    return [(0, height - array.shape[0]), (0, width - array.shape[1]), *([(0, 0)] * (array.ndim - 2))]


def _enlarged(nuclei: Nuclei, height: int, width: int) -> Nuclei:
    return nuclei.with_map(np.pad(nuclei.instances, _beyond(nuclei.instances, height, width)))


def write_sheet(samples: Iterable[Sample], path: Path, columns: int = 6, predicted: list[Nuclei] | None = None) -> None:
    """Write `sheet` as PNG."""
    with atomic(Path(path)) as handle:
        Image.fromarray(sheet(samples, columns, predicted)).save(handle, "PNG")


def _caption(image: np.ndarray, text: str) -> np.ndarray:
    picture = Image.fromarray(image)
    ImageDraw.Draw(picture).text((3, 2), text, fill=(0, 0, 0))
    return np.asarray(picture)
