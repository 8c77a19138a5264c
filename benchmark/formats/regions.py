"""Outlines drawn around nuclei, such as the region that was annotated: they are no nuclei themselves."""

import sys

import numpy as np


def left_out(outlines: list, shape: tuple[int, int], where: str) -> list:
    """The outlines without those that hold two others, or that hold another one and fill the image; said on stderr.

    Args:
        outlines: (rings, type, vertices) as in `formats.painting`.
        shape: (H, W) of the image.
        where: the file, for the sentence.
    """
    some = [k for k, (rings, _, _) in enumerate(outlines) if sum(map(len, rings))]
    if len(some) < 2:
        return outlines
    points = [np.concatenate(outlines[k][0]) for k in some]
    low, high = np.array([p.min(0) for p in points]), np.array([p.max(0) for p in points])
    order = np.argsort(low[:, 0], kind="stable")
    lefts = low[order, 0]
    height, width = shape
    corners = np.array([[0.5, 0.5], [width - 0.5, 0.5], [0.5, height - 0.5], [width - 0.5, height - 0.5]])
    regions = set()
    for k, place in enumerate(some):
        rings = outlines[place][0]
        near = order[np.searchsorted(lefts, low[k, 0]) : np.searchsorted(lefts, high[k, 0], "right")]
        smaller = ((low[near] >= low[k]) & (high[near] <= high[k])).all(1)
        smaller &= (high[near] - low[near]).prod(1) < (high[k] - low[k]).prod()
        # moved inwards a little, since outlines of nuclei may end on the region's edge
        within = (points[n] + 1e-3 * (points[n].mean(0) - points[n]) for n in near[smaller])
        held = sum(bool(_inside(each, rings).all()) for each in within)
        if held > 1 or (held and _inside(corners, rings).all()):
            regions.add(place)
    if regions:
        print(
            f"{where}: {len(regions)} of {len(outlines)} outlines are drawn around others and left out as regions, no "
            "nuclei",
            file=sys.stderr,
        )
    return [outline for k, outline in enumerate(outlines) if k not in regions]


def _inside(points: np.ndarray, rings: list[np.ndarray]) -> np.ndarray:
    """bool (N,): points (N, 2) with an odd number of edges of all rings to their left, or on their left edge."""
    begin = np.concatenate(rings)
    end = np.concatenate([np.roll(ring, -1, 0) for ring in rings])
    x, y = points.T[..., None]
    crossed = (begin[:, 1] <= y) != (end[:, 1] <= y)
    rise = np.where(end[:, 1] == begin[:, 1], 1.0, end[:, 1] - begin[:, 1])
    at = begin[:, 0] + (y - begin[:, 1]) * (end[:, 0] - begin[:, 0]) / rise
    return (crossed & (at <= x)).sum(1) % 2 == 1
