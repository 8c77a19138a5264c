"""StarDist's targets, suppression and painting against the authors' package, and what holds without it."""

import numpy as np
import pytest

from benchmark.data.nuclei import Nuclei
from benchmark.data.sources.synthetic import TISSUES, draw
from benchmark.postproc import star_polygons
from benchmark.postproc.star_distances import object_probability, star_distances
from benchmark.postproc.star_polygons import paint, shared_areas, suppress
from benchmark.representations.stardist import StarDist, StarSettings
from tests.support.scenes import disks
from tests.support.shared import GOLDEN
from tests.support.star_scenes import label_maps, noisy

MAPS = label_maps()
WHY = "the package is no dependency: pip install --no-deps stardist csbdeep six tqdm; golden figures stand in for it"


def candidates(prob: np.ndarray, dist: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(distances (32, N), centres (N, 2)) as `StarDist.decode` hands them on."""
    centres = np.argwhere(prob[2:-2, 2:-2] > 0.5) + 2
    centres = centres[np.argsort(-prob[tuple(centres.T)], kind="stable")]
    return dist[:, centres[:, 0], centres[:, 1]], centres


@pytest.mark.parametrize("name", MAPS)
def test_targets_equal_the_package_s_stored_figures(name):
    key, labels = name.replace(" ", "_"), MAPS[name]
    with np.load(GOLDEN / "stardist.npz", allow_pickle=False) as stored:
        assert np.array_equal(stored[f"{key}/labels"] > 0, labels > 0)
        pixels = stored[f"{key}/pixels"]
        assert np.array_equal(star_distances(labels).reshape(32, -1)[:, pixels].T, stored[f"{key}/dist"])
        assert np.array_equal(object_probability(labels).ravel()[pixels], stored[f"{key}/prob"])


@pytest.mark.parametrize("name", ["separate", "touching"])
def test_suppression_and_painting_equal_the_package_s_stored_figures(name):
    distances, centres = candidates(*noisy(MAPS[name], 1, 1.0))
    stay = suppress(distances, centres, 0.4)
    assert 5 < len(stay) < len(centres)
    with np.load(GOLDEN / "stardist.npz", allow_pickle=False) as stored:
        assert np.array_equal(centres[stay], stored[f"{name}/kept"])
        painted = paint(distances[:, stay], centres[stay], MAPS[name].shape)
        assert np.array_equal(painted, stored[f"{name}/painted"])


@pytest.mark.parametrize("seed", range(6))
def test_everything_equals_the_installed_package(seed):
    geometry = pytest.importorskip("stardist.geometry", reason=WHY)
    from stardist.nms import non_maximum_suppression
    from stardist.utils import edt_prob

    rng = np.random.default_rng(seed)
    blocks = np.kron(rng.integers(0, 4, (9, 12)), np.ones((7, 6), int))
    for labels in (*MAPS.values(), blocks, rng.integers(0, 3, (31, 44)), np.ones((9, 9), int)):
        for rays in (32, 12, 8):
            theirs = geometry.star_dist(labels, rays)
            assert np.array_equal(star_distances(labels, rays), np.moveaxis(theirs, -1, 0))
        assert np.array_equal(object_probability(labels), edt_prob(labels))
    drawn = draw(TISSUES[seed % len(TISSUES)], seed, 0).nuclei.instances
    for labels in (MAPS["separate"], MAPS["touching"], drawn, MAPS["crowded"]):
        prob, dist = noisy(labels, seed, 0.4 * seed)
        distances, centres = candidates(prob, dist)
        stay = suppress(distances, centres, 0.4)
        all_rays = np.ascontiguousarray(np.moveaxis(dist, 0, -1))
        points, scores, lengths = non_maximum_suppression(all_rays, prob, nms_thresh=0.4, prob_thresh=0.5)
        if labels is MAPS["crowded"]:  # of a few pixels: where edges cross, the package rounds to whole pixels
            apart = {*map(tuple, centres[stay])} ^ {*map(tuple, points)}
            assert len(apart) <= 0.1 * len(points)
            continue
        assert np.array_equal(centres[stay], points), "the same polygons, in the same order"
        painted = geometry.polygons_to_label(lengths, points, prob.shape, prob=scores)
        assert np.array_equal(paint(distances[:, stay], centres[stay], prob.shape), painted)


def test_distances_of_a_square_by_hand():
    labels = np.zeros((7, 9), int)
    labels[1:6, 2:7] = 4
    seen = star_distances(labels, 8)[:, 3, 4]  # the middle of 5 x 5 pixels
    assert seen[[0, 2, 4, 6]].tolist() == [2.5] * 4, "to the pixels' edges"
    assert seen[1] == pytest.approx(2.5 * 2**0.5, abs=0.36), "along the diagonal by whole steps of 1"
    assert not star_distances(labels, 8)[:, labels == 0].any()


def test_shared_areas_by_hand():
    def box(x, y, width, height):
        return np.array([[x, x + width, x + width, x, x], [y, y, y + height, y + height, y]], np.float32)

    others = np.stack([box(2, 3, 10, 4), box(20, 0, 3, 3), box(-5, -5, 30, 30), box(4, 4, 2, 2)], -1)
    others = np.concatenate([others, np.array([[0, 10, 0, 0, 0], [0, 10, 10, 0, 0]], np.float32)[..., None]], -1)
    assert shared_areas(*box(0, 0, 10, 10), *others).tolist() == [32, 0, 100, 4, 50]


@pytest.mark.parametrize("crossings", [1, 5000])
def test_areas_measured_in_parts_are_the_same_bit_by_bit(monkeypatch, crossings):
    """However small a part has to be: the intersections of many polygons at once would take all memory."""
    centres = np.random.default_rng(0).permutation(np.argwhere(np.ones((20, 20), bool)))
    ragged = 8 + 3 * np.random.default_rng(1).normal(size=(32, len(centres)))
    distances = ragged.clip(1).astype(np.float32)
    asked: list[list] = [[], []]

    def spied(into):
        def measured(x, y, others_x, others_y):
            shared = shared_areas(x, y, others_x, others_y)
            into.append(shared)
            return shared

        return measured

    stay = []
    for into, limit in zip(asked, (10**9, crossings)):
        monkeypatch.setattr(star_polygons, "CROSSINGS", limit)
        monkeypatch.setattr(star_polygons, "shared_areas", spied(into))
        stay.append(suppress(distances, centres, 0.4))
    assert np.array_equal(*stay) and np.concatenate(asked[0]).tobytes() == np.concatenate(asked[1]).tobytes()
    assert len(asked[1]) > len(asked[0]) and max(map(len, asked[1])) < max(map(len, asked[0]))


def test_the_more_probable_one_stays_and_ties_go_by_position():
    distances = np.full((32, 3), 5, np.float32)
    centres = np.array([[20, 20], [20, 23], [20, 31]])
    assert suppress(distances, centres, 0.4).tolist() == [0, 2], "the second overlaps the first, the third the second"
    assert suppress(distances, centres, 0.95).tolist() == [0, 1, 2]
    way = StarDist()
    maps = {"prob": np.full((1, 12, 40), 3.0), "dist": np.full((32, 12, 40), 5.0)}
    decoded = way.decode(maps, 0.25)
    assert decoded.instances[2, 2] == 1, "of equal ones the first in raster order"
    assert decoded.scores.tolist() == pytest.approx([1 / (1 + np.exp(-3))] * len(decoded))


@pytest.mark.parametrize("border", [0, 2])
def test_pixels_at_the_edge_begin_no_polygon(border):
    labels = np.zeros((30, 30), np.int32)
    labels[:2, 10:20] = 1
    way, truth = StarDist(), Nuclei(labels, np.ones(1, np.uint8), 0.25)
    maps = way.ideal(way.targets(truth), 1)
    assert len(way.decode(maps, 0.25, StarSettings(border=border))) == (0 if border else 1)


@pytest.mark.parametrize("shape", [(3, 40), (1, 1), (4, 4)])
def test_images_smaller_than_the_border_have_no_nuclei(shape):
    maps = {"prob": np.full((1, *shape), 5.0), "dist": np.full((32, *shape), 2.0)}
    assert StarDist().decode(maps, 0.25).instances.shape == shape
    assert len(StarDist().decode(maps, 0.25)) == 0


def test_a_nucleus_of_several_types_has_that_of_most_pixels():
    way, truth = StarDist(), disks(64, 15, 5)
    maps = way.ideal(way.targets(truth), 5)
    decoded = way.decode(maps, 0.25)
    assert sorted(decoded.types) == sorted(truth.types)
    del maps["tp"]
    assert not way.decode(maps, 0.25).types.any()


@pytest.mark.parametrize("change", [{"probability": 2}, {"overlap": -0.1}, {"border": 1.5}, {"nms": 0.5}])
def test_wrong_settings_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        StarSettings().updated(change)
