"""Nuclei of overlapping x40 tiles joined into one x20 map: as CellVTA published it for CoNIC, and corrected.

Both take the tiles of `data.tiles.Tiling` in row-major order, and know of the grid only each tile's corner.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from benchmark.data.nuclei import Nuclei
from benchmark.postproc.contour import fill, outline
from benchmark.postproc.seams import Seams, parts_of

OVERLAP = 0.01  # two outlines that share more than this of either area are the same nucleus
PASSES = 20


@dataclass(frozen=True)
class TileNucleus:
    """A nucleus of a tile on the enlarged canvas. mask: its filled outline in the window at (top, left)."""

    points: np.ndarray
    mask: np.ndarray
    top: int
    left: int
    type: int
    score: float
    tile: tuple[int, int]
    edges: tuple[tuple[int, int], ...]  # tiles that lie beyond the borders of its tile which it touches
    in_margin: bool

    @property
    def box(self) -> tuple[int, int, int, int]:
        """(top, left, bottom, right) on the canvas, px, half-open."""
        return self.top, self.left, self.top + self.mask.shape[0], self.left + self.mask.shape[1]

    @property
    def area(self) -> float:
        """Of the polygon through the border pixels, px^2."""
        return float(_weights(self.mask).sum())


def published(tiles: list[Nuclei], corners: list[tuple[int, int]], typed: bool, mpp: float) -> Nuclei:
    """The published way: outlines, nuclei of the margins cleaned, contours truncated to x20 pixels and filled.

    Args:
        tiles: nuclei of each tile, square maps of side S.
        corners: (top, left) of each tile on the enlarged canvas, px; neighbours overlap by S / 8.
        typed: the predictor names types; nuclei of type 0 are then dropped, as published.
        mpp: micrometres per pixel of the result.

    Returns:
        Nuclei on an S x S map.

    In order: nuclei with fewer than three outline points go. A nucleus that reaches into the margin (S / 8 px)
    of its tile is a margin nucleus; one that touches its tile's border stays only if no tile beyond that border has
    margin nuclei. Margin nuclei whose outlines overlap by more than 1 % of either are one, of which the
    largest of those *that overlap the first met* is kept, not the first itself; at most 20 passes. Outlines are
    scaled by 256 / 480, truncated to whole pixels and filled, boundary included, later over earlier. The first
    nucleus of the image is painted with id 0: it is lost.
    """
    side = tiles[0].instances.shape[0]
    step = side - side // 8
    nuclei: list[TileNucleus] = []
    for tile, (top, left) in zip(tiles, corners):
        nuclei += _tile_nuclei(tile, (top, left), (top // step, left // step), typed)
    present = {nucleus.tile for nucleus in nuclei if nucleus.in_margin}
    order = {id(nucleus): k for k, nucleus in enumerate(nuclei)}
    margin = [one for one in nuclei if one.in_margin and not present.intersection(one.edges)]
    kept = [one for one in nuclei if not one.in_margin] + without_overlaps(margin)
    kept.sort(key=lambda nucleus: order[id(nucleus)])
    scale = side / (max(left for _, left in corners) + side)
    painted = np.zeros((side, side), np.int32)
    for k, nucleus in enumerate(kept):
        if k:
            painted[fill((nucleus.points * scale).astype(np.int64), painted.shape)] = k
    types = np.array([nucleus.type for nucleus in kept[1:]], np.uint8)
    scores = np.array([nucleus.score for nucleus in kept[1:]], np.float32)
    return Nuclei(painted, types, float(mpp), scores).with_map(painted)


def without_overlaps(nuclei: list[TileNucleus]) -> list[TileNucleus]:
    """The nuclei without those that the published clean-up takes for copies of another."""
    for _ in range(PASSES):
        kept, seen, clean = [], set(), True
        boxes = np.array([nucleus.box for nucleus in nuclei])
        areas = [nucleus.area for nucleus in nuclei]
        for i, nucleus in enumerate(nuclei):
            if i in seen:
                continue
            seen.add(i)
            near = (boxes[:, :2] < boxes[i, 2:]).all(1) & (boxes[:, 2:] > boxes[i, :2]).all(1)
            others = []
            for j in np.flatnonzero(near).tolist():
                if j not in seen and common_area(nucleus, nuclei[j]) > OVERLAP * min(areas[i], areas[j]):
                    others.append(j)
            seen.update(others)
            clean &= not others
            kept.append(nuclei[max(others, key=lambda j: areas[j])] if others else nucleus)
        nuclei = kept
        if clean:
            break
    return nuclei


def common_area(a: TileNucleus, b: TileNucleus) -> float:
    """Area that the polygons through two nuclei's border pixels share, px^2; exact, from their pixel masks.

    Between four pixel centres a polygon covers all, half (three of them inside: a triangle), or nothing; two
    triangles that lack neighbouring corners share a quarter.
    """
    top, left = max(a.top, b.top), max(a.left, b.left)
    bottom, right = min(a.box[2], b.box[2]), min(a.box[3], b.box[3])
    if bottom - top < 2 or right - left < 2:
        return 0.0
    windows = [one.mask[top - one.top : bottom - one.top, left - one.left : right - one.left] for one in (a, b)]
    (first, lacks), (second, lacked) = ((_weights(w), _missing(w)) for w in windows)
    shared = np.minimum(first, second)
    triangles = (first == 0.5) & (second == 0.5)
    apart = (lacks - lacked) % 4
    shared[triangles & (apart % 2 == 1)] = 0.25
    shared[triangles & (apart == 2)] = 0
    return float(shared.sum())


def corrected(tiles: list[Nuclei], corners: list[tuple[int, int]], typed: bool, mpp: float) -> Nuclei:
    """Label maps joined pixel by pixel; nothing is lost at seams, truncated or dropped.

    Arguments and result as `published`; how nuclei are joined says `seams`. The canvas is sampled at the centres of the
    x20 pixels. Nuclei of type 0 are kept.
    """
    del typed  # protocols decide on nuclei of type 0
    side = tiles[0].instances.shape[0]
    whole = max(left for _, left in corners) + side
    seams = Seams([(top, left, top + side, left + side) for top, left in corners])
    for k, (tile, corner) in enumerate(zip(tiles, corners)):
        seams.add(k, parts_of(tile, *corner))
    nuclei = list(seams.whole())
    canvas = np.zeros((whole, whole), np.int32)
    for k, nucleus in enumerate(nuclei, 1):
        top, left, bottom, right = nucleus.box
        canvas[top:bottom, left:right][nucleus.mask] = k
    place = (2 * np.arange(side) + 1) * whole // (2 * side)
    small = canvas[np.ix_(place, place)]
    types = np.array([nucleus.type for nucleus in nuclei], np.uint8)
    scores = np.array([nucleus.score for nucleus in nuclei], np.float32)
    return Nuclei(small, types, float(mpp), scores).with_map(small)


STITCHED = {"conic40": published, "conic40_corrected": corrected}
# of those that give other nuclei than they once did: part of a result's identity. 2: nuclei of one tile stay apart
VERSIONS = {"conic40_corrected": 2}


def _tile_nuclei(tile: Nuclei, corner: tuple[int, int], place: tuple[int, int], typed: bool) -> list[TileNucleus]:
    """The nuclei of a tile that the published code goes on with, in the order of their ids.

    Args:
        tile: its nuclei.
        corner: (top, left) of the tile on the canvas, px.
        place: (row, column) of the tile in the grid of tiles.
        typed: nuclei of type 0 are left out.
    """
    side = tile.instances.shape[0]
    margin = side // 8
    out = []
    for k, box in enumerate(ndimage.find_objects(tile.instances)):
        if box is None or (typed and not tile.types[k]):
            continue
        points = outline(tile.instances[box] == k + 1)
        if len(points) < 3:
            continue
        rows, cols = ([s.start, s.stop] for s in box)
        mask = fill(points, (rows[1] - rows[0], cols[1] - cols[0]))
        out.append(
            TileNucleus(
                points=points + np.array([cols[0] + corner[1], rows[0] + corner[0]]),
                mask=mask,
                top=rows[0] + corner[0],
                left=cols[0] + corner[1],
                type=int(tile.types[k]),
                score=1.0 if tile.scores is None else float(tile.scores[k]),
                tile=place,
                edges=_beyond(rows, cols, side, place),
                in_margin=min(rows[0], cols[0]) < margin or max(rows[1], cols[1]) > side - margin,
            )
        )
    return out


def _beyond(rows, cols, side: int, place) -> tuple[tuple[int, int], ...]:
    """Places of the tiles beyond the borders that a box touches, the diagonal one too where it touches two."""
    steps: list[list[int]] = [[0], [0]]  # along rows and along columns
    for axis, (start, stop) in enumerate((rows, cols)):
        if start == 0:
            steps[axis].append(-1)
        if stop == side:
            steps[axis].append(1)
    moves = [(down, right) for down in steps[0] for right in steps[1] if down or right]
    return tuple((place[0] + down, place[1] + right) for down, right in moves)


def _corners(mask: np.ndarray) -> np.ndarray:
    """int (4, H-1, W-1): the four pixels around each point between pixels, clockwise from the upper left."""
    mask = mask.astype(np.int64)
    return np.stack([mask[:-1, :-1], mask[:-1, 1:], mask[1:, 1:], mask[1:, :-1]])


def _weights(mask: np.ndarray) -> np.ndarray:
    """float64 (H-1, W-1): share of each square between pixel centres that the polygon through the border covers."""
    return np.array([0, 0, 0, 0.5, 1])[_corners(mask).sum(0)]


def _missing(mask: np.ndarray) -> np.ndarray:
    """int (H-1, W-1): which corner a square lacks, meaningful where it lacks one."""
    return _corners(mask).argmin(0)
