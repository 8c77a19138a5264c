"""Cellpose's flows and masks against the authors' package, and what holds without it."""

import numpy as np
import pytest
from scipy import ndimage

from benchmark.data.nuclei import Nuclei
from benchmark.data.sources.synthetic import TISSUES, draw
from benchmark.postproc.flow_field import agree, filled, flows, follow, gather
from benchmark.representations.flows import Flows, FlowSettings
from tests.support.scenes import crowd, disks, patch
from tests.support.shared import GOLDEN

MAPS = {
    "separate": disks(64, 14, 5).instances,
    "touching": crowd(64, 18).instances,
    "crowded": patch(0).instances,
    "none": np.zeros((20, 30), np.int32),
}
WHY = (
    "the package is no dependency: pip install --no-deps cellpose fastremap fill-voids; golden figures stand in for it"
)


def noisy(labels: np.ndarray, seed: int, noise: float) -> dict[str, np.ndarray]:
    """Raw maps of a label map, smooth noise added."""
    rng = np.random.default_rng(seed)
    error = ndimage.gaussian_filter(rng.normal(0, noise, (3, *labels.shape)), (0, 1, 1))
    cellprob = np.where(labels > 0, 10.0, -10.0) + 20 * error[0]
    return {
        "cellprob": cellprob[None].astype(np.float32),
        "flow": (5 * flows(labels) + 3 * error[1:]).astype(np.float32),
    }


def in_raster_order(labels: np.ndarray) -> np.ndarray:
    """Renumbered by their first pixels."""
    ids, first, flat = np.unique(labels, return_index=True, return_inverse=True)
    rank = np.zeros(len(ids), int)
    rank[np.argsort(np.where(ids == 0, -1, first))] = np.arange(len(ids))
    return rank[flat].reshape(labels.shape)


@pytest.mark.parametrize("name", MAPS)
def test_flows_and_masks_equal_the_package_s_stored_figures(name):
    with np.load(GOLDEN / "cellpose.npz", allow_pickle=False) as stored:
        pixels = stored[f"{name}/pixels"]
        seen = flows(MAPS[name]).reshape(2, -1)
        np.testing.assert_allclose(seen[:, pixels].T, stored[f"{name}/flow"], atol=1e-6)
        assert not seen[:, MAPS[name].ravel() == 0].any()
        decoded = Flows().decode(noisy(MAPS[name], 1, 1.0), 0.25)
        assert np.array_equal(in_raster_order(decoded.instances), in_raster_order(stored[f"{name}/masks"]))


@pytest.mark.parametrize("seed", range(5))
def test_everything_equals_the_installed_package(seed):
    dynamics = pytest.importorskip("cellpose.dynamics", reason=WHY)
    drawn = draw(TISSUES[seed % len(TISSUES)], seed, 0).nuclei.instances
    for labels in (MAPS["separate"], MAPS["touching"], MAPS["crowded"], drawn, patch(seed, 80, 100).instances):
        theirs, _ = dynamics.masks_to_flows_gpu(labels.astype(int))
        np.testing.assert_allclose(flows(labels), theirs, atol=1e-6)
        maps = noisy(labels, seed, 0.5 * seed)
        masks = dynamics.resize_and_compute_masks(maps["flow"], maps["cellprob"][0], niter=200, min_size=15)
        decoded, masks = in_raster_order(Flows().decode(maps, 0.25).instances), in_raster_order(masks)
        assert decoded.max() == masks.max()
        assert (decoded != masks).mean() < 1e-3, "the same masks, but for ends on the border of two pixels"


def test_flows_of_a_disk_point_to_its_centre():
    rows, columns = np.indices((41, 41)) - 20
    labels = (rows**2 + columns**2 < 15**2).astype(np.int32)
    seen = flows(labels)
    ring = (rows**2 + columns**2 > 3**2) & (labels > 0)
    towards = -np.stack([rows, columns])[:, ring] / np.hypot(rows, columns)[ring]
    assert (seen[:, ring] * towards).sum(0).min() > 0.97
    assert np.allclose((seen[:, ring] ** 2).sum(0), 1, atol=1e-5)


def test_the_centre_lies_inside_of_a_nucleus_that_is_bent():
    labels = np.zeros((30, 30), np.int32)
    labels[3:27, 3:27], labels[3:20, 10:20] = 1, 0  # a U, whose centre of mass is outside
    rows, columns = np.nonzero(labels)
    ends = follow(flows(labels), rows, columns, 200)
    middle = ends.mean(1).round().astype(int)
    assert np.ptp(ends[:, 20:], 1).max() < 30 and labels[tuple(middle)] == 1


def test_pixels_move_by_the_flow_and_stay_in_the_image():
    flow = np.zeros((2, 40, 60), np.float32)
    flow[1] = 0.5
    ends = follow(flow, np.array([20, 5]), np.array([10, 50]), 20)
    assert ends[:, 0] == pytest.approx([20, 20], abs=1e-3), "20 steps of half a pixel to the right"
    assert 58.5 < ends[1, 1] <= 59
    assert follow(flow[:, :1], np.array([0]), np.array([3]), 20).tolist() == [[0], [3]], "no flow in one row of pixels"


def test_clusters_need_more_than_ten_paths_and_grow_over_more_than_two():
    rows = np.arange(40) // 10
    columns = np.arange(40) % 10
    ends = np.array([[20.0] * 11 + [21] * 3 + [22] * 2 + [40] * 10 + [60] * 14, [20.0] * 40])
    seen = gather(ends, rows, columns, (80, 50))
    ids = seen[rows, columns]
    assert ids[:14].tolist() == [1] * 14 and not ids[14:26].any() and ids[26:].tolist() == [2] * 14


def test_a_nucleus_whose_flows_disagree_goes():
    labels = disks(64, 14, 5).instances
    flow = flows(labels)
    assert np.array_equal(agree(labels, flow, 0.4), labels)
    flow[:, labels == 2] *= -1
    left = agree(labels, flow, 0.4)
    assert not left[labels == 2].any() and left.max() == labels.max() - 1


def test_holes_are_filled_and_small_ones_go():
    labels = np.zeros((20, 20), np.int32)
    labels[2:8, 2:8], labels[4, 4], labels[12:14, 3:9] = 3, 0, 5
    seen = filled(labels, 15)
    assert seen.max() == 1 and (seen == 1).sum() == 36 and seen[4, 4] == 1


def test_a_nucleus_of_more_than_two_fifths_of_the_image_is_background_as_published():
    truth = Nuclei(np.ones((30, 30), np.int32), np.ones(1, np.uint8), 0.25)
    way = Flows()
    assert len(way.decode(way.ideal(way.targets(truth), 1), 0.25)) == 0


@pytest.mark.parametrize("change", [{"steps": -1}, {"error": -0.1}, {"least": 1.5}, {"level": "x"}, {"niter": 3}])
def test_wrong_settings_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        FlowSettings().updated(change)


def test_fewer_steps_are_another_result():
    truth = disks(64, 18, 6)
    way = Flows()
    maps = way.ideal(way.targets(truth), 5)
    assert len(way.decode(maps, 0.25)) == len(truth)
    assert len(way.decode(maps, 0.25, FlowSettings(steps=0))) == 0, "no path has ended with another one's"
