"""Flows to the centre of each nucleus, and nuclei from pixels that follow flows (Cellpose).

Stringer et al. 2021, "Cellpose: a generalist algorithm for cellular segmentation". What exactly the diffusion, the
integration and the clustering are is defined by the authors' package `cellpose` 4.2 (BSD-3), `cellpose.dynamics` and
`cellpose.utils`, whose results these equal but for the order of sums.
"""

import numpy as np
from scipy import ndimage, sparse

# the pixel itself and its eight neighbours (row, column)
_NEIGHBOURS = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1))
PEAK = 10  # a cluster begins at a pixel where more than so many paths end
TAIL = 2  # and grows over neighbours where more than this end
WINDOW = 5  # pixels that a cluster reaches from its beginning


def flows(instances: np.ndarray) -> np.ndarray:
    """Direction in which heat that is given to each nucleus at its centre flows back there.

    Each step gives heat 1 to the centre and then each pixel the mean of its 3 x 3 neighbourhood, in which other nuclei
    and background are cold; as many steps as twice the sum of the sides of the largest box (plus 2). The centre is the
    rounded centre of mass, or the pixel of the nucleus that is nearest to it.

    Args:
        instances: (H, W) integer ids 0..N.

    Returns:
        float32 (2, H, W): rows and columns of unit vectors, 0 on background and where no heat came.
    """
    out = np.zeros((2, *instances.shape), np.float32)
    boxes = ndimage.find_objects(instances)
    present = [k + 1 for k, box in enumerate(boxes) if box is not None]
    if not present:
        return out
    steps = 2 * max(sum(s.stop - s.start for s in boxes[k - 1]) + 2 for k in present)
    rows, columns = np.nonzero(instances)
    labels = instances[rows, columns]
    number = np.full(np.add(instances.shape, 2), -1, np.int64)  # of each pixel, with a margin
    number[rows + 1, columns + 1] = np.arange(len(rows))
    near = np.stack([number[rows + 1 + i, columns + 1 + j] for i, j in _NEIGHBOURS])
    same = (near >= 0) & (labels[near] == labels)
    around = sparse.csr_array(
        (np.ones(int(same.sum())), near.T[same.T], np.concatenate([[0], np.cumsum(same.sum(0))])),
        shape=(len(rows), len(rows)),
    )
    centres = number[tuple(_centres(rows, columns, labels, boxes).T + 1)]
    heat = np.zeros(len(rows))
    for _ in range(steps):
        heat[centres] += 1
        heat = around @ heat / 9
    # of other nuclei too, as in the package: at an edge between two nuclei flows point away from the hotter one
    up, down, left, right = np.where(near[1:5] >= 0, heat[near[1:5]], 0)
    slope = np.stack([down - up, right - left])
    out[:, rows, columns] = slope / (1e-60 + np.sqrt((slope**2).sum(0)))
    return out


def follow(flow: np.ndarray, rows: np.ndarray, columns: np.ndarray, steps: int) -> np.ndarray:
    """Where pixels come to that take steps along a flow (Euler's method), with the flow between pixels interpolated.

    As in the package positions are stretched by 1 / (1 - 1 / side) around the image's corner and moved by half a pixel
    before the flow is looked up, in float32; beyond the image it is 0, and nobody leaves it.

    Args:
        flow: float (2, H, W) pixels per step, rows and columns.
        rows, columns: of the pixels that move.

    Returns:
        float32 (2, N) positions.
    """
    height, width = flow.shape[1:]
    if min(height, width) < 2:
        return np.stack([rows, columns]).astype(np.float32)
    sides = np.array([[height], [width]], np.float32)
    # both components of the flow in one number, in a margin of zeros; relative positions -1..1 as the package has them
    field = np.zeros((height + 2, width + 2), np.complex64)
    field[1:-1, 1:-1] = flow[0] * np.float32(2 / (height - 1)) + 1j * flow[1] * np.float32(2 / (width - 1))
    field, across = field.ravel(), width + 2
    at = np.stack([rows, columns]).astype(np.float32)
    at /= sides - 1
    at *= 2
    at -= 1
    for _ in range(steps):
        place = ((at + 1) * sides - 1) * np.float32(0.5)
        low = np.floor(place)
        share = place - low
        whole = low.astype(np.intp)
        first = (whole[0] + 1) * across + whole[1] + 1
        down, right = share
        upper, lower = field.take(first), field.take(first + across)
        upper += (field.take(first + 1) - upper) * right
        lower += (field.take(first + across + 1) - lower) * right
        upper += (lower - upper) * down
        at[0] += upper.real
        at[1] += upper.imag
        np.clip(at, -1, 1, out=at)
    return (at + 1) * np.float32(0.5) * (sides - 1)


def gather(ends: np.ndarray, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Nuclei of pixels whose paths end together.

    A cluster begins where more than PEAK paths end and in no pixel of the 5 x 5 around more, and grows in WINDOW steps
    to neighbours in which more than TAIL end; those of more paths go over those of fewer, and of equal ones the later
    in raster order. Clusters of more than 40 % of the image are background.

    Args:
        ends: (2, N) positions of the ends; rows, columns: (N,) where the paths began.
        shape: of the image.

    Returns:
        int32 (H, W) ids 1..n.
    """
    margin = 20
    places = ends.astype(np.int64) + margin
    count = np.zeros(np.add(shape, 2 * margin), np.int64)
    np.add.at(count, tuple(places), 1)
    peaks = np.argwhere((count == ndimage.maximum_filter(count, 5, mode="constant")) & (count > PEAK))
    peaks = peaks[np.argsort(count[tuple(peaks.T)], kind="stable")]
    clusters = np.zeros(count.shape, np.int32)
    for k, (row, column) in enumerate(peaks, 1):
        window = slice(row - WINDOW, row + WINDOW + 1), slice(column - WINDOW, column + WINDOW + 1)
        grown = np.zeros((2 * WINDOW + 1, 2 * WINDOW + 1), bool)
        grown[WINDOW, WINDOW] = True
        open_ = count[window] > TAIL
        grown = ndimage.binary_dilation(grown, np.ones((3, 3)), iterations=WINDOW, mask=open_)
        clusters[window][grown] = k
    out = np.zeros(shape, np.int32)
    out[rows, columns] = clusters[tuple(places)]
    area = np.bincount(out.ravel(), minlength=len(peaks) + 1)
    area[0] = 0
    return _without(out, area > 0.4 * out.size)


def agree(instances: np.ndarray, flow: np.ndarray, error: float) -> np.ndarray:
    """The nuclei whose own flows differ from the predicted ones by at most `error`.

    Args:
        instances: int32 (H, W) ids 1..N.
        flow: (2, H, W) predicted unit vectors.
        error: mean squared length of the difference.
    """
    n = int(instances.max(initial=0))
    differences = ((flows(instances) - flow) ** 2).sum(0)
    area = np.maximum(np.bincount(instances.ravel(), minlength=n + 1), 1)
    return _without(instances, np.bincount(instances.ravel(), differences.ravel(), n + 1) / area > error)


def filled(instances: np.ndarray, least: int) -> np.ndarray:
    """The nuclei of at least `least` pixels, their holes filled, later over earlier; ids 1..n in the same order."""
    area = np.bincount(instances.ravel())
    out = _without(instances, area < least)
    for k, box in enumerate(ndimage.find_objects(out), 1):
        if box is not None:
            out[box][ndimage.binary_fill_holes(out[box] == k)] = k
    return _without(out, np.bincount(out.ravel()) < least)


def _without(instances: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """int32, ids 1..n of those that are not gone and have a pixel. gone: bool, by id; the background stays."""
    stays = ~gone & (np.bincount(instances.ravel(), minlength=len(gone)) > 0)
    stays[0] = False
    return (np.cumsum(stays) * stays).astype(np.int32)[instances]


def _centres(rows: np.ndarray, columns: np.ndarray, labels: np.ndarray, boxes: list) -> np.ndarray:
    """int (N, 2): row and column of each nucleus's centre; of several nearest pixels the first in raster order.

    A half is rounded to the even row of the nucleus's box, as in the package.
    """
    start = np.array([[0, 0], *((0, 0) if box is None else (box[0].start, box[1].start) for box in boxes)])
    area = np.maximum(np.bincount(labels, minlength=len(start)), 1)
    inner = (np.bincount(labels, p - start[labels, k], len(start)) / area for k, p in enumerate((rows, columns)))
    at = np.rint(np.stack(list(inner), 1)).astype(np.int64) + start
    distance = (rows - at[labels, 0]) ** 2 + (columns - at[labels, 1]) ** 2
    order = np.lexsort((np.arange(len(rows)), distance, labels))
    first = order[np.unique(labels[order], return_index=True)[1]]
    return np.stack([rows[first], columns[first]], 1)
