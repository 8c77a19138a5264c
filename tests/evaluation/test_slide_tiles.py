"""Where the tiles of a slide lie, where it has tissue, and what is kept of a tile."""

import numpy as np
import pytest

from benchmark.evaluation.slides import tiles
from benchmark.evaluation.slides.grid import Grid, times_seen
from benchmark.evaluation.slides.tissue import tissue
from tests.support import coded_slides
from tests.support.coded_slides import by_id, scattered


@pytest.mark.parametrize("window", [64, 256, 640])
def test_tiles_cover_a_slide_and_their_windows_are_those_of_the_whole(window):
    """Where tiles overlap by whole cores each core lies where `in_windows` has it."""
    margin = window // 8
    core = window - 2 * margin
    for height, width in ((1, 1), (31, 700), (5000, 3333), (core, 4 * core), (1536, 20_001)):
        grid = Grid.of(height, width, window, margin, 1152)
        seen = np.zeros((height // 8 + 1, width // 8 + 1), int)
        for tile in grid.tiles:
            top, left, bottom, right = tile.box
            assert 0 <= top < bottom <= height and 0 <= left < right <= width
            assert tile.height % core == tile.width % core == 0
            if core <= 256:
                assert (tile.top - grid.tiles[0].top) % core == (tile.left - grid.tiles[0].left) % core == 0
            seen[top // 8 : -(-bottom // 8), left // 8 : -(-right // 8)] += 1
        assert (seen[: -(-height // 8), : -(-width // 8)] > 0).all()
        assert grid.tiles[0].top == -((-(-height // core) * core - height) // 2)


@pytest.mark.parametrize(("window", "margin", "tile"), [(256, 32, 1152), (64, 16, 256), (512, 64, 1152)])
def test_how_often_a_pixel_is_seen(window, margin, tile):
    """Counted on a large slide, whose edges add a little."""
    grid = Grid.of(40_000, 40_000, window, margin, tile)
    core = window - 2 * margin
    seen = sum(one.height * one.width for one in grid.tiles) / core**2 * window**2 / 40_000**2
    assert seen == pytest.approx(times_seen(window, margin, tile), rel=0.04)
    assert times_seen(1024, 500, 128) > 1000


def test_tissue_is_what_is_coloured():
    picture = np.full((200, 300, 3), 240, np.uint8)
    assert not tissue(picture, 8.0).any()
    noise = np.random.default_rng(0).integers(-3, 4, picture.shape)
    assert not tissue((picture + noise).astype(np.uint8), 8.0).any(), "grain of the camera"
    picture[50:100, 60:160] = 200, 150, 190
    picture[:20] = 0  # what scanners put around
    mask = tissue(picture, 8.0)
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (45, 104, 55, 164), "40 µm around, of 8 a pixel"
    assert tissue(np.full((50, 50, 3), (200, 150, 190), np.uint8), 8.0).all(), "a slide without glass"


def test_stored_tiles_come_back(tmp_path):
    labels = scattered(491, 611)
    nuclei = coded_slides.decode_ids({"rgb": np.moveaxis(by_id(labels), -1, 0) / 255}, 0.25)
    job = tiles.Job(tmp_path / "t.npz", (100, 200, 591, 811), ((100, 700, 591, 900),), 0.25, "t", {"0 1 2": "a\nb"})
    n = tiles.decode_and_store(lambda *_: nuclei, {}, job)
    stored = tiles.read(job.path)
    assert n == len(nuclei) == len(stored.whole) + len(stored.seam) and stored.unreadable == {"0 1 2": "a\nb"}
    assert all(part.box[3] > 700 for part in stored.seam) and stored.scored
    ring = stored.whole[0].polygons[0][0]
    assert (ring[0] == ring[-1]).all() and ring[:, 1].min() >= 100 and ring[:, 0].min() >= 200
