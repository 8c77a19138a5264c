"""Outlines to label maps: even-odd filling, row by row, without any drawing library.

Three conventions of where a vertex lies. "corners": pixel (row r, column c) is the square [c, c + 1] x [r, r + 1] and
belongs to a polygon that holds its centre, as in QuPath. "centres": (c, r) is the centre of that pixel, and pixels
under the outline belong to it, as the contours of OpenCV are meant, which HoVer-Net and CellViT write. "inside": the
same, but a pixel belongs to a polygon only if its centre is inside, as StarDist draws its polygons.
"""

import numpy as np

VERTICES = ("corners", "centres", "inside")
CELLS = 1 << 20  # rows times columns, or times edges, that are worked on at once


def paint(labels: np.ndarray, rings: list[np.ndarray], value: int, vertices: str) -> int:
    """Set the pixels of a polygon to `value`, also where another value stands.

    Args:
        labels: (H, W) integers, changed in place.
        rings: float (K, 2) x, y vertices of each ring, outer ring and holes alike; closed or not.
        vertices: "corners", "centres" or "inside".

    Returns:
        the number of pixels set; what lies outside the image is left out.
    """
    window, inside = filled(labels.shape, rings, vertices)
    labels[window][inside] = value
    return int(inside.sum())


def filled(shape: tuple[int, int], rings: list[np.ndarray], vertices: str) -> tuple[tuple[slice, slice], np.ndarray]:
    """The pixels of a polygon: rows and columns of a window of the image (H, W), and bool of the window's shape.

    Args:
        rings, vertices: as in `paint`.
    """
    nothing = (slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool)
    height, width = shape
    rings = [np.asarray(ring, np.float64) for ring in rings if len(ring)]
    if not rings:
        return nothing
    points = np.concatenate(rings)
    left, top = np.floor(points.min(0)).astype(np.int64)
    right, bottom = np.ceil(points.max(0)).astype(np.int64) + 1
    top, left, bottom, right = max(top, 0), max(left, 0), min(bottom, height), min(right, width)
    if top >= bottom or left >= right:
        return nothing
    shift = 0.5 if vertices == "corners" else 0.0
    inside = _even_odd(rings, np.arange(top, bottom) + shift, left + shift, right - left)
    if vertices == "centres":
        for ring in rings:
            rows, columns = _outline(ring, (left, top), (right, bottom))
            seen = (rows >= top) & (rows < bottom) & (columns >= left) & (columns < right)
            inside[rows[seen] - top, columns[seen] - left] = True
    return (slice(top, bottom), slice(left, right)), inside


def _even_odd(rings: list[np.ndarray], y: np.ndarray, x: float, width: int) -> np.ndarray:
    """bool (len(y), width): points (x + column, y) with an odd number of crossings to their left or on them."""
    step = max(1, CELLS // max(width, *map(len, rings)))
    return np.concatenate([_rows(rings, y[k : k + step], x, width) for k in range(0, len(y), step)])


def _rows(rings: list[np.ndarray], y: np.ndarray, x: float, width: int) -> np.ndarray:
    """`_even_odd` of a few rows at once."""
    flips = np.zeros((len(y), width + 1), np.int64)
    for ring in rings:
        begin, end = ring, np.roll(ring, -1, 0)
        crossed = (begin[None, :, 1] <= y[:, None]) != (end[None, :, 1] <= y[:, None])
        row, edge = np.nonzero(crossed)
        (x0, y0), (x1, y1) = begin[edge].T, end[edge].T
        at = x0 + (y[row] - y0) * (x1 - x0) / (y1 - y0)
        column = np.clip(np.ceil(at - x), 0, width).astype(np.int64)
        np.add.at(flips, (row, column), 1)
    return (np.cumsum(flips[:, :width], 1) & 1).astype(bool)


def _outline(ring: np.ndarray, low: tuple[int, int], high: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the pixels under the ring's edges, and a few of those beyond x, y low..high."""
    begin, step = ring, np.roll(ring, -1, 0) - ring
    steps = np.ceil(np.abs(step).max(1)).astype(np.int64)
    # an edge may leave the image by any length: only its steps near the window are taken
    with np.errstate(divide="ignore", invalid="ignore"):
        ends = np.sort([(np.array(low) - 1 - begin) / step, (np.array(high) + 1 - begin) / step], 0)
    outside = (step == 0) & ((begin < np.array(low) - 1) | (begin > np.array(high) + 1))
    ends[:, step == 0] = np.array([[0.0], [1.0]])
    enter, leave = np.clip(ends[0].max(1), 0, 1), np.clip(ends[1].min(1), 0, 1)
    first = np.floor(enter * steps).astype(np.int64)
    count = np.ceil(leave * steps).astype(np.int64) - first + 1
    count[(leave < enter) | outside.any(1)] = 0
    edge = np.repeat(np.arange(len(ring)), count)
    number = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + first[edge]
    share = number / np.maximum(steps[edge], 1)
    at = np.rint(begin[edge] + share[:, None] * step[edge]).astype(np.int64)
    return at[:, 1], at[:, 0]
