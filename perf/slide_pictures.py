"""One drawn slide from end to end: predicted tile by tile, scored against its truth, and shown.

    python perf/slide_pictures.py --weights results/…/fold3-seed0 --out docs/reference/slides

Draws a slide of tissue on glass (a stain and a tissue that no fold has), writes it as a tiled pyramid, runs
`python -m benchmark predict` on it with a run's weights and writes to --out: slide.csv (scores within the strips that
two tiles share, and elsewhere), overview.jpg (what `predict` writes beside the results, `x.png`) and seam.jpg (the
corner of four tiles at full resolution, with what was found and what is true).
"""

import argparse
import csv
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib
import numpy as np
import tifffile
from PIL import Image
from scipy import ndimage

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from benchmark.data.nuclei import Nuclei
from benchmark.data.sources.synthetic import CLASSES, MPP, RESERVED, draw
from benchmark.evaluation.settings import Settings
from benchmark.evaluation.slides.grid import Grid
from benchmark.formats import outlines
from benchmark.formats.geojson import COLOURS
from benchmark.formats.type_names import TypeNames
from benchmark.metrics import evaluate

AS = Settings()  # the defaults of `predict`
GLASS = 244
SHOWN = 320  # px, side of the part that is shown
STEP = 4  # between the levels of the pyramid


def slide(side: int, tissue: str) -> tuple[np.ndarray, Nuclei]:
    """A section with a wavy border on glass: image uint8 (side, side, 3), its nuclei."""
    sample = draw(tissue, RESERVED + 7, 1, size=side)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    angle = np.arctan2(y, x)
    border = 0.86 + sum(rng.normal(0, 0.05 / k) * np.cos(k * angle + rng.uniform(0, 6)) for k in range(2, 9))
    glass = np.hypot(x, y) > border
    soft = ndimage.gaussian_filter(glass.astype(np.float32), 2)[..., None]
    image = np.rint(sample.image * (1 - soft) + GLASS * soft).astype(np.uint8)
    return image, sample.nuclei.with_map(np.where(glass, 0, sample.nuclei.instances))


def write(path: Path, image: np.ndarray) -> None:
    """A tiled TIFF with two coarser levels, which states its resolution."""
    with tifffile.TiffWriter(path) as file:
        for level in range(3):
            step = STEP**level
            rows, columns = (side // step * step for side in image.shape[:2])
            parts = image[:rows, :columns].reshape(rows // step, step, columns // step, step, 3)
            file.write(
                parts.mean((1, 3)).round().astype(np.uint8), tile=(256, 256), photometric="rgb", compression="zlib",
                metadata=None, subifds=2 if level == 0 else None, subfiletype=1 if level else 0,
                resolution=(1e4 / MPP / step,) * 2, resolutionunit="CENTIMETER",
            )  # fmt: skip


def scores(truth: Nuclei, found: Nuclei, shared: np.ndarray) -> list[dict]:
    """Of the nuclei whose centre lies where several tiles see it, of the others, and of all."""
    nuclei = evaluate([truth], [found], classes=list(CLASSES)).records.nuclei
    inside = shared[nuclei.y.astype(int), nuclei.x.astype(int)]
    rows = []
    for name, part in (("shared by tiles", nuclei[inside]), ("one tile's", nuclei[~inside]), ("all", nuclei)):
        true, pred = part[part.side == "true"], part[part.side == "pred"]
        recall, precision = (true.match > 0).mean(), (pred.match > 0).mean()
        f1 = 2 * recall * precision / (recall + precision)
        values = {"recall": recall, "precision": precision, "F1": f1, "SQ": true.iou[true.match > 0].mean()}
        rows.append(
            {"nuclei": name, "true": len(true), "found": len(pred)} | {k: f"{v:.4f}" for k, v in values.items()}
        )
    return rows


def shared_by(grid: Grid, side: int) -> np.ndarray:
    """bool (side, side): pixels that lie in more than one tile."""
    times = np.zeros((side, side), np.uint8)
    for tile in grid.tiles:
        top, left, bottom, right = tile.box
        times[top:bottom, left:right] += 1
    return times > 1


def corner(grid: Grid) -> tuple[int, int]:
    """y, x of the middle of the strips where the first four tiles meet."""
    first = grid.tiles[0].box
    last = next(tile for tile in grid.tiles if (tile.row, tile.column) == (1, 1)).box
    return (first[2] + last[0]) // 2, (first[3] + last[1]) // 2


def seam(path: Path, image: np.ndarray, truth: Nuclei, found: Nuclei, grid: Grid) -> None:
    """The corner of four tiles as it is, with the nuclei found and with the true ones; borders of tiles are dashed."""
    y, x = corner(grid)
    top, left = y - SHOWN // 2, x - SHOWN // 2
    here = (slice(top, top + SHOWN), slice(left, left + SHOWN))
    figure, axes = plt.subplots(1, 3, figsize=(15, 5.3), layout="constrained")
    for axis, title, nuclei in zip(
        axes, ("the slide", "found, tile by tile", "true"), (None, found, truth), strict=True
    ):
        axis.imshow(image[here], extent=(left, left + SHOWN, top + SHOWN, top), interpolation="nearest")
        for line in (axis.axhline, axis.axvline) if nuclei is not truth else ():
            for edge in sorted({edge for tile in grid.tiles for edge in tile.box[line == axis.axvline :: 2]}):
                line(edge, linestyle="--", color="black", linewidth=0.8)
        if nuclei is not None:
            rings(axis, nuclei, top, left)
        axis.set(title=title, xlim=(left, left + SHOWN), ylim=(top + SHOWN, top), xlabel="px")
    figure.legend(
        [plt.Line2D([], [], color=tuple(c / 255 for c in colour)) for colour in COLOURS[: len(CLASSES)]], CLASSES,
        loc="outside lower center", ncols=len(CLASSES), frameon=False,
    )  # fmt: skip
    figure.savefig(path, dpi=90, bbox_inches="tight", pil_kwargs={"quality": 85})


def rings(axis, nuclei: Nuclei, top: int, left: int) -> None:
    """Outlines in the colours of the types, of the nuclei that reach into the part shown."""
    part = nuclei.instances[top : top + SHOWN, left : left + SHOWN]
    for k in np.unique(part[part > 0]):
        colour = np.divide(COLOURS[(int(nuclei.types[k - 1]) or len(COLOURS)) - 1], 255)
        x, y = left + np.arange(SHOWN) + 0.5, top + np.arange(SHOWN) + 0.5
        axis.contour(x, y, part == k, [0.5], colors=[colour], linewidths=1.1)


def predicted(weights: Path, image: np.ndarray, folder: Path) -> tuple[Nuclei, Image.Image]:
    """What `predict` finds on the slide, read back from its GeoJSON; its overview."""
    # a plain TIFF of this size is taken for an image, one with a scanner's ending for a slide
    write(folder / "slide.svs", image)
    words = {"--weights": weights, "--images": folder / "slide.svs", "--out": folder / "found"}
    flat = [str(word) for pair in words.items() for word in pair]
    subprocess.run([sys.executable, "-m", "benchmark", "predict", *flat], check=True)
    read = outlines.read_json(folder / "found/slide.geojson.gz", image.shape[:2], TypeNames(CLASSES), None)
    overview = Image.open(folder / "found/slide.png").convert("RGB")
    return read.nuclei(MPP), overview


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="a run's folder, trained on `synthetic`")
    parser.add_argument("--out", type=Path, default=Path("docs/reference/slides"))
    parser.add_argument("--side", type=int, default=3072, help="of the slide, px at 0.25 µm/px (3072)")
    parser.add_argument("--tissue", default="Colon", help="a tissue of `synthetic` (Colon)")
    options = parser.parse_args()
    image, truth = slide(options.side, options.tissue)
    with tempfile.TemporaryDirectory(prefix="slide-pictures-") as folder:
        found, overview = predicted(options.weights, image, Path(folder))
    grid = Grid.of(options.side, options.side, AS.window, AS.margin, AS.tile)
    rows = scores(truth, found, shared_by(grid, options.side))
    options.out.mkdir(parents=True, exist_ok=True)
    with open(options.out / "slide.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, rows[0], lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    overview.save(options.out / "overview.jpg", quality=85)
    seam(options.out / "seam.jpg", image, truth, found, grid)
    print("\n".join(map(str, rows)))


if __name__ == "__main__":
    main()
