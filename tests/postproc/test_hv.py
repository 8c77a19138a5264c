"""HV targets and watershed decoding: equal to the measured maps, and what those maps do not pin."""

import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from benchmark.postproc import watershed as steps
from benchmark.postproc.hv import HVSettings, decode_hv, hv_targets, measure, vote, watershed
from benchmark.representations.hv import HV, HoVerNetHV
from tests.support.shared import GOLDEN, shared

COMMITTED = ["typical30_clean", "single_nucleus", "prob_exactly_half_and_type0"]
ALL = [
    "border_touching",
    "constant_hv_nonempty_prob",
    "dense150_blur",
    "dense150_noise",
    "dense300_small",
    "empty_constant",
    "full_cover_grid",
    "noise_only",
    "nonsquare180x300",
    "prob_exactly_half_and_type0",
    "single_nucleus",
    "tile1000_n900",
    "typical30_clean",
    "typical30_hard",
    "typical30_noise",
]
PRESETS = ["cellvit40", "cellvit20", "hovernet"]


def maps(path) -> tuple[dict, np.ndarray, np.ndarray]:
    case = dict(np.load(path, allow_pickle=False))
    hv = np.stack([case["h_q256"], case["v_q256"]]).astype(np.float32) / 256
    return case, case["prob_q256"].astype(np.float32) / 256, hv


def check_case(path) -> None:
    case, prob, hv = maps(path)
    for preset in PRESETS:
        settings = getattr(HVSettings, preset)()
        found = watershed(prob, hv, settings)
        assert np.array_equal(found, case[f"{preset}__inst"]), preset
        nuclei = decode_hv(prob, hv, case["type_map"], settings)
        ids = np.unique(found)[np.unique(found) > 0]
        rows = np.searchsorted(ids, case[f"{preset}__ids"])  # the published dictionary may lack some
        assert np.array_equal(nuclei.types[rows], case[f"{preset}__type"])
        np.testing.assert_allclose(nuclei.scores[rows], case[f"{preset}__type_prob"], rtol=1e-6)
        assert np.array_equal(nuclei.instances > 0, found > 0) and len(nuclei) == len(ids)
        if f"{preset}__bbox" in case:  # the committed extracts have none
            shapes = measure(nuclei.instances, len(nuclei))
            np.testing.assert_allclose(shapes.centroid[rows], case[f"{preset}__centroid"].reshape(-1, 2), atol=1e-9)
            assert np.array_equal(shapes.box[rows], case[f"{preset}__bbox"].reshape(-1, 4))


@pytest.mark.parametrize("name", COMMITTED)
def test_watershed_equals_the_measured_maps(name):
    check_case(GOLDEN / f"postproc_{name}.npz")


@pytest.mark.parametrize("name", ALL)
def test_watershed_equals_all_measured_maps(name):
    check_case(shared(f"golden/metrics/postproc/{name}.npz"))


@pytest.mark.parametrize("change", ["border", "edge", "element", "ksize"])
def test_wrong_details_are_seen(change, monkeypatch):
    case, prob, hv = maps(GOLDEN / "postproc_typical30_clean.npz")
    settings = HVSettings.cellvit40()
    if change == "border":
        right = ndimage.correlate1d
        monkeypatch.setattr(ndimage, "correlate1d", lambda *a, **k: right(*a, **(k | {"mode": "reflect"})))
    elif change == "element":
        monkeypatch.setattr(steps, "open_ellipse", lambda m, side: ndimage.binary_opening(m, np.ones((5, 5))))
    else:
        settings = settings.updated({"edge": 0.45} if change == "edge" else {"ksize": 17})
    assert not np.array_equal(watershed(prob, hv, settings), case["cellvit40__inst"])


def check_hvmap(arrays, variant: str) -> None:
    seen = 0
    for key in arrays:
        if key.endswith("/hv"):
            instances, expected = arrays[key.split("/")[0] + "/inst"], arrays[key]
            if variant == "hovernet":
                found, expected = (
                    hv_targets(instances, variant, expected.shape[:2]),
                    expected.transpose(2, 0, 1),
                )
            else:
                found = hv_targets(instances)
            assert found.dtype == np.float32 and np.array_equal(found, expected), key
            seen += 1
    assert seen >= 6


@pytest.mark.parametrize("variant,name", [("cellvit", "cellvta"), ("hovernet", "hovernet")])
def test_hv_targets_equal_the_measured_maps(variant, name):
    check_hvmap(dict(np.load(GOLDEN / f"hvmap_{name}.npz", allow_pickle=False)), variant)


@pytest.mark.parametrize("variant,name", [("cellvit", "cellvta"), ("hovernet", "hovernet")])
def test_hv_targets_equal_all_measured_maps(variant, name):
    path = shared(f"golden/models/hvmap_{name}.npz")
    check_hvmap(dict(np.load(path, allow_pickle=False)), variant)


def test_hv_skips_boxes_thinner_than_two_pixels():
    line = np.array([[0, 0, 1, 1, 1, 1, 1, 0]])
    assert not hv_targets(line).any() and not hv_targets(line.T).any()
    assert hv_targets(np.repeat(line, 2, 0)).any()


def test_hv_of_an_image_covered_by_one_nucleus():
    covered = hv_targets(np.ones((32, 32), np.int32))
    assert covered.min() == -1 and covered.max() == 1


def test_hv_of_ids_with_gaps_and_of_large_ids():
    instances = np.zeros((20, 20), np.int64)
    instances[2:8, 2:8], instances[10:18, 9:19] = 1, 2
    assert np.array_equal(hv_targets(instances * 10**9), hv_targets(instances))
    assert np.array_equal(hv_targets((instances > 0) * (instances + 40)), hv_targets(instances))


def test_hovernet_relabels_pieces_by_four_neighbours():
    corner = np.zeros((24, 24), np.int32)
    corner[4:11, 4:11] = corner[11:18, 11:18] = 3  # two blocks that meet in a corner only
    separate = np.where(np.arange(24)[:, None] >= 11, corner + 1, corner) * (corner > 0)
    assert np.array_equal(hv_targets(corner, "hovernet"), hv_targets(separate, "hovernet"))
    assert not np.array_equal(hv_targets(corner), hv_targets(separate))  # CellViT: one centre


def test_hovernets_crop_leaves_an_odd_pixel_at_the_end():
    instances = np.zeros((41, 45), np.int32)
    instances[12:20, 15:22] = 1
    whole = hv_targets(instances, "hovernet")
    assert np.array_equal(hv_targets(instances, "hovernet", (20, 20)), whole[:, 10:30, 12:32]) and whole.any()


def test_hovernet_spanning_instance_with_negative_start_follows_the_slice():
    full = np.ones((40, 40), np.int32)
    found = hv_targets(full, "hovernet")
    assert found[:, :-2].any() == 0 and found[:, -2:, -2:].any()


@pytest.mark.parametrize(
    "arguments",
    [
        (np.zeros((4, 4), np.float32),),
        (np.zeros((2, 4, 4), np.int32),),
        (np.full((4, 4), -1),),
        (np.zeros((4, 4), np.int32), "hover"),
        (np.zeros((4, 4), np.int32), "cellvit", (2, 2)),
        (np.zeros((4, 4), np.int32), "hovernet", (8, 8)),
    ],
)
def test_hv_targets_refuse_bad_input(arguments):
    with pytest.raises(ValueError, match=r"expected|belongs|larger"):
        hv_targets(*arguments)


def test_opening_border_and_element():
    corner = np.zeros((12, 12), bool)
    corner[:3, :3] = True
    assert steps.open_ellipse(corner)[0, 0]  # outside counts as foreground when eroding
    assert not steps.open_ellipse(np.roll(corner, 5, (0, 1))).any()
    ellipses = {
        3: ["010", "111", "010"],
        5: ["00100", "11111", "11111", "11111", "00100"],
        7: ["0001000", "0111110", "1111111", "1111111", "1111111", "0111110", "0001000"],
    }
    rng = np.random.default_rng(0)
    for side, rows in ellipses.items():
        ellipse = np.array([[c == "1" for c in row] for row in rows])
        for density in (0.7, 0.9, 0.97):
            mask = rng.random((40, 56)) < density
            eroded = ndimage.binary_erosion(mask, ellipse, border_value=1)
            assert np.array_equal(steps.open_ellipse(mask, side), ndimage.binary_dilation(eroded, ellipse))
    assert np.array_equal(steps.open_ellipse(mask, 1), mask)


def test_the_way_from_gradients_to_markers(monkeypatch):
    """Given gradients: the relief that is flooded, and markers of filled, opened and large enough places."""
    seen = {}

    def flood(relief, markers, mask):
        seen.update(relief=relief, markers=markers)
        return mask

    monkeypatch.setattr(steps, "flood", flood)
    gradient = np.random.default_rng(0).uniform(0.4, 1, (24, 24))
    gradient[1:8, 1:8] = gradient[12:17, 2:7] = gradient[12:16, 12:16] = 0
    gradient[4, 4] = 1  # a hole, which would leave no room for the 5 x 5 ellipse
    monkeypatch.setattr(steps, "_gradient", lambda values, axis, ksize: gradient)
    nuclei = np.ones((24, 24), bool)
    nuclei[20:] = False
    nuclei[22, 3:12] = True  # 9 pixels: no nucleus
    steps.watershed(nuclei, np.zeros((2, 24, 24), np.float32), HVSettings.cellvit40())
    plain = np.pad(np.where(np.arange(24)[:, None] < 20, 1 - gradient, 0), 1, "reflect")
    rows = plain[:-2] / 4 + plain[1:-1] / 2 + plain[2:] / 4
    np.testing.assert_allclose(-seen["relief"], rows[:, :-2] / 4 + rows[:, 1:-1] / 2 + rows[:, 2:] / 4, atol=1e-12)
    # 7 x 7 less two pixels at each corner; the ellipse itself; 4 x 4 holds no ellipse
    assert np.bincount(seen["markers"].ravel())[1:].tolist() == [41, 17]


def test_maps_are_stretched_to_their_own_range():
    assert steps._unit_range(np.array([0.1, 0.2, 0.3])).tolist() == pytest.approx([0, 0.5, 1])
    assert not steps._unit_range(np.full(3, 0.7)).any()


def test_small_means_fewer_than_the_size():
    assert steps.drop_small(np.array([[1, 1, 0, 2, 0, 3, 3, 3]]), 2).tolist() == [[1, 1, 0, 0, 0, 3, 3, 3]]


def test_fill_holes_equals_scipy():
    rng = np.random.default_rng(1)
    for density in (0.4, 0.6, 0.8):
        mask = rng.random((40, 56)) < density
        assert np.array_equal(steps.fill_holes(mask), ndimage.binary_fill_holes(mask))
    assert steps.fill_holes(np.ones((4, 4), bool)).all() and not steps.fill_holes(np.zeros((4, 4), bool)).any()


def discs(shape=(96, 96), radius=8) -> np.ndarray:
    rows, cols = np.indices(shape)
    out = np.zeros(shape, np.int32)
    for k, (r, c) in enumerate([(20, 20), (20, 37), (60, 30), (70, 75)]):
        out[(rows - r) ** 2 + (cols - c) ** 2 <= radius**2] = k + 1
    return out


def test_perfect_maps_give_the_truth_back_touching_nuclei_apart():
    truth = discs()
    types = np.array([0, 2, 1, 3, 1])[truth]
    logits = np.stack([np.where(truth > 0, -4.0, 4.0), np.where(truth > 0, 4.0, -4.0)])
    onehot = np.eye(4)[types].transpose(2, 0, 1)
    found = decode_hv(logits, hv_targets(truth), onehot, mpp=0.25)
    assert len(found) == 4 and found.mpp == 0.25 and found.instances.dtype == np.int32
    for k in range(1, 5):
        other = np.bincount(found.instances[truth == k], minlength=5).argmax()
        overlap = np.sum((truth == k) & (found.instances == other))
        assert overlap / np.sum((truth == k) | (found.instances == other)) > 0.9
        assert found.types[other - 1] == [2, 1, 3, 1][k - 1]


def test_all_forms_of_the_nucleus_map_agree():
    truth, hv = discs(), hv_targets(discs())
    logits = np.stack([np.zeros(truth.shape), np.where(truth > 0, 1.0, -1.0)])
    prob = np.where(truth > 0, 0.9, 0.1)
    expected = watershed(truth > 0, hv)
    assert np.array_equal(watershed(logits, hv), expected) and np.array_equal(watershed(prob, hv), expected)
    half = np.full(truth.shape, 0.5)
    assert not watershed(half, hv).any() and watershed(half, hv, HVSettings.hovernet()).any()


def test_empty_and_constant_maps_give_no_nuclei():
    none = decode_hv(np.zeros((32, 32), bool), np.zeros((2, 32, 32)), np.zeros((32, 32), np.uint8))
    flat = decode_hv(np.ones((32, 32), bool), np.zeros((2, 32, 32)))
    assert len(none) == 0 and len(flat) == 0 and none.instances.shape == (32, 32)


def test_vote():
    instances = np.array([[1] * 5, [2] * 5, [3] * 5])
    types = np.array([[0, 0, 0, 2, 1], [3, 3, 1, 1, 0], [0] * 5])
    found, scores = vote(instances, types, 3)
    # type 0 gives way to the next, a tie to the smaller, and stays where there is nothing else
    assert found.tolist() == [1, 1, 0]
    np.testing.assert_allclose(scores, np.array([1, 2, 5]) / (5 + 1e-6), rtol=6e-8)


def test_measure_of_pieces_and_of_ids_without_pixels():
    instances = np.zeros((6, 8), np.int32)
    instances[1, 1] = instances[4, 5:7] = 1
    instances[2:4, 3] = 3
    shapes = measure(instances, 3)
    assert shapes.area.tolist() == [3, 0, 2]
    np.testing.assert_allclose(shapes.centroid[[0, 2]], [[4, 3], [3, 2.5]])
    assert np.isnan(shapes.centroid[1]).all() and shapes.box.tolist() == [[1, 1, 5, 7], [0] * 4, [2, 3, 4, 4]]
    none = measure(np.zeros((4, 4), np.int32), 0)
    assert none.area.shape == (0,) and none.centroid.shape == (0, 2) and none.box.shape == (0, 4)


def test_decoding_follows_the_resolution_and_scores_untyped_nuclei_one():
    case, prob, hv = maps(GOLDEN / "postproc_typical30_clean.npz")
    for mpp, preset in ((0.25, "cellvit40"), (0.5, "cellvit20")):
        nuclei = decode_hv(prob, hv, mpp=mpp)
        assert np.array_equal(nuclei.instances > 0, case[f"{preset}__inst"] > 0) and nuclei.mpp == mpp
        assert not nuclei.types.any() and (nuclei.scores == 1).all()
    assert not np.array_equal(case["cellvit40__inst"], case["cellvit20__inst"])


def test_ideal_maps_are_the_labels():
    labels = np.array([[0, 1, 3]])
    found = HV().ideal({"np": np.minimum(labels, 1), "hv": np.zeros((2, 1, 3)), "tp": labels}, 3)
    assert found["tp"].shape == (4, 1, 3) and np.array_equal(found["tp"].argmax(0), labels)
    assert np.array_equal(found["np"].argmax(0), labels > 0) and (np.sort(found["tp"], 0)[-2] < 0).all()


def test_settings():
    sizes = {"object_size": 10, "component_size": 10, "edge": 0.4, "opening": 5}
    assert HVSettings.for_mpp(0.374) == HVSettings("argmax", 21, **sizes)
    assert HVSettings.for_mpp(0.375) == HVSettings("argmax", 11, **sizes | {"object_size": 3})
    assert HoVerNetHV().settings(0.5) == HVSettings("half", 21, **sizes)
    assert HVSettings.cellvit40().updated({"opening": 1}).opening == 1
    with pytest.raises(ValueError, match=r"unknown post-processing setting 'kszie'.*ksize"):
        HVSettings.cellvit40().updated({"kszie": 3})
    for wrong in ({"ksize": 4}, {"opening": 0}, {"opening": True}, {"edge": "x"}, {"edge": 2}, {"object_size": -1}):
        with pytest.raises(ValueError, match="expected a"):
            HVSettings(**wrong)
    with pytest.raises(ValueError, match="argmax"):
        HVSettings(threshold="0.5")


def test_without_opening_small_nuclei_survive():
    small = discs(radius=2)
    with_it, without = HVSettings.cellvit40(), HVSettings.cellvit40().updated({"opening": 1})
    hv = hv_targets(small)
    assert np.count_nonzero(np.unique(watershed(small > 0, hv, without))) >= np.count_nonzero(
        np.unique(watershed(small > 0, hv, with_it))
    )


def test_shapes_that_do_not_fit_are_refused():
    mask = np.zeros((8, 8), bool)
    with pytest.raises(ValueError, match="hv has shape"):
        watershed(mask, np.zeros((2, 8, 9)))
    with pytest.raises(ValueError, match=r"expected \(2, height, width\) logits"):
        watershed(np.zeros((3, 8, 8)), np.zeros((2, 8, 8)))
    with pytest.raises(ValueError, match="type map"):
        decode_hv(mask, np.zeros((2, 8, 8)), np.zeros((4, 8, 9)))


def test_imports_neither_torch_nor_opencv():
    code = "import sys, benchmark.postproc.hv; sys.exit(any(m in sys.modules for m in ('torch', 'cv2')))"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0
