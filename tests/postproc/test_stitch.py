"""Outlines, filled polygons and the joining of tiles: OpenCV's conventions, the published rules, the corrected ones."""

import numpy as np
import pytest

from benchmark.data.nuclei import Nuclei
from benchmark.data.tiles import Tiling
from benchmark.postproc import stitch
from benchmark.postproc.contour import fill, outline
from tests.support.scenes import patch
from tests.support.shared import GOLDEN, shared

GRID = Tiling.of(64, 64)  # canvas 120, tiles of 64 every 56, overlap and margin 8


def canvas(boxes) -> np.ndarray:
    """Label map of the enlarged canvas: box k (top, bottom, left, right) is nucleus k + 1."""
    labels = np.zeros((GRID.whole, GRID.whole), np.int32)
    for k, (top, bottom, left, right) in enumerate(boxes):
        labels[top:bottom, left:right] = k + 1
    return labels


def cut(labels: np.ndarray, types) -> list[Nuclei]:
    """What a perfect predictor would see of a canvas in each tile."""
    whole = Nuclei(labels, np.asarray(types, np.uint8), 0.25)
    return [whole.crop(top, left, GRID.side, GRID.side) for top, left in GRID.corners]


def join(how: str, labels, types=None, typed: bool = True) -> Nuclei:
    types = np.ones(labels.max(), np.uint8) if types is None else types
    return stitch.STITCHED[how](cut(labels, types), GRID.corners, typed, 0.5)


def cell(mask: np.ndarray, top: int = 0, left: int = 0) -> stitch.TileNucleus:
    return stitch.TileNucleus(outline(mask), mask, top, left, 1, 1.0, (0, 0), (), True)


def golden_polygons():
    with np.load(GOLDEN / "outlines.npz", allow_pickle=False) as data:
        ends = np.cumsum(data["sizes"])
        for points, bits in zip(np.split(data["points"], ends[:-1]), data["maps"], strict=True):
            yield points, np.unpackbits(bits).reshape(40, 40).astype(bool)


def test_polygons_fill_as_in_opencv():
    """Stars, self-crossing polygons and outlines scaled by 256 / 480."""
    seen = 0
    for points, want in golden_polygons():
        assert np.array_equal(fill(points, want.shape), want), seen
        seen += 1
    assert seen == 160


def test_outlines_are_opencvs_first_contour():
    """Whole, with holes, and in pieces, also pieces within another's hole."""
    with np.load(GOLDEN / "outlines.npz", allow_pickle=False) as data:
        ends = np.cumsum(data["contour_sizes"])
        for want, bits in zip(np.split(data["contour"], ends[:-1]), data["masks"], strict=True):
            assert np.array_equal(outline(np.unpackbits(bits).reshape(64, 64).astype(bool)), want)


def test_outlines_equal_the_published_decoders():
    files = sorted(shared("golden/metrics/postproc").glob("*.npz"))
    compared = 0
    for file in files:
        with np.load(file, allow_pickle=False) as data:
            for variant in ("cellvit40__", "cellvit20__", "hovernet__"):
                names = ("inst", "ids", "n_contour", "contour_concat", "bbox")
                inst, ids, sizes, points, boxes = (data[variant + name] for name in names)
                for k, want, (top, left, bottom, right) in zip(ids, np.split(points, np.cumsum(sizes)), boxes):
                    assert np.array_equal(outline(inst[top:bottom, left:right] == k) + np.array([left, top]), want)
                    compared += 1
    assert compared > 3000


def test_outline_of_the_smallest_and_of_nothing():
    assert outline(np.zeros((3, 3), bool)).shape == (0, 2)
    assert outline(np.eye(3, dtype=bool)[:1]).tolist() == [[0, 0]]
    assert outline(np.ones((1, 4), bool)).tolist() == [[0, 0], [3, 0]]
    roof = np.array([[0, 1, 0], [1, 0, 1]], bool)  # the border passes its first pixel again before it is closed
    assert outline(roof).tolist() == [[1, 0], [0, 1], [1, 0], [2, 1]]
    ring = np.ones((7, 7), bool)
    ring[1:6, 1:6] = False
    ring[3, 3] = True  # later in raster order, but inside the ring's hole
    assert outline(ring).tolist() == [[0, 0], [0, 6], [6, 6], [6, 0]]
    assert fill(outline(ring), ring.shape).all(), "holes vanish"


def test_polygons_beyond_the_map_are_refused():
    with pytest.raises(ValueError, match="beyond"):
        fill(np.array([[0, 0], [5, 0], [5, 5]]), (5, 5))
    assert not fill(np.zeros((0, 2), int), (5, 5)).any()


def test_common_area_is_that_of_the_polygons():
    square = np.ones((5, 5), bool)
    assert cell(square).area == 16, "the polygon runs through pixel centres"
    assert stitch.common_area(cell(square), cell(square, 2, 1)) == 2 * 3
    assert stitch.common_area(cell(square), cell(square, 4, 0)) == 0, "a common row of pixels is no area"
    corner = np.array([[1, 0], [1, 1]], bool)
    turned = [np.rot90(corner, k) for k in range(4)]
    assert [stitch.common_area(cell(corner), cell(t)) for t in turned] == [0.5, 0.25, 0, 0.25]


def test_published_scales_truncates_and_fills():
    """A square over rows and columns 16..30 of the canvas has corners at 16 and 30: 8.53 and 16 on the patch."""
    found = join("conic40", canvas([(0, 4, 0, 4), (16, 31, 16, 31)]))
    assert len(found) == 1
    want = np.zeros((64, 64), bool)
    want[8:17, 8:17] = True
    assert np.array_equal(found.instances > 0, want)


def test_published_loses_the_first_cell_and_corrected_does_not():
    boxes = [(12, 20, 12, 20), (30, 40, 30, 40), (70, 90, 80, 90)]
    types = [3, 4, 5]
    assert join("conic40", canvas(boxes), types).types.tolist() == [4, 5]
    assert join("conic40_corrected", canvas(boxes), types).types.tolist() == types
    assert len(join("conic40", canvas(boxes[:1]))) == 0


def test_a_nucleus_cut_in_both_tiles_is_lost_as_published():
    boxes = [(12, 20, 12, 20), (20, 32, 50, 70)]  # 50..69: cut by the tile borders at 56 and at 64
    assert len(join("conic40", canvas(boxes))) == 0
    found = join("conic40_corrected", canvas(boxes))
    assert len(found) == 2
    nucleus = found.instances[14, 32]
    assert (found.instances == nucleus).sum() == pytest.approx(12 * 20 * (8 / 15) ** 2, rel=0.15)


def test_a_nucleus_in_the_overlap_is_found_once():
    for inside in ((20, 28, 57, 63), (57, 63, 57, 63)):  # in two tiles whole, in four
        for how, n in (("conic40", 1), ("conic40_corrected", 2)):
            assert len(join(how, canvas([(12, 16, 12, 16), inside]))) == n, (how, inside)


def seen(tile: int, rows: slice, cols: slice) -> Nuclei:
    """What a tile shows of one nucleus, given by its place on the canvas."""
    top, left = GRID.corners[tile]
    labels = np.zeros((GRID.whole, GRID.whole), np.int32)
    labels[rows, cols] = 1
    return Nuclei(labels, np.ones(1, np.uint8), 0.25).crop(top, left, GRID.side, GRID.side)


def test_two_views_of_one_nucleus_that_differ_and_two_nuclei_that_meet():
    none = seen(2, slice(0, 0), slice(0, 0))
    first = np.zeros((64, 64), np.int32)
    first[2:8, 2:8] = 1  # the one that the published way loses
    first[20:30, 57:63] = 2
    views = [Nuclei(first, np.ones(2, np.uint8), 0.25), seen(1, slice(21, 29), slice(58, 62)), none, none]
    for how, n in (("conic40", 1), ("conic40_corrected", 2)):
        assert len(stitch.STITCHED[how](views, GRID.corners, True, 0.5)) == n, how
    # a quarter of either in common
    pair = [seen(0, slice(20, 30), slice(57, 61)), seen(1, slice(20, 30), slice(60, 64)), none, none]
    assert len(stitch.corrected(pair, GRID.corners, True, 0.5)) == 2
    assert len(stitch.corrected([pair[0], none, none, none], GRID.corners, True, 0.5)) == 1


def test_two_views_that_disagree_and_a_pixel_that_two_nuclei_claim():
    """The middle of the strip, between columns 59 and 60 of the canvas, parts the tiles."""
    none = seen(2, slice(0, 0), slice(0, 0))

    def view(tile, cols, kind, score):
        one = seen(tile, slice(20, 30), cols)
        return Nuclei(one.instances, np.array([kind], np.uint8), 0.25, np.array([score], np.float32))

    for kinds, expected in (((2, 1), 2), ((0, 1), 1)):  # ten columns of the first tile's view, one of the second's
        views = [view(0, slice(50, 61), kinds[0], 0.9), view(1, slice(56, 61), kinds[1], 0.4)]
        found = stitch.corrected([*views, none, none], GRID.corners, True, 0.5)
        assert found.types.tolist() == [expected] and found.scores.tolist() == [np.float32(0.9)]
    pair = [view(0, slice(57, 61), 1, 1), view(1, slice(60, 64), 2, 1), none, none]
    found = stitch.corrected(pair, GRID.corners, True, 0.5)
    assert found.pixel_types()[13, 30:35].tolist() == [1, 1, 2, 2, 0], "columns 57, 59, 60, 62 and 64 of the canvas"


def test_a_cut_nucleus_stays_where_the_neighbour_has_no_margin_cell():
    """The published rule asks whether the tile beyond the border has margin cells, not whether it has this one."""
    labels = canvas([(12, 20, 12, 20), (20, 32, 44, 64)])
    tiles = cut(labels, [1, 1])
    empty = np.zeros((64, 64), np.int32)
    tiles[1] = Nuclei(empty, np.zeros(0, np.uint8), 0.25)
    assert len(stitch.published(tiles, GRID.corners, True, 0.5)) == 1
    elsewhere = empty.copy()
    elsewhere[60:64, 60:64] = 1  # a margin cell at the other end of the neighbour
    tiles[1] = Nuclei(elsewhere, np.ones(1, np.uint8), 0.25)
    found = stitch.published(tiles, GRID.corners, True, 0.5)
    assert len(found) == 1 and found.instances[14, 28] == 0


def test_published_keeps_the_largest_of_those_that_overlap_the_first():
    large, middle, small = np.ones((9, 9), bool), np.ones((7, 7), bool), np.ones((5, 5), bool)
    cells = [cell(large), cell(small, 1, 1), cell(middle, 1, 1)]
    (kept,) = stitch.without_overlaps(cells)
    assert kept is cells[2], "the first is not among those it is compared with"
    apart = [cell(small), cell(small, 0, 20)]
    assert stitch.without_overlaps(apart) == apart and stitch.without_overlaps([]) == []
    sliver = [cell(np.ones((21, 21), bool)), cell(np.ones((21, 21), bool), 19, 20)]
    assert stitch.common_area(*sliver) == 0
    touching = [cell(np.ones((21, 21), bool)), cell(np.ones((21, 21), bool), 18, 19)]
    assert stitch.common_area(*touching) == 2 and len(stitch.without_overlaps(touching)) == 2, "less than 1 %"


def test_overlap_of_one_percent_of_the_smaller_and_passes_until_nothing_changes():
    square = np.ones((21, 21), bool)  # area 400: 1 % is 4
    for top, common, n in ((16, 4, 2), (12, 8, 1)):  # 8 are 2 %
        cells = [cell(square), cell(square, top, 19)]
        assert stitch.common_area(*cells) == common and len(stitch.without_overlaps(cells)) == n
    speck = cell(np.ones((4, 4), bool), 20, 20)  # 1 in common: a ninth of it, but little of the large one
    assert stitch.without_overlaps([cell(np.ones((22, 22), bool)), speck]) == [speck]
    chain = [cell(square), cell(square, 5, 0), cell(np.ones((40, 21), bool), 24, 0)]
    # the first pass keeps the second for the first, and the third; the second pass finds that these overlap
    assert stitch.without_overlaps(chain) == [chain[2]]


def test_three_points_are_an_outline_and_the_margin_begins_within_the_tile():
    labels = np.zeros((64, 64), np.int32)
    labels[20, 20:22] = labels[21, 20] = 1  # a triangle
    labels[8:12, 52:56] = 2  # up to the margins of 8 px, not into them
    labels[30:34, 53:57], labels[7:11, 30:34] = 3, 4
    cells = stitch._tile_nuclei(Nuclei(labels, np.ones(4, np.uint8), 0.25), (0, 0), (0, 0), True)
    assert [c.in_margin for c in cells] == [False, False, True, True]


def test_nuclei_of_type_zero():
    boxes, types = [(12, 20, 12, 20), (30, 40, 30, 40), (80, 90, 80, 90)], [1, 0, 2]
    assert join("conic40", canvas(boxes), types).types.tolist() == [2]
    untyped = join("conic40", canvas(boxes), [0, 0, 0], typed=False)
    assert len(untyped) == 2 and not untyped.types.any()
    assert join("conic40_corrected", canvas(boxes), types).types.tolist() == types


def test_no_nuclei():
    for how in stitch.STITCHED:
        found = join(how, canvas([]))
        assert len(found) == 0 and found.instances.shape == (64, 64) and found.mpp == 0.5


@pytest.mark.parametrize("seed", range(4))
def test_corrected_returns_the_truth_from_true_tiles(seed):
    truth = patch(seed)
    tiles = [GRID.nuclei(truth, corner) for corner in GRID.corners]
    found = stitch.corrected(tiles, GRID.corners, True, truth.mpp)
    same = np.unique(np.stack([truth.instances.ravel(), found.instances.ravel()]), axis=1)
    assert len(same[0]) == len(truth) + 1 == len(found) + 1, "one to one, pixel by pixel"
    assert np.array_equal(found.types[same[1, 1:] - 1], truth.types[same[0, 1:] - 1])
    lost = stitch.published(tiles, GRID.corners, True, truth.mpp)
    assert len(lost) < len(truth)


def test_corrected_decides_by_the_tile_in_which_a_pixel_lies_deeper():
    """A nucleus that one tile alone shows: kept whole on its own side of the seam, dropped beyond it."""
    for left, right, n in ((50, 61, 1), (57, 64, 0)):  # the seam between the columns of tiles is at 60
        tiles = cut(canvas([(20, 30, left, right)]), [1])
        tiles[1] = Nuclei(np.zeros((64, 64), np.int32), np.zeros(0, np.uint8), 0.25)
        found = stitch.corrected(tiles, GRID.corners, True, 0.5)
        assert len(found) == n
        if n:
            assert found.instances[13, 32] == 1, "its end beyond the seam is kept"
