"""Boundaries that decide a score: IoU of exactly one half, pixels of the background, ties, radii, absent names."""

import numpy as np
import pandas as pd
import pytest

from benchmark.metrics import evaluate
from benchmark.metrics.aggregate import Scores, over_folds
from benchmark.metrics.api import Evaluation
from benchmark.metrics.channels import flatten, pannuke_channels
from benchmark.metrics.curves import default_grid, size_curve
from benchmark.metrics.detection import Points, gated, in_images
from benchmark.metrics.match import match
from benchmark.metrics.overlap import aji
from benchmark.metrics.pairs import sum_by_pair
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.metrics.records import Records
from benchmark.metrics.sizes import by_crowding, by_size, confusion


def test_half_is_no_pair_and_the_largest_overlap_is_kept():
    true, pred = np.zeros((1, 12), int), np.zeros((1, 12), int)
    true[0, 1:9] = 1
    pred[0, 1:5] = 4  # 4 of 8: IoU 1/2
    pred[0, 5:7] = 7  # 2 of 8: IoU 1/4
    m = match(true, None, pred, None, mpp=1.0)
    assert m.true.partner.tolist() == [0] and m.pred.partner.tolist() == [0, 0]
    assert m.true.iou.tolist() == [0.5] and m.pred.iou.tolist() == [0.5, 0.25]


def test_types_of_background_pixels_are_ignored():
    instances = np.zeros((4, 6), int)
    instances[1:3, 1:3], instances[1:3, 4:6] = 1, 2
    types = np.where(instances == 1, 2, 3)  # 3 on the second nucleus and on all background
    m = match(instances, types, instances, np.where(instances > 0, types, 0), mpp=1.0)
    assert m.true.type.tolist() == [2, 3]
    assert sorted(zip(m.true_id.tolist(), m.true_type.tolist(), m.pixels.tolist())) == [
        (0, 0, 16),
        (1, 2, 4),
        (2, 3, 4),
    ]


@pytest.mark.parametrize("types", [np.full((2, 2), 256), np.array([256])])
def test_types_above_255_are_refused(types):
    ones = np.ones((2, 2), int)
    with pytest.raises(ValueError, match=r"true_types holds .*256, expected 0\.\.255"):
        match(ones, types, ones, None, mpp=1.0)


def test_a_map_of_huge_ids_without_background_loses_none():
    ids = np.array([[10**12, 10**12], [10**15, 10**15]])
    m = match(ids, None, ids, None, mpp=1.0)
    assert m.true.id.tolist() == [10**12, 10**15] and m.true.partner.tolist() == [10**12, 10**15]
    assert m.true.area.tolist() == [2, 2]


def drawn(rng, images, side=12):
    """Label maps with 0..8 ids of pixels strewn about: nuclei overlap each other's in every way."""
    return [rng.integers(0, 9, (side, side)) * (rng.random((side, side)) < 0.6) for _ in range(images)]


@pytest.mark.parametrize("least", [2**31 - 4, 2**40, 2**52, 2**53 - 9, 2**62, 2**63 - 9])
def test_scores_do_not_depend_on_the_size_of_ids(least):
    """image x id passed 64 bits: AJI 2.0 in place of .125, or an IndexError."""
    rng = np.random.default_rng(0)
    true, pred = drawn(rng, 40), drawn(rng, 40)
    small, large = (
        evaluate([np.where(t > 0, t + add, 0) for t in true], [np.where(p > 0, p + add, 0) for p in pred], "all", mpp=1)
        for add in (0, least)
    )
    for name in PROTOCOLS:
        if name != "cellvta_conic":  # its published code holds ids as float32, and so merges large ones
            assert small.summaries[name] == pytest.approx(large.summaries[name], abs=0, nan_ok=True), name
    assert (large.records.overlaps.groupby("image")["pixels"].sum() == 144).all()


def test_many_images_with_ids_near_2_53():
    """1,500 images of one nucleus each, half of which are hit."""
    true, pred = np.zeros((1500, 4, 4), np.int64), np.zeros((1500, 4, 4), np.int64)
    true[:, :2, :2] = 2**53 - 1 - np.arange(1500)[:, None, None]
    pred[::2, :2, :2] = 2**53 - 1 - np.arange(750)[:, None, None]
    pred[1::2, 2:, 2:] = 2**53 - 1
    records = evaluate(list(true), list(pred), "hovernet", mpp=1).records
    assert aji(records).tolist() == [1.0, 0.0] * 750


def test_id_that_is_too_large_is_named_exactly():
    ids = np.full((2, 2), 2**63 + 1, np.uint64)
    with pytest.raises(ValueError, match=r"the id 9223372036854775809, expected ids below 2\^63"):
        match(ids, None, ids, None, mpp=1.0)


@pytest.mark.parametrize("width", [50, 10**6, 2**40])  # a table, packed keys, keys too large to pack
def test_sums_of_pairs_of_any_size(width):
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 40, 200), rng.integers(0, 40, 200) * (width // 50)
    weights = rng.integers(1, 2**32 - 1, 200)  # more than 16 bits
    expected = {}
    for key in zip(a.tolist(), b.tolist(), weights.tolist()):
        expected[key[:2]] = expected.get(key[:2], 0) + key[2]
    found = sum_by_pair(a, b, weights, width)
    assert list(zip(*(column.tolist() for column in found))) == [(*key, expected[key]) for key in sorted(expected)]


def points(*rows) -> Points:
    """Points of (image, x, y)."""
    image, x, y = np.array(rows, np.float64).reshape(-1, 3).T
    return Points(image.astype(int), np.stack([x, y], 1), np.zeros(len(image), int))


def test_a_detection_counts_up_to_its_image_own_radius():
    true = points((0, 0, 0), (1, 0, 0), (2, 10, 10))
    pred = points((0, 12, 0), (1, 8, 0), (2, 10, 16.5))
    rows, cols = gated(true, pred, np.array([12.0, 6.0, 6.0]))
    assert (rows.tolist(), cols.tolist()) == ([0], [0]), "12 px are within 12 px, 8 and 6.5 are not within 6"


def test_nuclei_of_different_images_are_no_pair():
    true, pred = points((0, 5, 5), (2, 7, 7)), points((1, 5, 5), (3, 7, 7))
    rows, _ = gated(true, pred, np.full(4, 3.0))
    assert not len(rows)


def test_the_dummy_of_an_empty_side_stands_at_the_origin():
    filled = points((1, 4, 5)).with_dummies(3)
    assert filled.image.tolist() == [0, 1, 2] and filled.xy.tolist() == [[0, 0], [4, 5], [0, 0]]


def test_points_of_chosen_images_and_their_pairs():
    true, pred = points((0, 1, 1), (1, 2, 2), (1, 9, 9)), points((0, 1, 1), (0, 5, 5), (1, 9, 9))
    true, pred, rows, cols = in_images(true, pred, np.array([0, 2]), np.array([0, 2]), np.array([False, True]))
    assert true.xy.tolist() == [[2, 2], [9, 9]] and pred.xy.tolist() == [[9, 9]]
    assert (rows.tolist(), cols.tolist()) == ([1], [0])


@pytest.mark.parametrize(("first", "second", "expected"), [("a", "b", 2 / 16), ("b", "a", 4 / 14)])
def test_aji_takes_the_lower_id_of_two_equal_overlaps(first, second, expected):
    true, pred = np.zeros((1, 12), int), np.zeros((1, 12), int)
    true[0, :6] = 1
    place = {"a": slice(0, 2), "b": slice(2, 12)}  # IoU 2 / 6 and 4 / 12
    pred[0, place[first]], pred[0, place[second]] = 1, 2
    found = aji(Records.collect([match(true, None, pred, None, mpp=1.0)], [{"image": 0}]))
    assert found[0] == expected  # the other prediction joins the union


def test_means_without_type_zero_and_without_a_row_for_no_tissue():
    images = pd.DataFrame({"tissue": ["Colon", "", "Skin"], "mPQ": [0.5, 0.1, 0.9]})
    images = images.assign(PQ_0=[0.0, 0.0, 0.0], PQ_1=[0.2, np.nan, 0.4], PQ_2=[np.nan, np.nan, 0.8])
    scores = Scores(images, 0.0, 0.0, ["Colon"])
    assert scores.over_images("mPQ", "type_mean") == pytest.approx((0.3 + 0.8) / 2)
    assert scores.by_tissue("mPQ") == {"Colon": 0.5, "Skin": 0.9}


def test_a_score_that_only_a_later_fold_has_is_kept():
    assert over_folds([{"bPQ": 0.25}, {"bPQ": 0.75, "F1_Dead": 0.5}], []) == {"bPQ": 0.5, "F1_Dead": 0.5}


def collected(*pairs, mpp=1.0) -> Records:
    """Records of images, each (true, types, pred, types)."""
    return Records.collect([match(*p, mpp=mpp) for p in pairs], [{"image": i} for i in range(len(pairs))])


def row(*ids) -> np.ndarray:
    return np.array([ids])


def test_class_channels_that_overlap():
    true = np.stack([row(3, 3, 3, 0, 0, 0), row(0, 0, 5, 5, 0, 3)], -1)
    instances, types = flatten(true)
    assert types.tolist() == [[1, 1, 2, 2, 0, 2]], "the later channel wins"
    a, b, c = instances[0, [0, 2, 5]].tolist()
    assert instances.tolist() == [[a, a, b, b, 0, c]] and len({a, b, c, 0}) == 4
    found = pannuke_channels(true, true * [1, 0])
    # merged, 2 of the 3 predicted pixels meet the first nucleus and two are missed; on its own channel it is whole
    assert (found["bDQ"], found["bSQ"]) == pytest.approx((1 / 2, 2 / 3), abs=1e-5)
    assert [found[k] for k in ("PQ_1", "DQ_2", "PQ_2", "mPQ")] == pytest.approx([1, 0, 0, 0.5], abs=1e-5)


def test_a_predictor_names_no_types_only_where_it_predicted_something():
    one, none = row(0, 1, 1), row(0, 0, 0)
    for pred, types, expected in ((none, [], True), (one, [0], False), (one, [2], True)):
        assert collected((one, [1], pred, types)).images["pred_typed"].tolist() == [expected]


def test_a_value_on_an_edge_belongs_to_the_bin_above():
    labels = np.zeros((4, 12), int)
    labels[1:3, 1:3], labels[1:3, 7:9] = 1, 2  # centroids 6 px apart
    records = collected((labels, None, labels, None))
    assert by_crowding(records, edges=(6.0,))["tp"].tolist() == [0, 2]
    with pytest.raises(ValueError, match="expected ascending"):
        by_size(records, edges=(4.0, 4.0))


def test_types_beyond_the_classes_stand_apart_in_the_confusion():
    table = confusion(collected((row(1, 0, 2), [1, 1], row(1, 0, 2), [1, 7])), ["first", "second"])
    assert table.loc["first", ["first", "second", "other"]].tolist() == [1, 0, 1]


def test_a_class_may_be_called_as_the_confusion_calls_what_is_none():
    """CoNSeP has a class "other": the table could not be made."""
    classes = ["other", "none", "untyped", "(other)"]
    records = collected((row(1, 2, 3, 4), [1, 2, 3, 4], row(1, 2, 3, 0), [1, 1, 7]))
    table = confusion(records, classes)
    assert list(table.columns) == ["(untyped)", *classes, "((other))", "(none)"]
    assert table.loc["other", "other"] == 1 and table.loc["none", "other"] == 1
    assert table.loc["untyped", "((other))"] == 1 and table.loc["(other)", "(none)"] == 1
    assert table.to_numpy().sum() == 4
    assert list(confusion(records, ["a", "b", "c", "d"]).columns) == ["untyped", *"abcd", "other", "none"]
    scored = Evaluation(records, classes, [], "cellvit")
    scores = scored.rows()[0]
    assert scores["PQ_untyped"] == 0 and "PQ_(untyped)" in scores  # that of the class, and of type 0


def test_weights_and_grid_of_a_curve():
    labels = np.zeros((9, 9), int)
    labels[3:6, 3:6], labels[0, 0] = 1, 2  # the second touches the border
    records = collected((labels, None, labels, None))
    inside = records.nuclei["d_um"].iloc[0]
    options = {"bandwidth": 0.5, "resamples": 0}
    found = size_curve(records, grid=[inside, inside + 0.5, inside + 1], border=False, **options)
    np.testing.assert_allclose(found["n"], np.exp([0, -0.5, -2]), rtol=1e-6)
    specks = np.zeros((3, 203), int)
    specks[1, 1:-1:2] = np.arange(1, 102)
    many = collected((specks, None, specks, None))
    many.nuclei.loc[many.nuclei["side"] == "true", "d_um"] = np.arange(101, dtype=np.float32)
    assert default_grid([many], "d_um", 3).tolist() == [2, 50, 98]


def test_single_rows_side_by_side_touch():
    m = match(row(1, 1, 2, 0, 3), None, row(0, 0, 0, 0, 0), None, mpp=1.0)
    assert m.true.touching.tolist() == [True, True, False]


def test_every_image_has_its_own_resolution():
    found = evaluate([row(0, 1), row(0, 1)], [row(0, 1), row(0, 1)], mpp=[0.25, 0.5])
    assert found.records.images["mpp"].tolist() == [0.25, 0.5]


def test_conic_leaves_out_absent_types_and_scores_counts_that_never_change():
    one, two = row(1, 1, 0, 0), row(1, 1, 0, 2)
    images = PROTOCOLS["conic"].images(collected((one, [1], one, [1]), (two, [1, 2], one, [1])), 2)
    assert np.isnan(images["PQ_2"][0]) and images["PQ_2"][1] == 0
    same = collected((one, [1], one, [1]), (one, [1], two, [1, 1]))
    found = PROTOCOLS["conic"].summary(same, ["first", "second"], [])
    assert (found["R2_first"], found["R2_second"]) == (0, 1)


@pytest.mark.parametrize(
    ("protocol", "mpp", "expected"), [("clean", 0.25, 1), ("cellvit", 0.375, 0), ("cellvit", 0.374, 1)]
)
def test_radius_of_a_protocol(protocol, mpp, expected):
    """Centroids 12 px apart: within 3 um at 0.25 um/px and 12 px at x40, beyond the 6 px of x20."""
    true, pred = np.zeros((6, 20), int), np.zeros((6, 20), int)
    true[1:4, 1:4], pred[1:4, 13:16] = 1, 1
    records = collected((true, [1], pred, [1]), mpp=mpp)
    assert len(PROTOCOLS[protocol].pairs(records)[2]) == expected


def test_large_ids_of_neighbouring_images_stay_apart():
    big, neighbour = 2**24, 2**24 + 1  # one number in float32
    images = PROTOCOLS["cellvta_conic"].images(
        collected(*((row(0, k, k), [1], row(0, k, k), [1]) for k in (big, neighbour))), 1
    )
    assert images["tp"].tolist() == [1, 1]


def test_classes_and_tissues_are_those_that_occur():
    found = evaluate([(row(0, 1), [1])], [(row(0, 1), [3])], mpp=0.25, tissues=[""])
    assert "PQ_3" in found.summary and not [k for k in found.summary if k.startswith("tissue/")]


@pytest.mark.parametrize(
    ("true", "types", "defined"), [([[1, 1], [2, 2]], [1, 1], True), ([[1, 1], [1, 1]], [1], False)]
)
def test_cellvit_scores_a_full_truth_of_two_nuclei_and_not_of_one(true, types, defined):
    labels = np.repeat(np.repeat(true, 3, 0), 3, 1)
    images = PROTOCOLS["cellvit"].images(collected((labels, types, labels, types)), 1)
    assert np.isnan(images["bPQ"][0]) != defined
