"""Records on disk, and what is computed from them: untyped images, tissues, sizes, types, confusion."""

import numpy as np
import pandas as pd
import pytest

from benchmark.metrics.match import match
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.metrics.records import Records
from benchmark.metrics.sizes import by_size, by_type, confusion
from tests.support.label_maps import CLASSES, EMPTY, HALF, TRUE, four, squares

PROTOCOL = pytest.mark.parametrize("name", PROTOCOLS)
FREE = pytest.mark.parametrize("name", ["pannuke", "cellvit", "cellvta_conic"])  # false positives without a truth: free


def test_survives_the_disk(tmp_path):
    records = four(typed=[True, False, True, True])
    records.save(tmp_path / "run")
    again = Records.load(tmp_path / "run")
    for table in ("images", "overlaps", "nuclei"):
        pd.testing.assert_frame_equal(getattr(records, table), getattr(again, table))
    for name, protocol in PROTOCOLS.items():
        one, other = (protocol.summary(r, CLASSES, ["Colon"]) for r in (records, again))
        assert one.keys() == other.keys(), name
        np.testing.assert_array_equal(list(one.values()), list(other.values()))
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == [
        "images.parquet",
        "nuclei.parquet",
        "overlaps.parquet",
    ]


def test_half_written_tables_have_names_of_their_own(tmp_path, monkeypatch):
    """Two machines that share a file system may have processes of the same number."""
    written, write = [], pd.DataFrame.to_parquet
    monkeypatch.setattr(
        pd.DataFrame, "to_parquet", lambda self, path, **k: written.append(path) or write(self, path, **k)
    )
    for _ in range(2):
        four().save(tmp_path)
    assert len({path.name for path in written}) == 6
    assert all(path.match(".*.parquet.*.tmp") for path in written), "what `runtime.files.sweep` removes"


def test_columns_are_those_promised():
    records = four()
    assert list(records.overlaps) == ["image", "true_id", "true_type", "pred_id", "pred_type", "pixels"]
    expected = ["image", "side", "id", "type", "area", "d_um", "x", "y", "border", "match", "iou", "points"]
    expected += ["touching", "neighbour_um", "solidity", "eccentricity"]
    assert list(records.nuclei) == expected
    assert records.images["image"].tolist() == [0, 3, 6, 9]
    assert records.images["n_true"].tolist() == [3, 3, 0, 0] and records.images["n_pred"].tolist() == [
        3,
        3,
        3,
        0,
    ]
    assert records.overlaps.groupby("image")["pixels"].sum().tolist() == [1600] * 4
    assert records.overlaps["true_id"].dtype == np.int32


def test_types_of_the_columns():
    records = four()
    words = pd.Series(["a"]).dtype  # object, or str in later versions of pandas
    integers = dict.fromkeys(("height", "width", "n_true", "n_pred", "image"), "int32")
    pixels = dict.fromkeys(("true_pixels", "pred_pixels", "both_pixels"), "int64")
    expected = {
        "images": integers | pixels | {"image_id": words, "tissue": words, "source": words, "typed": "bool"},
        "overlaps": {"image": "int32", "true_id": "int32", "true_type": "uint8", "pred_type": "uint8"},
        "nuclei": {"image": "int32", "id": "int32", "type": "uint8", "area": "int32", "x": "float64", "border": "bool"},
    }
    expected["images"] |= {"mpp": "float64", "pred_typed": "bool"}
    expected["overlaps"] |= {"pred_id": "int32", "pixels": "int32"}
    expected["nuclei"] |= {"side": pd.CategoricalDtype(["true", "pred"]), "y": "float64", "match": "int32"}
    expected["nuclei"] |= dict.fromkeys(("d_um", "neighbour_um", "solidity", "eccentricity"), "float32")
    expected["nuclei"] |= {"iou": "float64", "points": "bool", "touching": "bool"}
    for name, types in expected.items():
        frame = getattr(records, name)
        assert frame is getattr(records, name) and set(frame) == set(types)
        assert {column: frame[column].dtype for column in frame} == types


@PROTOCOL
def test_columns_and_frames_make_the_same_records(name):
    records = four(typed=[True, False, True, True])
    summary = PROTOCOLS[name].summary(records, CLASSES, ["Colon"])
    framed = Records(records.images, records.overlaps, records.nuclei.astype({"side": object}))
    assert PROTOCOLS[name].summary(framed, CLASSES, ["Colon"]) == pytest.approx(summary, abs=0, rel=0, nan_ok=True)
    pd.testing.assert_frame_equal(PROTOCOLS[name].images(framed, 2), PROTOCOLS[name].images(records, 2))


def test_large_ids_keep_their_value(tmp_path):
    labels = np.where(TRUE > 0, TRUE.astype(np.int64) + 2**40, 0)
    Records.collect([match(labels, None, HALF, None, mpp=1)], [{"image": 0}]).save(tmp_path)
    nuclei = Records.load(tmp_path).nuclei
    assert nuclei["id"].tolist() == [2**40 + 1, 2**40 + 2, 2**40 + 3, 1, 2, 3]


def test_failed_save_leaves_nothing_half_written(tmp_path, monkeypatch):
    records = four()

    def break_off(self, path, **_):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", break_off)
    with pytest.raises(OSError, match="disk full"):
        records.save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_load_names_the_missing_table(tmp_path):
    four().save(tmp_path)
    (tmp_path / "nuclei.parquet").unlink()
    with pytest.raises(ValueError, match=r"holds no nuclei\.parquet"):
        Records.load(tmp_path)


def test_collect_refuses_bad_meta():
    one = match(EMPTY, [], EMPTY, [], mpp=1)
    with pytest.raises(ValueError, match="2 matches and 1 rows of meta"):
        Records.collect([one, one], [{"image": 0}])
    with pytest.raises(ValueError, match="expected them ascending"):
        Records.collect([one, one], [{"image": 1}, {"image": 1}])


@PROTOCOL
def test_no_image_at_all(name):
    records = Records.collect([], [])
    assert len(PROTOCOLS[name].images(records, 2)) == 0
    summary = PROTOCOLS[name].summary(records, CLASSES, ["Colon"])
    assert all(np.isnan(v) for v in summary.values())
    assert by_size(records)["n_true"].tolist() == [0, 0, 0, 0]


@PROTOCOL
def test_a_set_scores_each_image_as_alone(name):
    together = PROTOCOLS[name].images(four(), 2)
    maps = [
        (TRUE, [1, 1, 2], TRUE, [1, 1, 2]),
        (TRUE, [1, 1, 2], HALF, [2, 1, 2]),
        (EMPTY, [], HALF, [1, 1, 2]),
    ]
    for i, m in enumerate(maps):
        alone = PROTOCOLS[name].images(Records.collect([match(*m, mpp=0.25)], [{"image": 0}]), 2)
        columns = alone.select_dtypes("number").columns.drop("image")
        np.testing.assert_allclose(together[columns].iloc[i], alone[columns].iloc[0], rtol=0, atol=1e-12)


@FREE
def test_values_by_hand(name):
    rows = PROTOCOLS[name].images(four(), 2)
    iou = 240 / 256
    tp, fp, fn = 2, 1, 1
    assert rows["bDQ"].to_numpy()[:2] == pytest.approx([1, tp / (tp + fp / 2 + fn / 2)], abs=2e-6)
    assert rows["bSQ"].to_numpy()[:2] == pytest.approx([1, (1 + iou) / 2], abs=2e-6)
    # type 1: nucleus 1 was called type 2, the invented one type 1; type 2: one hit, one false
    assert rows["PQ_1"].iloc[1] == 0 and rows["PQ_2"].iloc[1] == pytest.approx(iou / 1.5, abs=2e-6)
    assert rows["mPQ"].iloc[1] == pytest.approx(iou / 3, abs=2e-6)
    # an empty truth is left out, so false positives there are free
    assert rows[["bPQ", "mPQ"]].iloc[2:].isna().all().all()
    assert rows["AJI"].iloc[2] == 0 and np.isnan(rows["AJI"].iloc[3])


def test_dice_of_empty_images():
    assert PROTOCOLS["cellvit"].images(four(), 2)["Dice"].tolist()[2:] == [0, 0]
    pannuke = PROTOCOLS["pannuke"].images(four(), 2)["Dice"].tolist()
    assert pannuke[2] == 0 and np.isnan(pannuke[3])


def test_detection_by_hand():
    summary = PROTOCOLS["cellvit"].summary(four(), CLASSES, [])
    # pairs: 3; then 2 (the third is too far apart); the dummy of the empty truth with the nucleus near the
    # corner; the dummies of two empty sides
    assert summary["precision"] == (3 + 2 + 1 + 1) / (3 + 3 + 3 + 1)
    assert summary["recall"] == (3 + 2 + 1 + 1) / (3 + 3 + 1 + 1)
    apart = PROTOCOLS["cellvit"].summary(four(), CLASSES, ["Colon", "Liver", "Breast"])
    assert apart["tissue/Colon/F1"] == 5 / 6 and apart["tissue/Liver/F1"] == 2 / 4
    assert np.isnan(apart["tissue/Breast/F1"])
    # long: 2 hits, one round nucleus called long (counts twice), one unpaired in the third image
    assert summary["precision_long"] == 2 / (2 + 2 * 1 + 1) and summary["recall_long"] == 1


@FREE
def test_tissues(name):
    summary = PROTOCOLS[name].summary(four(), CLASSES, ["Liver", "Colon", "Breast"])
    rows = PROTOCOLS[name].images(four(), 2)
    assert summary["tissue/Colon/bPQ"] == rows["bPQ"].iloc[:2].mean()
    assert np.isnan(summary["tissue/Liver/bPQ"]) and np.isnan(summary["tissue/Breast/mPQ"])
    key = "bPQ" if name == "pannuke" else "tissue_mean/bPQ"
    assert summary[key] == summary["tissue/Colon/bPQ"]
    other = PROTOCOLS[name].summary(four(tissue=["Colon", "Brain", "Liver", "Brain"]), CLASSES, ["Colon"])
    assert other["tissue/Brain/bPQ"] == rows["bPQ"].iloc[1] and other[key] == rows["bPQ"].iloc[0]


@FREE
def test_untyped_truth_counts_for_binary_scores_only(name):
    plain, partly = four(), four(typed=[True, False, True, True])
    rows, before = PROTOCOLS[name].images(partly, 2), PROTOCOLS[name].images(plain, 2)
    np.testing.assert_array_equal(rows["bPQ"], before["bPQ"])
    assert np.isnan(rows.loc[1, ["mPQ", "PQ_1", "PQ_2"]].to_numpy(float)).all()
    summary = PROTOCOLS[name].summary(partly, CLASSES, ["Colon"])
    assert summary["mPQ"] == rows["mPQ"].iloc[0]
    none = PROTOCOLS[name].summary(four(typed=[False] * 4), CLASSES, ["Colon"])
    assert np.isnan([v for k, v in none.items() if "mPQ" in k or k.startswith(("PQ_", "F1_"))]).all()
    assert none["bPQ"] == PROTOCOLS[name].summary(plain, CLASSES, ["Colon"])["bPQ"]


def untyped_truth(true_types):
    m = match(TRUE, true_types, HALF, [2, 1, 2], mpp=0.25)
    return Records.collect([m], [{"image": 0, "typed": False}])


@PROTOCOL
def test_placeholder_types_do_not_split_or_drop_nuclei(name):
    placeholder = np.where(np.arange(40) < 6, 1, 0)[None, :] * np.ones((40, 1), int)  # cuts nuclei in two
    expected = PROTOCOLS[name].images(untyped_truth([1, 1, 1]), 2)["bPQ"].iloc[0]
    assert expected > 0.5
    for types in (placeholder, None):
        assert PROTOCOLS[name].images(untyped_truth(types), 2)["bPQ"].iloc[0] == expected


@PROTOCOL
@pytest.mark.parametrize("said", [False, None])
def test_predictor_without_types(name, said):
    m = match(TRUE, [1, 1, 2], HALF, None, mpp=0.25)
    meta = {"image": 0} if said is None else {"image": 0, "pred_typed": said}
    records = Records.collect([m], [meta])
    assert not records.images["pred_typed"].any()
    summary = PROTOCOLS[name].summary(records, CLASSES, [])
    rows = PROTOCOLS[name].images(records, 2)
    assert rows["bPQ"].iloc[0] == PROTOCOLS[name].images(four(), 2)["bPQ"].iloc[1]
    assert np.isnan([rows["mPQ"].iloc[0], summary["mPQ"], summary["PQ_round"]]).all()


@PROTOCOL
def test_data_without_classes(name):
    summary = PROTOCOLS[name].summary(four(), [], ["Colon"])
    assert summary["tissue/Colon/bPQ"] == PROTOCOLS[name].summary(four(), CLASSES, ["Colon"])["tissue/Colon/bPQ"]
    assert np.isnan(summary["mPQ"])


@FREE
def test_typed_predictor_loses_its_untyped_nuclei(name):
    m = match(TRUE, [1, 1, 2], TRUE, [0, 0, 2], mpp=0.25)
    row = PROTOCOLS[name].images(Records.collect([m], [{"image": 0}]), 2).iloc[0]
    assert row["bPQ"] == pytest.approx(1 / 2, abs=2e-6)  # one of three found


def test_by_size():
    records = four()
    # 8 x 8 px = 2.26 um, 16 x 16 px = 4.51 um, 16 x 15 px = 4.37 um, 4 x 4 px = 1.13 um
    table = by_size(records, edges=(2, 4)).set_index("bin")
    assert table.index.tolist() == ["<2", "2-4", ">=4"]
    assert table["tp"].tolist() == [0, 3, 2] and table["fn"].tolist() == [0, 1, 0]
    assert table["fp"].tolist() == [2, 1, 1]  # image 1: 4 x 4; image 2: 8 x 8, 4 x 4 and 16 x 15
    assert table["n_true"].tolist() == [0, 4, 2] and table["recall"].iloc[1] == 3 / 4
    assert table.loc[">=4", "iou_sum"] == 1 + 240 / 256
    assert table.loc["2-4", "DQ"] == 3 / (3 + 0.5 + 0.5) and table.loc["2-4", "PQ"] == 3 / 4
    assert np.isnan(table.loc["<2", "recall"]) and table.loc["<2", "DQ"] == 0
    assert table.loc["<2", "PQ"] == 0 and np.isnan(table.loc["<2", "SQ"])  # false positives only
    assert np.isnan(by_size(records)["PQ"].iloc[3])  # nothing there at all
    assert by_size(records)["tp"].tolist() == [3, 2, 0, 0] and by_size(records)["bin"].iloc[0] == "<4"
    with pytest.raises(ValueError, match="expected ascending"):
        by_size(records, edges=(9, 6))


def test_by_size_without_border():
    true, pred = squares((0, 0, 8, 8), (20, 20, 8, 8)), squares((0, 0, 8, 8), (32, 5, 8, 8))
    records = Records.collect([match(true, None, pred, None, mpp=0.25)], [{"image": 0}])
    assert by_size(records)[["tp", "fp", "fn"]].iloc[0].tolist() == [1, 1, 1]
    assert by_size(records, border=False)[["tp", "fp", "fn"]].iloc[0].tolist() == [0, 0, 1]


def test_by_type_and_confusion():
    records = four(typed=[True, True, False, True])
    table = by_type(records, CLASSES).set_index("type")
    assert table["tp"].tolist() == [3, 2] and table["fn"].tolist() == [1, 0] and table["fp"].tolist() == [1, 0]
    counts = confusion(records, CLASSES)
    assert counts.loc["round", "round"] == 2 and counts.loc["round", "long"] == 1 and counts.loc["long", "long"] == 2
    assert counts.loc["round", "none"] == 1 and counts.loc["none", "round"] == 1
    assert counts.to_numpy().sum() == 7
