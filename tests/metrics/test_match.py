"""The match: hand-computed images, brute force on random maps, invariants, bad input."""

import tracemalloc

import numpy as np
import pytest
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from benchmark.metrics.assignment import assign_sparse
from benchmark.metrics.match import match
from benchmark.metrics.overlap import aji, aji_plus, dice
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.metrics.records import Records
from tests.support.label_maps import blobs


def typed(instances, seed=0):
    kinds = np.random.default_rng(seed).integers(1, 4, instances.max() + 1)
    return np.where(instances > 0, kinds[instances], 0).astype(np.uint8)


def pair(seed):
    true, pred = blobs(seed), blobs(seed)
    pred = np.roll(pred, 1, axis=1) * (np.random.default_rng(seed).random(pred.max() + 1) < 0.8)[pred]
    return true, typed(true, seed), pred, typed(pred, seed + 1)


def test_two_nuclei_by_hand():
    true = np.zeros((6, 8), int)
    true[1:3, 1:5] = 7  # 8 px
    true[4, 6:8] = 3  # 2 px, touches the right edge
    pred = np.zeros((6, 8), int)
    pred[1:3, 2:6] = 9  # 8 px, 6 shared: IoU 0.6
    m = match(true, [2, 1], pred, [1], mpp=0.5)
    assert m.true.id.tolist() == [3, 7] and m.true.type.tolist() == [2, 1] and m.true.area.tolist() == [2, 8]
    assert m.true.x.tolist() == [6.5, 2.5] and m.true.y.tolist() == [4.0, 1.5]
    assert m.true.border.tolist() == [True, False] and m.true.points.tolist() == [False, True]
    assert m.true.partner.tolist() == [0, 9] and m.pred.partner.tolist() == [7]
    assert m.true.iou.tolist() == [0.0, 0.6] and m.pred.iou.tolist() == [0.6]
    rows = zip(m.true_id, m.true_type, m.pred_id, m.pred_type, m.pixels)
    assert {tuple(map(int, r)) for r in rows} == {
        (0, 0, 0, 0, 36),
        (0, 0, 9, 1, 2),
        (3, 2, 0, 0, 2),
        (7, 1, 0, 0, 2),
        (7, 1, 9, 1, 6),
    }
    records = Records.collect([m], [{"image": 0}])
    assert dice(records)[0] == 12 / 18 and aji(records)[0] == aji_plus(records)[0] == 6 / 12
    assert records.nuclei["d_um"].iloc[1] == pytest.approx(2 * np.sqrt(8 / np.pi) * 0.5)


def test_aji_may_choose_a_prediction_twice_and_aji_plus_not():
    true, pred = np.zeros((1, 10), int), np.zeros((1, 10), int)
    true[0, :4], true[0, 4:7] = 1, 2
    pred[0, :7], pred[0, 8] = 5, 6
    records = Records.collect([match(true, None, pred, None, mpp=1)], [{"image": 0}])
    assert aji(records)[0] == (4 + 3) / (7 + 7 + 1)
    assert aji_plus(records)[0] == 4 / (7 + 3 + 1)


@pytest.mark.parametrize("seed", range(6))
def test_equals_brute_force(seed):
    true, true_type, pred, pred_type = pair(seed)
    m = match(true, true_type, pred, pred_type, mpp=0.25)
    combined = np.stack([true, true_type, pred, pred_type]).reshape(4, -1)
    rows, counts = np.unique(combined, axis=1, return_counts=True)
    ours = np.stack([m.true_id, m.true_type, m.pred_id, m.pred_type, m.pixels])
    np.testing.assert_array_equal(ours[:, np.lexsort(ours[3::-1])], np.vstack([rows, counts]))
    for side, labels in ((m.true, true), (m.pred, pred)):
        ids = np.unique(labels[labels > 0])
        np.testing.assert_array_equal(side.id, ids)
        np.testing.assert_allclose(np.stack([side.y, side.x], 1), ndimage.center_of_mass(labels > 0, labels, ids))
        edge = np.unique(np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]]))
        np.testing.assert_array_equal(side.border, np.isin(ids, edge))
        np.testing.assert_array_equal(side.points, [has_points(labels == i) for i in ids])


@pytest.mark.parametrize("seed", range(4))
def test_outline_rule_on_noise(seed):
    labels = np.random.default_rng(seed).choice([0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], size=(9, 11))
    side = match(labels, None, labels, None, mpp=0.25).true
    np.testing.assert_array_equal(side.points, [has_points(labels == i) for i in side.id])


def has_points(mask) -> bool:
    """The rule by definition: the 8-connected piece whose first pixel comes last is no straight line."""
    pieces, _ = ndimage.label(mask, np.ones((3, 3)))
    flat = pieces.ravel()
    last = max(range(1, flat.max() + 1), key=lambda k: np.flatnonzero(flat == k)[0])
    y, x = np.nonzero(pieces == last)
    row, column = len(set(y)) == 1, len(set(x)) == 1
    diagonal = len(set(x - y)) == 1 or len(set(x + y)) == 1
    return not (row or column or diagonal)


def test_outline_rule_by_hand():
    shapes = {
        1: ([0], [0]),  # one pixel
        2: ([0, 0, 0], [3, 4, 5]),  # row
        3: ([2, 3, 4], [0, 0, 0]),  # column
        4: ([2, 3, 4], [3, 4, 5]),  # diagonal
        5: ([2, 3, 4], [9, 8, 7]),  # other diagonal
        6: ([6, 7, 7], [0, 0, 1]),  # corner
        7: ([6, 6, 7, 7, 11], [4, 5, 4, 5, 4]),  # square, then a speck below: the speck decides
        8: ([6, 9, 9, 10, 10], [8, 8, 9, 8, 9]),  # speck above a square: the square decides
    }
    labels = np.zeros((12, 12), int)
    for k, where in shapes.items():
        labels[where] = k
    assert match(labels, None, labels, None, mpp=1).true.points.tolist() == [False] * 5 + [True, False, True]


def test_mixed_types_vote():
    labels = np.repeat([[1, 1, 1, 1, 2, 2, 3, 3, 3]], 2, axis=0)
    types = np.array([[3, 3, 2, 2, 0, 0, 0, 0, 4], [3, 3, 2, 2, 0, 0, 0, 0, 0]])
    m = match(labels, types, labels, types, mpp=1)
    # a tie goes to the lower; 0 only where there is nothing else
    assert m.true.type.tolist() == [2, 0, 4]
    assert len(m.pixels) == 5 and len(m.pair_pixels) == 3 and m.pair_pixels.tolist() == [8, 4, 6]


def images(*maps):
    records = Records.collect([match(*maps, mpp=0.25)], [{"image": 0, "pred_typed": True}])
    return {n: p.images(records, 3).select_dtypes(float) for n, p in PROTOCOLS.items()}


@pytest.mark.parametrize("factor", [1, 70_000, 2**40])
def test_ids_do_not_matter(factor):
    true, true_type, pred, pred_type = pair(3)
    plain = images(true, true_type, pred, pred_type)
    order = np.random.default_rng(0).permutation(np.arange(1, 40))
    renumbered = (np.concatenate([[0], order])[m].astype(np.int64) * factor for m in (true, pred))
    new_true, new_pred = renumbered
    for name, frame in images(new_true, true_type, new_pred, pred_type).items():
        np.testing.assert_allclose(frame, plain[name], rtol=0, atol=1e-12)


def test_truth_as_prediction_is_perfect():
    labels = np.zeros((40, 40), int)
    labels[2:10, 2:10], labels[20:30, 5:12], labels[15:25, 20:39] = 1, 2, 3
    for name, frame in images(labels, [1, 2, 3], labels, [1, 2, 3]).items():
        of_types = ["mPQ", "PQ_1", "PQ_2", "PQ_3"] if name != "hovernet" else []
        assert frame[["bPQ", *of_types, "Dice", "AJI"]].to_numpy() == pytest.approx(1, abs=2e-6)


@pytest.mark.parametrize("layout", ["fortran", "view", "float", "uint64", "int8"])
def test_layout_and_dtype_do_not_matter(layout):
    true, true_type, pred, pred_type = pair(1)
    change = {
        "fortran": np.asfortranarray,
        "view": lambda m: np.repeat(np.repeat(m, 2, 0), 2, 1)[::2, ::2],
        "float": lambda m: m.astype(np.float32),
        "uint64": lambda m: m.astype(np.uint64),
        "int8": lambda m: m.astype(np.int8),
    }[layout]
    one = match(true, true_type, pred, pred_type, mpp=1)
    other = match(change(true), true_type, change(pred), pred_type, mpp=1)
    np.testing.assert_array_equal(one.pixels, other.pixels)
    np.testing.assert_array_equal(one.true.points, other.true.points)


@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (1, 1), (5, 1)])
def test_small_and_empty_maps(shape):
    m = match(np.zeros(shape, int), None, np.ones(shape, int), None, mpp=1)
    assert len(m.true) == 0 and len(m.pred) == int(np.prod(shape) > 0) and m.pixels.sum() == np.prod(shape)
    Records.collect([m], [{"image": 0}])


def test_blocks_of_rows_join(monkeypatch):
    from benchmark.metrics import rle

    maps = pair(2)
    whole = match(*maps, mpp=1)
    monkeypatch.setattr(rle, "_BLOCK", 200)
    parts = match(*maps, mpp=1)
    np.testing.assert_array_equal(whole.pixels, parts.pixels)
    np.testing.assert_array_equal(whole.true.points, parts.true.points)


SQUARE = np.zeros((4, 4), int)
BAD = {
    "shapes": (
        (SQUARE, None, np.zeros((4, 5), int), None),
        r"\(4, 5\), expected that of true_instances \(4, 4\)",
    ),
    "negative": ((SQUARE - 1, None, SQUARE, None), "true_instances holds the id -1, expected ids >= 0"),
    "fraction": ((SQUARE, None, SQUARE + 0.5, None), "pred_instances is float64 .* no whole numbers"),
    "nan": ((SQUARE, None, SQUARE * np.nan, None), "no whole numbers"),
    "text": ((SQUARE.astype(str), None, SQUARE, None), "expected integers"),
    "stack": ((np.zeros((2, 4, 4), int), None, SQUARE, None), r"expected a label map \(H, W\)"),
    "count": (
        (SQUARE + 1, [1, 2], SQUARE, None),
        "true_types has 2 entries, expected 1: one per instance id",
    ),
    "map": (
        (SQUARE, np.zeros((5, 5), int), SQUARE, None),
        r"true_types has shape \(5, 5\), expected \(4, 4\)",
    ),
    "large": ((SQUARE + 1, [256], SQUARE, None), "expected 0..255"),
    "type": ((SQUARE + 1, SQUARE - 1, SQUARE, None), "expected 0..255"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_maps(name):
    maps, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        match(*maps, mpp=0.25)


@pytest.mark.parametrize("mpp", [0, -1, float("nan"), float("inf"), None, "0.25"])
def test_bad_mpp(mpp):
    with pytest.raises(ValueError, match="expected a positive number of micrometres per pixel"):
        match(SQUARE, None, SQUARE, None, mpp=mpp)


@pytest.mark.slow
def test_a_slide_of_ten_thousand_pixels_in_bounded_memory():
    """10^4 x 10^4 px, 111 000 nuclei, ids up to 2^32: measured 0.4 GiB beside the maps themselves."""
    side, step = 10_000, 30
    tile = blobs(0, step, 1) | blobs(1, step, 1)
    per_row = side // step
    ids = np.arange(1, per_row**2 + 1, dtype=np.uint32).reshape(per_row, per_row)
    true, pred = np.zeros((side, side), np.uint32), np.zeros((side, side), np.uint32)
    cut = per_row * step
    true[:cut, :cut] = np.kron(ids, np.ones((step, step), np.uint32)) * np.tile(tile > 0, (per_row, per_row))
    pred[:, 1:] = np.where(true[:, :-1] > 0, 2**32 - true[:, :-1].astype(np.int64), 0)
    types = (true % 5 + 1).astype(np.uint8) * (true > 0)
    tracemalloc.start()
    found = match(true, types, pred, None, mpp=0.25)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.true) == len(found.pred) == per_row**2 and found.pred.id.max() == 2**32 - 1
    assert found.pixels.sum() == side**2
    assert found.true.iou[0] == pytest.approx(iou_of_shift(tile > 0))
    assert peak < 2**30, f"{peak / 2**30:.2f} GiB"


def iou_of_shift(mask) -> float:
    wide = np.pad(mask, ((0, 0), (0, 1)))
    moved = np.roll(wide, 1, axis=1)
    return (wide & moved).sum() / (wide | moved).sum()


@pytest.mark.parametrize("seed", range(12))
def test_sparse_pairs_equal_the_hungarian_method(seed):
    rng = np.random.default_rng(seed)
    rows, cols = np.nonzero(rng.random((9, 11)) < (0.12, 0.3)[seed % 2])
    cost = rng.random(len(rows)) * 5
    table = np.full((9, 11), 1000.0)
    table[rows, cols] = cost
    a, b = linear_sum_assignment(table)
    near = table[a, b] < 1000
    chosen = assign_sparse(rows, cols, cost, most=True)
    assert set(zip(rows[chosen], cols[chosen])) == set(zip(a[near], b[near]))
    table[table == 1000], table[rows, cols] = 0, -cost
    a, b = linear_sum_assignment(table)
    chosen = assign_sparse(rows, cols, -cost, most=False)
    assert len(set(rows[chosen])) == len(set(cols[chosen])) == len(chosen)
    assert -cost[chosen].sum() == pytest.approx(table[a, b].sum())
