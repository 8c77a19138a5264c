"""Nuclei joined over the seams of any number of tiles, in a stream."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label

from benchmark.data.nuclei import Nuclei
from benchmark.data.sources.synthetic import draw
from benchmark.postproc.seams import Part, Seams, common, parts_of
from benchmark.representations.named import representation
from tests.support.coded_slides import ellipse, same, scattered


def boxes_of(height: int, width: int, side: int, overlap: int) -> list[list[tuple[int, int, int, int]]]:
    """Rows of tiles; the last ones are as large as what is left."""
    step = side - overlap
    rows = []
    for top in range(0, max(1, height - overlap), step):
        lefts = range(0, max(1, width - overlap), step)
        rows.append([(top, left, min(top + side, height), min(left + side, width)) for left in lefts])
    return rows


def view(whole: np.ndarray, box) -> Nuclei:
    top, left, bottom, right = box
    return Nuclei.from_labels(whole[top:bottom, left:right], None, 0.25)


def stream(whole: np.ndarray, rows, only_seams: bool = False) -> tuple[list[Part], list[int]]:
    """(nuclei in the order in which they come, how many parts wait after each row)."""
    boxes = [box for row in rows for box in row]
    seams, out, waiting, k = Seams(boxes), [], [], 0
    for row in rows:
        for box in row:
            parts = parts_of(view(whole, box), *box[:2])
            if only_seams:
                others = [other for other in boxes if other != box]
                inner = [part for part in parts if not any(common(part.box, other) for other in others)]
                out += inner
                parts = [part for part in parts if not any(part is one for one in inner)]
            seams.add(k, parts)
            k += 1
        out += seams.whole()
        waiting.append(sum(map(len, seams._parts.values())))
    return out, waiting


def painted(nuclei: list[Part], shape) -> np.ndarray:
    labels = np.zeros(shape, np.int64)
    for k, nucleus in enumerate(nuclei, 1):
        top, left, bottom, right = nucleus.box
        window = labels[top:bottom, left:right]
        assert not window[nucleus.mask].any(), "a pixel has one nucleus"
        window[nucleus.mask] = k
    return labels


@pytest.mark.parametrize("only_seams", [False, True])
@pytest.mark.parametrize(("side", "overlap"), [(100, 40), (64, 16), (90, 60), (400, 50)])
def test_tiles_of_a_perfect_prediction_give_the_whole_back(side, overlap, only_seams):
    """Tiles that a pixel may see nine of too (90, 60), and a single row or tile."""
    whole = scattered(301, 250)
    nuclei, _ = stream(whole, boxes_of(*whole.shape, side, overlap), only_seams)
    assert len(nuclei) == len(np.unique(whole)) - 1
    assert same(painted(nuclei, whole.shape), whole)


def test_at_a_corner_of_four_tiles_and_larger_than_the_overlap():
    rows = boxes_of(280, 280, 100, 40)  # tiles begin every 60
    whole = np.zeros((280, 280), np.int64)
    ellipse(whole, 80, 80, 9, 9)  # in the middle of a strip both ways: four tiles see it whole
    ellipse(whole, 140, 140, 30, 26)  # larger than the overlap both ways, cut in four tiles and more
    ellipse(whole, 30, 150, 8, 110)  # through all columns
    ellipse(whole, 210, 60, 3, 3)
    nuclei, _ = stream(whole, rows)
    assert len(nuclei) == 4 and same(painted(nuclei, whole.shape), whole)


def test_what_waits_does_not_grow_with_the_rows():
    few, many = (scattered(length, 300, seed=1) for length in (500, 1500))
    waiting = [stream(whole, boxes_of(*whole.shape, 100, 40))[1] for whole in (few, many)]
    assert max(waiting[1]) < 1.1 * max(waiting[0]) and waiting[1][-1] == 0


def test_nuclei_come_as_soon_as_nothing_can_add_to_them():
    whole = scattered(700, 200, seed=2)
    rows = boxes_of(*whole.shape, 100, 40)
    boxes = [box for row in rows for box in row]
    seams, came, k = Seams(boxes), [], 0
    for row in rows:
        for box in row:
            seams.add(k, parts_of(view(whole, box), *box[:2]))
            k += 1
        came.append(sum(1 for _ in seams.whole()))
    assert came[0] == came[1] == 0 and all(n > 0 for n in came[2:])


def part(box, kind=1, score=1.0) -> Part:
    return Part(box[0], box[1], np.ones((box[2] - box[0], box[3] - box[1]), bool), kind, score)


def test_a_tile_that_is_left_out_leaves_its_pixels_to_its_neighbours():
    """Glass is not predicted: a nucleus that reaches into it is whole, and no seam is there."""
    seams = Seams([(0, 0, 100, 100), (0, 120, 100, 220)])
    seams.add(0, [part((10, 90, 20, 100))])
    seams.add(1, [part((10, 120, 20, 130))])
    assert [one.box for one in seams.whole()] == [(10, 90, 20, 100), (10, 120, 20, 130)]


def test_type_and_score_of_a_joined_nucleus():
    """The seam lies at column 80: the type of most pixels, where any has one; the higher score."""
    for left, right, kinds, expected in ((60, 82, (2, 1), 2), (78, 100, (2, 1), 1), (60, 82, (0, 1), 1)):
        seams = Seams([(0, 0, 100, 100), (0, 60, 100, 160)])
        seams.add(0, [part((10, left, 20, right), kinds[0], 0.3)])
        seams.add(1, [part((10, max(left, 60), 20, right), kinds[1], 0.6)])
        (one,) = seams.whole()
        assert (one.type, one.score) == (expected, 0.6) and one.box == (10, left, 20, right)


@pytest.mark.parametrize(("left", "first"), [(62, True), (69, True), (82, False), (88, False)])
def test_nuclei_that_touch_are_as_the_tile_shows_them_in_which_they_lie_deepest(left, first):
    """One tile takes two nuclei for one. The seam lies at column 80; first: the nuclei lie before it."""
    two = [part((10, left, 18, left + 6)), part((10, left + 6, 18, left + 11))]
    one = [part((10, left, 18, left + 11))]
    for parts, expected in (((two, one), 2 if first else 1), ((one, two), 1 if first else 2)):
        seams = Seams([(0, 0, 100, 100), (0, 60, 100, 160)])
        for k, of_tile in enumerate(parts):
            seams.add(k, of_tile)
        nuclei = list(seams.whole())
        assert (painted(nuclei, (100, 160)) > 0).sum() == 8 * 11
        assert len(nuclei) == expected


@pytest.mark.parametrize("seed", range(6))
def test_tiles_that_disagree_give_each_pixel_once_and_nothing_waits(seed):
    """Blobs above another threshold in each tile: merged here, apart or missing there."""
    rng = np.random.default_rng(seed)
    height, width = rng.integers(120, 260, 2)
    field = ndimage.gaussian_filter(rng.normal(size=(height, width)), rng.uniform(2, 6))
    field /= field.std()
    rows = boxes_of(height, width, int(rng.integers(60, 110)), int(rng.integers(20, 50)))
    boxes = [box for row in rows for box in row]
    seams, nuclei = Seams(boxes), []
    for k, (top, left, bottom, right) in enumerate(boxes):
        blobs = label(field[top:bottom, left:right] > rng.uniform(0.1, 1.0))
        seams.add(k, parts_of(Nuclei.from_labels(blobs, None, 0.25), top, left))
        nuclei += seams.whole()
    assert painted(nuclei, (height, width)).max() == len(nuclei) > 5
    assert not (seams._parts or seams._waiting or seams._apart or seams._group)


def test_pieces_of_one_nucleus_that_a_tile_cuts_in_two_are_joined():
    """A nucleus like a U, open to the left, of which the second tile sees the two arms alone."""
    whole = np.zeros((100, 200), np.int64)
    whole[20:30, 70:140] = whole[40:50, 70:140] = whole[20:50, 70:80] = 1
    boxes = [(0, 0, 100, 120), (0, 90, 100, 200)]
    seams = Seams(boxes)
    for k, (top, left, bottom, right) in enumerate(boxes):
        pieces = label(whole[top:bottom, left:right])
        assert pieces.max() == k + 1
        seams.add(k, parts_of(Nuclei.from_labels(pieces, None, 0.25), top, left))
    nuclei = list(seams.whole())
    assert len(nuclei) == 1 and same(painted(nuclei, whole.shape), whole)


@pytest.mark.parametrize("name", ["hv", "stardist", "flows"])
def test_crowded_nuclei_are_those_of_the_whole(name):
    """Tiles of 256 px of drawn, touching nuclei, decoded each alone: from 3.2 µm on."""
    whole = draw("Colon", 3, 7, size=512).nuclei
    way = representation(name)
    maps = way.ideal(way.targets(whole), 0)
    decoded = way.decode(maps, 0.25)
    boxes = [box for row in boxes_of(512, 512, 256, 128) for box in row]
    seams, nuclei = Seams(boxes), []
    for k, (top, left, bottom, right) in enumerate(boxes):
        of_tile = {key: np.ascontiguousarray(values[:, top:bottom, left:right]) for key, values in maps.items()}
        seams.add(k, parts_of(way.decode(of_tile, 0.25), top, left))
        nuclei += seams.whole()
    tiled = painted(nuclei, (512, 512))
    both, pairs = np.unique(np.stack([decoded.instances.ravel(), tiled.ravel()]), axis=1, return_counts=True)
    areas = np.bincount(decoded.instances.ravel()), np.bincount(tiled.ravel())
    alike = both[0][(pairs / (areas[0][both[0]] + areas[1][both[1]] - pairs) > 0.8) & both.all(0)]
    large = np.flatnonzero(areas[0][1:] >= 130) + 1
    assert len(large) > 150 and not set(large) - set(alike)


def test_what_one_tile_alone_shows_stays_in_its_own_half_of_the_strip():
    for left, stays in ((62, True), (90, False)):
        seams = Seams([(0, 0, 100, 100), (0, 60, 100, 160)])
        seams.add(0, [part((10, left, 20, left + 8))])
        seams.add(1, [])
        assert len(list(seams.whole())) == stays
