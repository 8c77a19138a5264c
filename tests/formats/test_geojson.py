"""GeoJSON of label maps: read back, it is the same map."""

import json

import numpy as np
import pytest
from scipy import ndimage

from benchmark.data.files.polygons import paint
from benchmark.formats import outlines as reader
from benchmark.formats.geojson import nest, outlines, write_geojson


def painted(instances):
    out = np.zeros_like(instances)
    for k, rings in outlines(instances).items():
        paint(out, [np.array(r, float) for r in rings], k, "corners")
    return out


@pytest.mark.parametrize("seed", range(4))
def test_any_map_comes_back(seed):
    rng = np.random.Generator(np.random.PCG64(seed))
    instances = rng.integers(0, 4, (40, 30)).astype(np.int32)  # holes, pieces, corners that touch
    assert (painted(instances) == instances).all()


def test_shapes_by_hand():
    square = np.zeros((5, 6), np.int32)
    square[1:4, 2:5] = 1
    assert outlines(square) == {1: [[(2, 1), (5, 1), (5, 4), (2, 4), (2, 1)]]}
    square[2, 3] = 0
    (polygon,) = nest(outlines(square)[1])
    assert len(polygon) == 2, "a ring and its hole"
    pieces = np.zeros((4, 4), np.int32)
    pieces[0, 0] = pieces[1, 1] = 1
    assert len(nest(outlines(pieces)[1])) == 2, "pixels that touch at a corner are two pieces"


def test_a_hole_belongs_to_the_piece_around_it():
    instances = np.zeros((12, 24), np.int32)
    instances[1:11, 1:11] = instances[1:11, 13:23] = 1
    instances[4:6, 16:18] = 0
    polygons = nest(outlines(instances)[1])
    (holed,) = [p for p in polygons if len(p) == 2]
    assert holed[0][0] == (13, 1)


def blobs(seed: int) -> np.ndarray:
    """Round shapes with specks inside and outside: holes and notches that meet at corners."""
    rng = np.random.Generator(np.random.PCG64(seed))
    mask = rng.random((60, 60)) < rng.uniform(0.3, 0.9)
    mask[20:40, 20:40] |= rng.random((20, 20)) < 0.8
    return mask.astype(np.int32)


def holes_that_meet() -> np.ndarray:
    mask = np.zeros((12, 12), np.int32)
    mask[1:11, 1:11] = 1
    mask[4, 4] = mask[5, 5] = 0
    return mask


def diagonal_notch() -> np.ndarray:
    mask = np.zeros((12, 12), np.int32)
    mask[1:11, 1:11] = 1
    mask[1, 1] = mask[2, 2] = mask[3, 3] = 0
    return mask


@pytest.mark.parametrize("instances", [holes_that_meet(), diagonal_notch(), *map(blobs, range(20))])
def test_no_ring_touches_itself_and_each_polygon_is_one_piece(instances):
    """Valid as OGC defines it: rings are simple, and holes lie within their outer ring and do not divide it."""
    polygons = nest(outlines(instances)[1])
    for rings in polygons:
        for ring in rings:
            assert ring[0] == ring[-1] and len(set(ring)) == len(ring) - 1
        piece = np.zeros_like(instances)
        paint(piece, [np.array(ring, float) for ring in rings], 1, "corners")
        assert ndimage.label(piece)[1] == 1
        outer = np.zeros_like(instances)
        paint(outer, [np.array(rings[0], float)], 1, "corners")
        holes = [np.zeros_like(instances) for _ in rings[1:]]
        for hole, ring in zip(holes, rings[1:]):
            paint(hole, [np.array(ring, float)], 1, "corners")
            assert ndimage.label(hole)[1] == 1 and (outer[hole > 0] == 1).all()
        assert sum(holes, start=np.zeros_like(instances)).max() <= 1, "holes overlap"
        assert np.array_equal(piece, outer - sum(holes, start=np.zeros_like(instances)))
    assert (painted(instances) == instances).all()


def test_polygons_are_valid_for_shapely():
    geometry = pytest.importorskip("shapely.geometry")
    for instances in (holes_that_meet(), diagonal_notch(), *map(blobs, range(20))):
        polygons = nest(outlines(instances)[1])
        assert geometry.MultiPolygon([(rings[0], rings[1:]) for rings in polygons]).is_valid


def test_file_for_qupath(tmp_path):
    instances = np.zeros((20, 20), np.int32)
    instances[2:6, 2:6], instances[10:15, 8:12] = 1, 2
    path = tmp_path / "a.geojson"
    write_geojson(path, instances, np.array([2, 0]), ["Neoplastic", "Immune"], 0.5)
    content = json.loads(path.read_text())
    typed, untyped = content["features"]
    assert typed["properties"]["classification"]["name"] == "Immune" and typed["geometry"]["type"] == "Polygon"
    assert typed["properties"]["measurements"] == {"Area µm^2": 16 * 0.25}
    assert "classification" not in untyped["properties"]
    first = path.read_bytes()
    write_geojson(path, instances, np.array([2, 0]), ["Neoplastic", "Immune"], 0.5)
    assert path.read_bytes() == first
    found = list(reader._geojson(content, path))
    back = np.zeros_like(instances)
    for k, (rings, _, vertices) in enumerate(found, 1):
        paint(back, rings, k, vertices)
    assert (back == instances).all()
