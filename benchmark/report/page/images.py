"""The images of the page's browser as data URLs, small enough to stand in one page."""

import base64
import io
import math

import numpy as np

from benchmark.report.figures.gallery import FALSE, HIT, MISSED, Panel

BITS = {HIT: 1, FALSE: 2, MISSED: 4}
TRUTH_BIT = 8
TYPES = 15  # what the four high bits of a code hold; nuclei of a later type are shown as untyped


def browsed(panels: list[Panel]) -> dict:
    """What the page's script needs of some images, all of one data set; `browser.js` says what the pixels mean."""
    return {"classes": panels[0].classes[:TYPES], "panels": [_panel(panel) for panel in panels]}


def url(kind: str, content: bytes) -> str:
    """A data URL of a file's content."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _panel(panel: Panel) -> dict:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(panel.image).save(content, "JPEG", quality=92)
    name = panel.image_id or str(panel.place)
    methods = {}
    for label, ids in panel.matched.items():
        score = panel.scores[label]
        methods[label] = {
            "code": _png(_codes(panel, label)),
            "matched": ids,
            "extra": len(panel.types[label]) - len(ids),
            "score": "no bPQ" if math.isnan(score) else f"bPQ {score:.3f}",
        }
    return {
        "name": name,
        "title": f"{name} ({panel.tissue or 'no tissue'}): {panel.rule}",
        "image": url("image/jpeg", content.getvalue()),
        "truth": _png(_truth(panel)),
        "nuclei": len(panel.true_types),
        "diameter": None if math.isnan(panel.diameter) else panel.diameter,
        "methods": methods,
    }


def _truth(panel: Panel) -> np.ndarray:
    """uint8 (H, W, 3): of each pixel the low and the high byte of its true nucleus's id, and the type."""
    channels = panel.truth & 255, panel.truth >> 8 & 255, _types(panel.true_types)[panel.truth]
    return np.stack(channels, -1).astype(np.uint8)


def _codes(panel: Panel, label: str) -> np.ndarray:
    """uint8 (H, W): BITS of each outline pixel, and in the high four bits the type of the nucleus outlined there."""
    marks = panel.outlines[label]
    out = np.zeros_like(marks)
    for code, bit in BITS.items():
        out[marks == code] = bit
    predicted, true = _types(panel.types[label])[panel.maps[label]], _types(panel.true_types)[panel.truth]
    kinds = np.where(marks == MISSED, true, predicted)
    return np.where(marks > 0, out | kinds << 4, 0).astype(np.uint8)


def _types(types: np.ndarray) -> np.ndarray:
    """uint8 (N + 1,), the type of each id, 0 for the background and beyond TYPES."""
    return np.concatenate([[0], np.where(types <= TYPES, types, 0)]).astype(np.uint8)


def _png(values: np.ndarray) -> str:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(values).save(content, "PNG")
    return url("image/png", content.getvalue())
