"""Label maps to GeoJSON as QuPath opens it: one detection per nucleus, outlines along the pixels' edges.

Vertices are pixel corners (x, y), so that reading the file back (`formats.outlines`) gives the same label map.
"""

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage

from benchmark.runtime.files import atomic

Ring = list[tuple[int, int]]
_NAMESPACE = uuid.UUID(
    "6f1f3c0e-3f0b-5c57-8f3b-1d1f6f0c8a11"
)  # ids follow from image and nucleus: same input, same file
COLOURS = ((255, 30, 30), (30, 200, 30), (40, 90, 255), (255, 230, 0), (255, 150, 0), (170, 60, 220), (0, 200, 200))


def write_geojson(
    path: Path,
    instances: np.ndarray,
    types: np.ndarray,
    classes: list[str],
    mpp: float,
    scores: np.ndarray | None = None,
) -> None:
    """Write a FeatureCollection of all nuclei, whole or not at all.

    Args:
        instances: int (H, W), ids 1..N, 0 = background.
        types: (N,) type of each id, 0 = untyped.
        classes: names of types 1..C.
        mpp: micrometres per pixel, for the area.
        scores: (N,) confidence of each id, None for none.
    """
    with atomic(path, "w") as handle, Features(handle.write, path.stem, classes) as features:
        for k, rings in outlines(instances).items():
            polygons = nest(rings)
            score = None if scores is None else float(scores[k - 1])
            features.add(k, polygons, int(types[k - 1]), _area(polygons) * mpp**2, score)


class Features:
    """A FeatureCollection that is written nucleus by nucleus.

    Args:
        write: takes text.
        image: its name, of which the nuclei's identities follow.
        classes: names of types 1..C.
    """

    def __init__(self, write: Callable[[str], object], image: str, classes: list[str]):
        self._write, self._image, self._classes, self._between = write, image, classes, ""

    def __enter__(self) -> "Features":
        self._write('{"type": "FeatureCollection", "features": [')
        return self

    def __exit__(self, kind, *error) -> None:
        if kind is None:
            self._write("]}")

    def add(self, number: int, polygons: list[list], kind: int, area: float, score: float | None) -> str:
        """Write a nucleus; returns its id in the file, a UUID.

        Args:
            number: distinct in the image.
            polygons: as `nest` makes them, rings of (x, y) in pixels of the image.
            kind: its type, 0 = untyped.
            area: µm².
            score: confidence, None for none.
        """
        geometry = (
            {"type": "Polygon", "coordinates": polygons[0]}
            if len(polygons) == 1
            else {"type": "MultiPolygon", "coordinates": polygons}
        )
        measurements = {"Area µm^2": area} | ({} if score is None else {"Score": round(score, 4)})
        properties: dict[str, object] = {"objectType": "detection", "measurements": measurements}
        if kind:
            colour = list(COLOURS[(kind - 1) % len(COLOURS)])
            properties["classification"] = {"name": self._classes[kind - 1], "color": colour}
        identity = str(uuid.uuid5(_NAMESPACE, f"{self._image}/{number}"))
        feature = {"type": "Feature", "id": identity, "geometry": geometry, "properties": properties}
        self._write(self._between + json.dumps(feature, ensure_ascii=False))
        self._between = ", "
        return identity


def outlines(instances: np.ndarray) -> dict[int, list[Ring]]:
    """id -> closed rings of pixel corners (x, y); outer rings and holes, 4-connected, collinear corners left out.

    No ring passes a corner twice, and the polygons that `nest` makes of them are valid as OGC defines it.
    """
    boxes = ndimage.find_objects(instances)
    return {
        k: [[(x + box[1].start, y + box[0].start) for x, y in ring] for ring in rings_of(instances[box] == k)]
        for k, box in enumerate(boxes, start=1)
        if box is not None
    }


def rings_of(mask: np.ndarray) -> list[Ring]:
    """Rings around the pixels of a mask, the inside on the right of each step (y downwards)."""
    padded = np.pad(mask, 1)
    steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
    inside = padded[1:-1, 1:-1]
    for neighbour, start, end in (
        (padded[:-2, 1:-1], (0, 0), (1, 0)),  # top edge runs right
        (padded[1:-1, 2:], (1, 0), (1, 1)),  # right edge runs down
        (padded[2:, 1:-1], (1, 1), (0, 1)),  # bottom edge runs left
        (padded[1:-1, :-2], (0, 1), (0, 0)),  # left edge runs up
    ):
        for y, x in np.argwhere(inside & ~neighbour).tolist():
            steps.setdefault((x + start[0], y + start[1]), []).append((x + end[0], y + end[1]))
    rings = []
    while steps:
        first = at = min(steps)
        before, ring = None, []
        while True:
            choices = steps[at]
            # where two pixels touch at a corner only, turn right: they stay apart, as in 4-connected objects
            chosen = choices.pop(_right(before, at, choices) if len(choices) > 1 else 0)
            if not choices:
                del steps[at]
            if before is None or (at[0] - before[0], at[1] - before[1]) != (chosen[0] - at[0], chosen[1] - at[1]):
                ring.append(at)
            before, at = at, chosen
            if at == first:
                break
        rings += _simple(ring)
    return rings


def _simple(ring: Ring) -> list[Ring]:
    """Closed rings of an open one, divided at the corners that it passes more than once.

    There two pixels outside meet at a corner: each gap gets a ring of its own, a hole that touches the others in a
    point. Each ring begins at its leftmost corner, the topmost of those.
    """
    rings, path, place = [], [], {}
    for corner in [*ring, ring[0]]:
        if corner in place:
            loop = path[place[corner] :]
            del path[place[corner] :]
            for passed in loop:
                del place[passed]
            first = loop.index(min(loop))
            loop = loop[first:] + loop[:first]
            rings.append([*loop, loop[0]])
        place[corner] = len(path)
        path.append(corner)
    return rings


def _right(before: tuple[int, int] | None, at: tuple[int, int], choices: list[tuple[int, int]]) -> int:
    """Index of the step that turns right (clockwise with y downwards) after the step from `before` to `at`."""
    if before is None:
        return 0
    dx, dy = at[0] - before[0], at[1] - before[1]
    return next((i for i, c in enumerate(choices) if (c[0] - at[0], c[1] - at[1]) == (-dy, dx)), 0)


def nest(rings: list[Ring]) -> list[list[Ring]]:
    """Polygons as GeoJSON nests them: each outer ring followed by the holes within it."""
    outer = [[ring] for ring in rings if _signed(ring) > 0]
    for hole in (ring for ring in rings if _signed(ring) < 0):
        x, y = hole[0][0] + 0.25, hole[0][1] + 0.25
        around = [polygon for polygon in outer if _holds(polygon[0], x, y)] or outer
        min(around, key=lambda polygon: abs(_signed(polygon[0]))).append(hole)
    return outer


def _signed(ring: Ring) -> float:
    """Area, positive for outer rings."""
    points = np.asarray(ring, np.float64)
    x, y = points[:-1].T, points[1:].T
    return float((x[0] * y[1] - y[0] * x[1]).sum() / 2)


def _holds(ring: Ring, x: float, y: float) -> bool:
    points = np.asarray(ring, np.float64)
    (x0, y0), (_, y1) = points[:-1].T, points[1:].T
    crossed = (y0 <= y) != (y1 <= y)  # rings run along pixel edges: only vertical steps cross, at their x
    return bool((x0[crossed] < x).sum() % 2)


def _area(polygons: list[list[Ring]]) -> float:
    return sum(_signed(ring) for polygon in polygons for ring in polygon)
