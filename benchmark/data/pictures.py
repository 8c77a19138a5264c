"""A sheet of samples as one PNG, bare above and outlined below: what a dataset looks like, at a glance.

python -m benchmark.data.contact_sheet sheet.png --tissue Colon --patches 12
"""

import argparse
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage

from benchmark.data.nuclei import Nuclei, Sample
from benchmark.runtime.errors import InputError
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

    Args:
        predicted: a prediction for each sample, in the same order.

    Raises:
        ValueError: no sample, or images of different sizes.
    """
    samples = list(samples)
    shapes = {s.image.shape for s in samples}
    if len(shapes) != 1:
        raise ValueError(f"a contact sheet needs images of one size, found {sorted(shapes) or 'no image'}")
    height, width, _ = shapes.pop()
    rows = []
    for start in range(0, len(samples), columns):
        row = samples[start : start + columns]
        blank = [np.full((height, width, 3), 255, np.uint8)] * (columns - len(row) if rows else 0)
        captions = [f"{s.nuclei.tissue} {s.nuclei.source} n={len(s.nuclei)}" for s in row]
        bare = [_caption(s.image, text) for s, text in zip(row, captions)]
        rows += [np.concatenate(bare + blank, 1), np.concatenate([*map(outlined, row), *blank], 1)]
        if predicted is not None:
            found = [Sample(s.image, n) for s, n in zip(row, predicted[start : start + columns])]
            rows += [np.concatenate([*map(outlined, found), *blank], 1)]
    return np.concatenate(rows, 0)


def write_sheet(samples: Iterable[Sample], path: Path, columns: int = 6, predicted: list[Nuclei] | None = None) -> None:
    """Write `sheet` as PNG."""
    with atomic(Path(path)) as handle:
        Image.fromarray(sheet(samples, columns, predicted)).save(handle, "PNG")


def predictions(folder: Path, rows: list[int], mpp: float) -> list[Nuclei]:
    """The stored predictions of a run for some images of its test set.

    Raises:
        InputError: the folder holds no predictions, or of fewer images than asked for.
    """
    path = Path(folder) / "predictions.npz"
    if not path.is_file():
        raise InputError(f"{path}: expected the predictions of a finished run, found no file; name a run folder.")
    with np.load(path, allow_pickle=False) as stored:
        instances, types, offsets = stored["instances"], stored["types"], stored["offsets"]
    if rows and max(rows) >= len(instances):
        raise InputError(f"{path}: holds {len(instances)} images, this test set more; name a run on the same data.")
    return [Nuclei(instances[i].astype(np.int32), types[offsets[i] : offsets[i + 1]], mpp) for i in rows]


def _caption(image: np.ndarray, text: str) -> np.ndarray:
    picture = Image.fromarray(image)
    ImageDraw.Draw(picture).text((3, 2), text, fill=(0, 0, 0))
    return np.asarray(picture)


def main(arguments: list[str] | None = None) -> None:
    from benchmark.data.sources.synthetic import TISSUES, Synthetic, draw

    parser = argparse.ArgumentParser(
        prog="python -m benchmark.data.contact_sheet",
        description="Draw synthetic patches, bare and outlined by type, on one PNG.",
        epilog="example: python -m benchmark.data.contact_sheet sheet.png --tissue Colon --patches 12",
    )
    parser.add_argument("path", type=Path, help="PNG file to write")
    parser.add_argument("--tissue", choices=TISSUES, help="one tissue only; each patch of another slide")
    parser.add_argument("--fold", type=int, choices=(1, 2, 3), default=1, help="fold (default 1)")
    parser.add_argument("--patches", type=int, default=24, help="number of patches (default 24)")
    parser.add_argument("--columns", type=int, default=6, help="patches in a row (default 6)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the set (default 0)")
    chosen = parser.parse_args(arguments)
    if chosen.patches < 1 or chosen.columns < 1:
        parser.error("--patches and --columns must be at least 1")
    if chosen.tissue:
        samples = (draw(chosen.tissue, k, 0, chosen.seed) for k in range(chosen.patches))
    else:
        samples = Synthetic(patches=max(64, chosen.patches), seed=chosen.seed).samples(chosen.fold)
    write_sheet(islice(samples, chosen.patches), chosen.path, chosen.columns)
    print(f"wrote {chosen.path}")


if __name__ == "__main__":
    main()
