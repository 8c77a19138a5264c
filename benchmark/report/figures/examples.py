"""The figure of examples: a line per chosen image with the image, its truth, and each method's hits and misses."""

import math
import textwrap
from pathlib import Path

import numpy as np

from benchmark.report.figures.gallery import FALSE, HIT, MISSED, Panel, outline
from benchmark.report.figures.style import drawing, save, shorten

# light, light and darker in turn: seen on pink and on purple, and told apart without red and green by brightness
PAINT = {HIT: (0, 245, 212), FALSE: (255, 221, 0), MISSED: (255, 40, 0)}
NAMES = {HIT: "hit", FALSE: "false positive", MISSED: "missed"}
SIDE, WIDEST, TEXT = 0.86, 8, 5  # inch of a picture, pictures side by side (the width of a page), points
TRUTH = (255, 255, 255)


def painted(image: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """uint8 (H, W, 3): the image with the outlines of `marked` in PAINT, two pixels wide."""
    out, codes = image.copy(), codes.copy()
    for axis in (0, 1):
        beside = np.roll(codes, 1, axis)
        beside[(slice(None),) * axis + (0,)] = 0  # what left the image at its end
        codes = np.where(codes == 0, beside, codes)
    for code, colour in PAINT.items():
        out[codes == code] = colour
    return out


def panels_figure(panels: list[Panel], folder: Path) -> bool:
    """Write <folder>/examples.png, .pdf and .csv; False without panels."""
    panels = [p for p in panels if p.outlines]
    if not panels:
        return False
    labels = list(dict.fromkeys(label for p in panels for label in p.outlines))
    columns = min(WIDEST, 2 + len(labels))
    lines = -(-(2 + len(labels)) // columns)  # of one panel; with many methods it goes on below
    with drawing(0.35 + (SIDE + 0.27) * lines * len(panels), (SIDE + 0.04) * columns) as figure:
        grid = figure.subplots(lines * len(panels), columns, squeeze=False)
        for axes in grid.ravel():
            axes.set_axis_off()
        for line, panel in zip(grid.reshape(len(panels), lines * columns), panels):
            truth = panel.image.copy()
            truth[outline(panel.truth)] = TRUTH
            named = shorten(panel.tissue.replace("_", " ") or panel.image_id, 24)
            shown = [(panel.image, textwrap.fill(panel.rule, 22)), (truth, f"truth\n{named}")]
            for label in labels:
                if label in panel.outlines:
                    shown.append((painted(panel.image, panel.outlines[label]), _title(label, panel)))
            for axes, (picture, title) in zip(line, shown):
                axes.imshow(picture, interpolation="none")
                axes.set_title(title, fontsize=TEXT, pad=2)
        from matplotlib.lines import Line2D

        keys = [Line2D([], [], color=np.array(PAINT[c]) / 255, linewidth=3, label=NAMES[c]) for c in PAINT]
        figure.legend(handles=keys, loc="outside upper center", ncols=3, fontsize=6)
    records = []
    for panel in panels:
        facts = {"rule": panel.rule, "image_id": panel.image_id, "tissue": panel.tissue}
        facts |= {"fold": panel.fold, "place": panel.place}
        records += [facts | {"method": label, "bPQ": panel.scores[label]} for label in panel.outlines]
    save(figure, Path(folder) / "examples", records)
    return True


def _title(label: str, panel: Panel) -> str:
    score = panel.scores[label]
    return f"{shorten(label, 24)}\n{'no bPQ' if math.isnan(score) else f'bPQ {score:.2f}'}"
