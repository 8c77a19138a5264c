"""conic, hovernet and clean by hand, and the aggregations."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmark import report
from benchmark.metrics.aggregate import AGGREGATIONS, Scores, over_folds
from benchmark.metrics.match import match
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.metrics.records import Records
from benchmark.report.write import write_tables
from tests.support.label_maps import CLASSES, EMPTY, HALF, TRUE, four, squares
from tests.support.report_runs import MAIN, make_run, read_csv

IOU = 240 / 256


def one(*maps, mpp=0.25):
    return Records.collect([match(*maps, mpp=mpp)], [{"image": 0, "pred_typed": True}])


def test_false_positives_on_an_empty_truth():
    """Four images: perfect, half right, empty truth with three false positives, both empty."""
    records = four()
    half = (1 + IOU) / 3  # two of three found, one invented
    bpq = {name: p.images(records, 2)["bPQ"].to_numpy() for name, p in PROTOCOLS.items()}
    for name in ("pannuke", "cellvit", "cellvta_conic"):
        assert bpq[name] == pytest.approx([1, half, np.nan, np.nan], abs=2e-6, nan_ok=True), name
    assert bpq["conic"] == pytest.approx([1, half, 0, 0], abs=2e-6)
    assert bpq["hovernet"] == pytest.approx([1, half, 0, np.nan], abs=2e-6, nan_ok=True)
    assert bpq["clean"] == pytest.approx([1, half, 0, np.nan], abs=1e-15, nan_ok=True)
    assert PROTOCOLS["clean"].images(records, 2)["bSQ"].isna().tolist() == [False, False, True, True]


def test_clean_by_hand():
    summary = PROTOCOLS["clean"].summary(four(), CLASSES, ["Colon"])
    rows = PROTOCOLS["clean"].images(four(), 2)
    # round: image 0 two hits; image 1 one missed, one called long, one invented; image 2 two invented
    assert rows["PQ_1"].tolist()[:3] == [1, 0, 0] and rows["PQ_2"].tolist()[:3] == [1, IOU / 1.5, 0]
    assert summary["mPQ"] == pytest.approx(np.mean([1, IOU / 3, 0])) and summary["bPQ"] == pytest.approx(
        np.mean([1, (1 + IOU) / 3, 0])
    )
    assert summary["pooled/bPQ"] == pytest.approx((4 + IOU) / (5 + 4 / 2 + 1 / 2))
    assert summary["class_pooled/mPQ"] == pytest.approx((2 / (2 + 3 / 2 + 2 / 2) + (1 + IOU) / (2 + 2 / 2)) / 2)
    # pairs 3 + 2, no dummies: 9 predictions, 6 true nuclei
    assert (summary["precision"], summary["recall"], summary["F1"]) == (5 / 9, 5 / 6, 10 / 15)
    # long: 2 hits, one round nucleus called long (counts once), one in the third image
    assert summary["precision_long"] == 2 / 4 and summary["recall_long"] == 1 and summary["F1_long"] == 4 / 6
    assert summary["accuracy"] == 4 / 5 and summary["tissue/Colon/F1"] == 10 / 12
    assert summary["tissue/Liver/bPQ"] == 0 and np.isnan(summary["tissue/Brain/bPQ"])


def test_clean_pairs_as_many_as_possible_within_three_micrometres():
    true, pred = np.zeros((9, 60), int), np.zeros((9, 60), int)
    true[4, 0], true[4, 10], pred[4, 8], pred[4, 21] = 1, 2, 1, 2
    # the nearest pair (10, 8) would leave 0 and 21 alone; 0-8 and 10-21 are both within 12 px
    assert PROTOCOLS["clean"].images(one(true, None, pred, None), 0)["n_paired"].item() == 2
    # at 0.5 um/px only 6 px are allowed
    assert PROTOCOLS["clean"].images(one(true, None, pred, None, mpp=0.5), 0)["n_paired"].item() == 1
    far = np.zeros((9, 60), int)
    far[4, 23] = 1
    assert PROTOCOLS["clean"].images(one(true, None, far, None), 0)["n_paired"].item() == 0


def test_the_smallest_total_distance_loses_a_pair_that_the_gate_keeps():
    true, pred = np.zeros((30, 40), int), np.zeros((30, 40), int)
    true[5, 5], true[5, 16], pred[6, 16], pred[14, 23] = 1, 2, 1, 2
    true[7, 5], true[7, 16], pred[8, 16], pred[16, 23] = 1, 2, 1, 2  # two pixels each: centroids one row lower
    records = one(true, None, pred, None)
    # 11.0 + 11.4 px, both within 12, against 1 + 20.1 px in all
    assert PROTOCOLS["clean"].images(records, 0)["n_paired"].item() == 2
    records.nuclei["points"] = True  # the published rule drops such specks
    assert PROTOCOLS["hovernet"].images(records, 0)["n_paired"].item() == 1


def test_clean_takes_a_nucleus_of_mixed_type_whole():
    labels = squares((2, 2, 10, 10), (20, 20, 10, 10))
    mixed = np.where(labels == 1, 1, 2)
    mixed[2:6, 2:12] = 2  # 40 of the 100 px of nucleus 1
    whole = PROTOCOLS["clean"].images(one(labels, mixed, labels, [1, 2]), 2).iloc[0]
    assert whole["bPQ"] == whole["PQ_1"] == whole["PQ_2"] == 1
    split = PROTOCOLS["pannuke"].images(one(labels, mixed, labels, [1, 2]), 2).iloc[0]
    assert (split["tp"], split["fn"]) == (2, 1)


def test_conic_by_hand():
    summary = PROTOCOLS["conic"].summary(four(), CLASSES, [])
    pooled = (2 / (2 + 3 / 2 + 2 / 2), (1 + IOU) / (2 + 2 / 2))
    assert [summary["PQ_round"], summary["PQ_long"]] == pytest.approx(pooled, abs=2e-6)
    assert summary["mPQ"] == summary["class_pooled/mPQ"] == pytest.approx(np.mean(pooled), abs=2e-6)
    # counts of round: true 2 2 0 0, predicted 2 1 2 0; of long: true 1 1 0 0, predicted 1 2 1 0
    assert (summary["R2_round"], summary["R2_long"]) == (1 - 5 / 4, 1 - 2 / 1)
    assert summary["R2"] == np.mean([1 - 5 / 4, 1 - 2 / 1])
    absent = PROTOCOLS["conic"].summary(four(), [*CLASSES, "nowhere"], [])
    assert absent["PQ_nowhere"] == 0 and absent["mPQ"] == pytest.approx(summary["mPQ"] * 2 / 3)
    assert absent["R2_nowhere"] == 1
    nothing = PROTOCOLS["conic"].summary(four(typed=[False] * 4), CLASSES, [])
    assert np.isnan([nothing["mPQ"], nothing["R2"], nothing["PQ_round"]]).all() and nothing["bPQ"] == summary["bPQ"]


def test_hovernet_by_hand():
    rows = PROTOCOLS["hovernet"].images(four(), 2)
    inner, total = 64 + 240, 64 + 64 + 256 + 240
    assert rows["dice2"].to_numpy() == pytest.approx([1, 2 * inner / total, np.nan, np.nan], nan_ok=True)
    summary = PROTOCOLS["hovernet"].summary(four(), CLASSES, ["Colon"])
    # true nucleus 2 and the invented one are too far apart; dummies: one pair near the corner, one of two empties
    assert summary["accuracy"] == (3 + 1 + 0 + 1) / 7 and summary["F1"] == 14 / (10 + 8)
    assert np.isnan([summary["mPQ"], summary["PQ_round"]]).all()
    assert summary["AJI"] == pytest.approx(np.nanmean(rows["AJI"])) and len(rows) == 4


def test_cellvta_conic_sees_pixels_where_cellvit_votes():
    labels = squares((2, 2, 10, 10), (20, 20, 10, 10))
    mixed = np.where(labels == 1, 1, 2)
    mixed[2:5, 2:12] = 2
    records = one(labels, [1, 2], labels, mixed)
    voted, pixels = (PROTOCOLS[n].images(records, 2).iloc[0] for n in ("cellvit", "cellvta_conic"))
    assert (voted["tp"], voted["fp"]) == (2, 0) and (pixels["tp"], pixels["fp"]) == (2, 1)
    # 8 px apart: a pair within 12 px, not within the 6 px that the other protocol takes at x20
    moved = one(labels, [1, 2], np.roll(labels, 8, axis=1), [1, 2], mpp=0.5)
    assert [PROTOCOLS[n].images(moved, 2)["n_paired"].item() for n in ("cellvit", "cellvta_conic")] == [0, 2]


def test_every_protocol_says_what_it_was_made_for():
    for name, protocol in PROTOCOLS.items():
        assert protocol.name == name and protocol.version >= 1 and protocol.made_for and protocol.__doc__


def test_aggregations_by_hand():
    records = four(tissue=["Colon", "Colon", "Liver", "Liver"])
    protocol = PROTOCOLS["clean"]
    images = protocol.images(records, 2)
    scores = Scores(images, 0.0, 0.0, ["Colon", "Liver", "Breast"])
    half = (1 + IOU) / 3
    expected = {
        "image_mean": ((1 + half + 0) / 3, (1 + IOU / 3 + 0) / 3),
        "tissue_mean": (((1 + half) / 2 + 0) / 2, ((1 + IOU / 3) / 2 + 0) / 2),
        "type_mean": (np.nan, ((1 + 0 + 0) / 3 + (1 + IOU / 1.5 + 0) / 3) / 2),
        "pooled": ((4 + IOU) / 7.5, (2 + 1 + IOU) / (4 + 5 / 2 + 2 / 2)),
        "class_pooled": (np.nan, (2 / 4.5 + (1 + IOU) / 3) / 2),
    }
    assert list(expected) == list(AGGREGATIONS)
    summary = protocol.summary(records, CLASSES, ["Colon", "Liver", "Breast"])
    for how, values in expected.items():
        assert [scores.over_images(c, how) for c in ("bPQ", "mPQ")] == pytest.approx(values, nan_ok=True), how
        assert [summary[f"{how}/{c}"] for c in ("bPQ", "mPQ")] == pytest.approx(values, nan_ok=True), how


def test_folds_averaged_and_pooled():
    first = Records.collect(
        [match(TRUE, [1, 1, 2], TRUE, [1, 1, 2], mpp=0.25)] * 2, [{"image": i, "tissue": "Colon"} for i in range(2)]
    )
    second = Records.collect(
        [match(TRUE, [1, 1, 2], HALF, [1, 1, 2], mpp=0.25), match(TRUE, [1, 1, 2], EMPTY, [], mpp=0.25)],
        [{"image": i, "tissue": t} for i, t in enumerate(("Colon", "Liver"))],
    )
    tissues, half = ["Colon", "Liver", "Breast"], (1 + IOU) / 3
    folds = [PROTOCOLS["clean"].summary(r, CLASSES, tissues) for r in (first, second)]
    averaged = over_folds(folds, tissues)
    assert averaged["bPQ"] == pytest.approx((1 + half / 2) / 2)
    # per tissue over the folds first (Colon: 1 and half; Liver: one fold), then over tissues
    assert averaged["tissue_mean/bPQ"] == pytest.approx(((1 + half) / 2 + 0) / 2)
    joined = Records.join([first, second])
    assert joined.images["image"].tolist() == [0, 1, 2, 3] and len(joined.nuclei) == len(first.nuclei) + len(
        second.nuclei
    )
    pooled = PROTOCOLS["clean"].summary(joined, CLASSES, tissues)
    assert pooled["bPQ"] == pytest.approx((1 + 1 + half + 0) / 4)
    assert pooled["tissue_mean/bPQ"] == pytest.approx(((1 + 1 + half) / 3 + 0) / 2)
    assert pooled["pooled/bPQ"] == pytest.approx((6 + 1 + IOU) / (8 + 1 / 2 + 4 / 2))
    with pytest.raises(ValueError, match="no records"):
        Records.join([])


def published(row: str, method: str = "cellvit") -> list[dict]:
    """Image and tissue means of the three splits on PanNuke, as the authors published them."""
    table = pd.read_csv(Path(report.__file__).parent / "tables" / "published.csv")
    table = table[(table["method"] == method) & (table["row"] == row) & (table["dataset"] == "pannuke")]
    table = table[table["average"] == "images"]
    return [dict(zip(t["metric"], t["value"])) for s, t in table.groupby("split") if s in ("1", "2", "3")]


def test_published_headlines_are_two_averagings():
    """0.506 is a mean over images, 0.498 one over tissues; like for like: 0.506 and 0.496, or 0.509 and 0.498."""
    found = {}
    for name, folds in (("CellVTA", published("paper", "cellvta")), ("CellViT", published("sam_h"))):
        assert len(folds) == 3
        tissues = sorted({k.split("/")[1] for fold in folds for k in fold if k.startswith("tissue/")})
        assert len(tissues) == 19
        joined = over_folds([fold | {"tissue_mean/mPQ": np.nan} for fold in folds], tissues)
        found[name] = round(joined["mPQ"], 3), round(joined["tissue_mean/mPQ"], 3)
    assert found == {"CellVTA": (0.506, 0.509), "CellViT": (0.496, 0.498)}


def test_table_of_all_protocols_and_averagings(tmp_path):
    four(tissue=["Breast", "Breast", "Colon_x", "Colon_x"]).save(tmp_path / "stored")
    perfect = one(TRUE, [1, 1, 2], TRUE, [1, 1, 2])  # of no tissue
    perfect.save(tmp_path / "perfect")
    for fold, seed, stored in ((1, 0, "stored"), (2, 0, "perfect"), (1, 1, "perfect")):
        make_run(tmp_path / "results", tmp_path / stored, fold=fold, seed=seed)
    text = write_tables(tmp_path / "results", tmp_path / "out", protocol="all")
    assert "bPQ, folds averaged" in text and "mPQ, folds pooled" in text
    rows = read_csv(tmp_path / "out" / MAIN / "averagings.csv")
    value = {(r["protocol"], r["metric"], r["folds"], r["averaging"]): r["value"] for r in rows}
    assert {p for p, *_ in value} == set(PROTOCOLS)
    half = (1 + IOU) / 3

    def shown(*key):
        return float(value[key])

    # folds within each seed, then seeds; pooled where a seed has several folds
    for protocol, own, n in (("clean", (1 + half + 0) / 3, 3), ("cellvit", (1 + half) / 2, 2)):
        assert shown(protocol, "bPQ", "averaged", "image_mean") == pytest.approx(((own + 1) / 2 + 1) / 2, abs=2e-6)
        assert shown(protocol, "bPQ", "pooled", "image_mean") == pytest.approx((own * n + 1) / (n + 1), abs=2e-6)
    for join in ("averaged", "pooled"):  # the second seed has no tissue and no say
        assert shown("clean", "bPQ", join, "tissue_mean") == pytest.approx(((1 + half) / 2 + 0) / 2)
    own = (2 / 4.5 + (1 + IOU) / 3) / 2
    assert shown("clean", "mPQ", "averaged", "class_pooled") == pytest.approx(((own + 1) / 2 + 1) / 2)
    assert value["hovernet", "mPQ", "pooled", "image_mean"] == ""
    # one protocol: no such table
    write_tables(tmp_path / "results", tmp_path / "one")
    assert not (tmp_path / "one" / MAIN / "averagings.csv").exists()
