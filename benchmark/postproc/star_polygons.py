"""Star-convex polygons to nuclei: suppression of those that overlap a more probable one, and painting.

As the authors' package `stardist` (BSD-3: `stardist.nms`, `stardist.geometry` and their C++) does it. The order is
that of probability, ties by position (raster order of the centres; the package leaves ties to its sorting). The
package computes the intersection of each pair of polygons; here bounds of their areas decide nearly all pairs, and
the intersection only the rest.
"""

import numpy as np
from skimage.draw import polygon

CHUNK = 2048  # polygons that are measured at once
CROSSINGS = 2**21  # edges × lines of polygons whose shared areas are measured at once: some 100 MB


def unit_circle(rays: int) -> np.ndarray:
    """float64 (2, rays): (row, column) of each ray's direction, see `star_distances`."""
    angles = np.linspace(0, 2 * np.pi, rays, endpoint=False)
    return np.stack([np.sin(angles), np.cos(angles)])


def suppress(distances: np.ndarray, centres: np.ndarray, overlap: float) -> np.ndarray:
    """Which polygons stay: those of which no more probable one that stays covers too much.

    Two polygons overlap by the area that they share relative to the smaller one's. Corners are cut to whole pixels
    before, as in the package; where edges cross it rounds that place to a whole pixel too, which is not done here.

    Args:
        distances: float32 (rays, N) in pixels, in descending order of probability.
        centres: int (N, 2) rows and columns >= 0, no pixel twice.
        overlap: a polygon goes that overlaps one that stays by more than this.

    Returns:
        int (K,) positions of those that stay, ascending.
    """
    if not len(centres):
        return np.zeros(0, np.int64)
    x, y, extents, areas = _outlines(distances, centres)
    radius = np.ceil(distances.max(0)).astype(np.int64) + 1
    reach = int(radius.max())
    waiting = np.full(centres.max(0) + 1, -1, np.int64)  # the polygon at each pixel that may stay; -1: none
    waiting[tuple(centres.T)] = np.arange(len(centres))
    place = centres[:, 0] * waiting.shape[1] + centres[:, 1]
    staying, waiting_flat = np.full(waiting.shape, -1, np.int64), waiting.ravel()
    unsure = np.zeros(len(centres), bool)  # whether the bounds left open that it overlaps one that stays

    def covered(i: int, others: np.ndarray) -> np.ndarray:
        """Of others: they share more with polygon i than allowed. One without area shares none, as in the package."""
        parts = -(-len(others) * len(x) * int(y[:, i].max() - y[:, i].min()) // CROSSINGS)
        # two at least, which numpy sums line by line as it does many; the sum of one alone may differ in its last bit
        parts = max(1, min(parts, len(others) // 2))
        shared = np.concatenate(
            [shared_areas(x[:, i], y[:, i], x[:, part], y[:, part]) for part in np.array_split(others, parts)]
        )
        return shared > overlap * (np.minimum(areas[i], areas[others]) + 1e-10)

    stay = []
    for i, at in enumerate(place.tolist()):
        if waiting_flat[at] < 0:
            continue
        waiting_flat[at] = -1
        (row, column), wide = centres[i], radius[i] + reach
        window = slice(max(row - wide, 0), row + wide + 1), slice(max(column - wide, 0), column + wide + 1)
        if unsure[i]:
            before = staying[window]
            open_ = _bounds(extents, areas, i, before[before >= 0], overlap)[1]
            if len(open_) and covered(i, open_).any():
                continue
        stay.append(i)
        staying[row, column] = i
        others = waiting[window]
        gone, open_ = _bounds(extents, areas, i, others[others >= 0], overlap)
        waiting_flat[place[gone]] = -1
        # of the same nucleus, it seems: all at once is faster than each when it is its turn
        if not len(open_):
            continue
        near = ((centres[open_] - centres[i]) ** 2).sum(1) < (radius[i] / 2) ** 2
        unsure[open_[~near]] = True
        likely = open_[near]
        if len(likely):
            waiting_flat[place[likely[covered(i, likely)]]] = -1
    return np.array(stay, np.int64)


def paint(distances: np.ndarray, centres: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """int32 (H, W): pixels of each polygon, id k + 1 of the k-th; an earlier one covers later ones.

    Args:
        distances: float32 (rays, N) in pixels, in descending order of probability.
        centres: int (N, 2) rows and columns.
    """
    corners = (distances.T[:, None] * unit_circle(len(distances))).astype(np.float32)
    corners += centres[..., None]
    out = np.zeros(shape, np.int32)
    for k in range(len(corners) - 1, -1, -1):
        out[polygon(*corners[k], shape)] = k + 1
    return out


def shared_areas(x: np.ndarray, y: np.ndarray, others_x: np.ndarray, others_y: np.ndarray) -> np.ndarray:
    """Area that a polygon shares with each of several, px^2.

    The length that both cover of each line half-way between two rows of pixels, summed: exact between whole rows, in
    which corners lie, but where edges cross, and there nearly.

    Args:
        x, y: (P,) corners, whole numbers, the last equal to the first; others_x, others_y: (P, N).
    """
    low = max(y.min(), others_y.min())
    high = min(y.max(), others_y.max())
    if high <= low:
        return np.zeros(others_x.shape[1])
    lines = np.arange(low, high) + 0.5
    first, second = _crossings(x[:, None], y[:, None], lines), _crossings(others_x, others_y, lines)
    length = np.zeros((len(lines), others_x.shape[1]))
    for a in range(0, len(first) - 1, 2):
        for b in range(0, len(second) - 1, 2):
            begin, end = np.maximum(first[a], second[b]), np.minimum(first[a + 1], second[b + 1])
            length += np.maximum(end - begin, 0)
    return length.sum(0)


def _crossings(x: np.ndarray, y: np.ndarray, lines: np.ndarray) -> np.ndarray:
    """(C, lines, N) ascending x at which outlines cross horizontal lines, padded with 1e9; C is even."""
    x, y, at = x[:, None], y[:, None], lines[:, None]
    above = y < at
    crosses = above[:-1] != above[1:]
    rise = y[1:] - y[:-1]
    slope = np.divide(x[1:] - x[:-1], rise, out=np.zeros_like(rise), where=rise != 0)
    place = np.where(crosses, x[:-1] + (at - y[:-1]) * slope, 1e9)
    most = int(crosses.sum(0).max(initial=0))
    place.sort(0)
    return place[:most]  # an outline that is closed crosses a line an even number of times


def _outlines(distances: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, ...]:
    """(x, y float32 (rays + 1, N) of the corners, cut to whole numbers, the last one the first; extents; areas).

    extents: float32 (8, N), the least of x, y, x + y and x - y over the corners, then the largest of each.
    areas: float32 (N,) px^2.
    """
    rays, n = distances.shape
    rows, columns = unit_circle(rays).astype(np.float32)[..., None]
    outlines = np.empty((2, rays + 1, n), np.float32)
    extents, areas = np.empty((8, n), np.float32), np.empty(n, np.float32)
    for start in range(0, n, CHUNK):  # each part stays in the cache
        part = slice(start, start + CHUNK)
        x, y = outlines[..., part]
        for values, direction, centre in ((x, columns, centres[part, 1]), (y, rows, centres[part, 0])):
            np.multiply(distances[:, part], direction, out=values[:-1])
            values[:-1] += centre.astype(np.float32)
            np.trunc(values[:-1], out=values[:-1])
            values[-1] = values[0]
        for k, along in enumerate((x, y, x + y, x - y)):
            extents[k, part], extents[k + 4, part] = along.min(0), along.max(0)
        x, y = x - x[0], y - y[0]  # float32 holds the products of small numbers
        areas[part] = np.abs((x[:-1] * y[1:] - y[:-1] * x[1:]).sum(0)) / 2
    return outlines[0], outlines[1], extents, areas


def _bounds(extents, areas, i: int, others: np.ndarray, overlap: float) -> tuple[np.ndarray, np.ndarray]:
    """(those of others that overlap polygon i too much for certain, those of which it is open).

    What two polygons share is at most what their boxes share, boxes along the axes and along the diagonals, without
    the corners that one cuts off the other; it is at least the sum of their areas without the area of the octagon
    around both.
    """
    theirs = extents[:, others]
    own = extents[:, i, None]
    least, most = np.maximum(own[:4], theirs[:4]), np.minimum(own[4:], theirs[4:])
    near = np.flatnonzero((most[0] > least[0]) & (most[1] > least[1]))
    if not len(near):
        return others[:0], others[:0]
    others, theirs, least, most = others[near], theirs[:, near], least[:, near], most[:, near]
    allowed = overlap * np.minimum(areas[i], areas[others])
    box, cuts = _octagon(np.minimum(own[:4], theirs[:4]), np.maximum(own[4:], theirs[4:]))
    gone = areas[i] + areas[others] - box + cuts.sum(0) > allowed
    box, cuts = _octagon(least, most)
    upper = np.minimum(box - cuts.reshape(2, 2, -1).sum(1).max(0), (most[2:] - least[2:]).clip(0).prod(0) / 2)
    return others[gone], others[~gone & (upper > allowed)]


def _octagon(least: np.ndarray, most: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(area of the box within extents of x and y, the four corners (4, N) that x + y and x - y cut off it)."""
    (x0, y0, s0, d0), (x1, y1, s1, d1) = least, most
    width, height = x1 - x0, y1 - y0
    cuts = np.stack([x1 + y1 - s1, s0 - x0 - y0, x1 - y0 - d1, d0 - x0 + y1])
    cuts = np.clip(cuts, 0, np.minimum(width, height))
    return width * height, cuts * cuts / 2
