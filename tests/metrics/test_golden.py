"""The protocols equal the official results on every stored case, per image and per set."""

import json
from functools import cache

import numpy as np
import pytest

from benchmark.metrics.aggregate import over_folds
from benchmark.metrics.channels import pannuke_channels
from benchmark.metrics.match import match
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.metrics.records import Records
from tests.support.shared import GOLDEN, shared

EXACT, FLOAT32 = 1e-9, 1e-6  # the official Dice and Jaccard are float32
CLASSES = ["Neoplastic", "Inflammatory", "Connective", "Dead", "Epithelial"]
PRINTED = ["Neoplastic", "Inflammatory", "Connective", "Dead", "Non-Neoplastic"]
TISSUES = (
    "Adrenal_gland Bile-duct Bladder Breast Cervix Colon Esophagus HeadNeck Kidney Liver Lung Ovarian "
    "Pancreatic Prostate Skin Stomach Testis Thyroid Uterus"
).split()
EXTRACT = json.loads((GOLDEN / "metrics_cases.json").read_text())


@cache
def maps(case: str):
    """The four maps of a case in the committed extract, or None. A stored value is id * 8 + type."""
    with np.load(GOLDEN / "metrics_cases.npz", allow_pickle=False) as stored:
        if f"{case}/gt" not in stored:
            return None
        return tuple(
            m for side in ("gt", "pred") for m in (stored[f"{case}/{side}"] // 8, stored[f"{case}/{side}"] % 8)
        )


def shared_maps(case: str):
    with np.load(shared(f"golden/metrics/cases/{case}.npz"), allow_pickle=False) as stored:
        return tuple(stored[k] for k in ("gt_inst", "gt_type", "pred_inst", "pred_type"))


@cache
def matched(case: str):
    return match(*(maps(case) or shared_maps(case)), mpp=0.25)


def collect(cases, tissues=None) -> Records:
    tissues = tissues or [""] * len(cases)
    meta = [
        {"image": i, "image_id": c, "tissue": t, "pred_typed": True} for i, (c, t) in enumerate(zip(cases, tissues))
    ]
    return Records.collect([matched(c) for c in cases], meta)


def same(ours, official, tolerance=EXACT):
    np.testing.assert_allclose(np.array(ours, float), np.array(official, float), rtol=0, atol=tolerance)


def failed(value) -> bool:
    return isinstance(value, dict) and "error" in value


def official_of(stored: dict, key: str):
    """The official result, that beside a helper image where a single image fails, or None where both fail."""
    found = [stored.get(k) for k in (key, f"{key}_with_helper_image")]
    return next((v for v in found if v is not None and not failed(v)), None)


def check_pannuke(records, official):
    # The official code knows five channels, whatever the data.
    ours = PROTOCOLS["pannuke"].images(records, 5).iloc[0]
    if not failed(official["binary_dq_sq_pq"]):
        same(ours[["bDQ", "bSQ", "bPQ"]], official["binary_dq_sq_pq"])
    if not failed(official["per_class_dq_sq_pq"]):
        same([ours[[f"DQ_{k}", f"SQ_{k}", f"PQ_{k}"]] for k in range(1, 6)], official["per_class_dq_sq_pq"])
        same(ours["mPQ"], official["mPQ_image"])


def check_cellvit(name, records, official, n_classes):
    protocol = PROTOCOLS[name]
    ours = protocol.images(records, n_classes).iloc[0]
    same(ours[["Dice", "Jaccard"]], [official["Dice"], official["Jaccard"]], FLOAT32)
    same(ours[["bDQ", "bSQ", "bPQ"]], [official["bDQ"], official["bSQ"], official["bPQ"]])
    same(ours["mPQ"], official["mPQ_image"])
    for score in ("DQ", "SQ", "PQ"):
        same([ours[f"{score}_{k}"] for k in range(n_classes + 1)], official[f"class_{score.lower()}"])
    same(ours[["n_true", "n_pred", "n_paired"]], [official[k] for k in ("n_true", "n_pred", "n_paired")])
    if "paired" not in official:
        return
    true, pred, rows, cols = protocol.pairs(records)
    assert true.type.tolist() == official["true_types"] and pred.type.tolist() == official["pred_types"]
    assert sorted(zip(rows.tolist(), cols.tolist())) == sorted(map(tuple, official["paired"]))
    names = [str(k) for k in range(1, n_classes + 1)]
    check_detection(protocol.summary(records, names, []), official, names)


def check_detection(summary, official, names):
    scores = ("F1", "precision", "recall")
    same([summary[s] for s in scores], official["detection_f1_prec_rec"])
    same([[summary[f"{s}_{n}"] for s in scores] for n in names], official["type_f1_prec_rec"])


def check_conic(records, official):
    ours = PROTOCOLS["conic"].images(records, 6).iloc[0]
    if not failed(official["pq"]):
        same(ours[["bDQ", "bSQ", "bPQ"]], official["pq"]["dq_sq_pq"])
        same(ours[["tp", "fp", "fn", "iou"]], [*official["pq"]["tp_fp_fn"], official["pq"]["iou_sum"]])
    if not failed(official["multi_tp_fp_fn_iousum"]):
        counts = [ours[[f"{c}_{k}" for c in ("tp", "fp", "fn", "iou")]] for k in range(1, 7)]
        same(counts, official["multi_tp_fp_fn_iousum"])


def check_hovernet(records, official, types):
    ours = PROTOCOLS["hovernet"].images(records, 6).iloc[0]
    for name, theirs in (("Dice", "dice"), ("AJI", "aji"), ("AJI+", "aji_plus"), ("dice2", "dice2")):
        if not failed(official[theirs]):
            same(ours[name], official[theirs])
    if not failed(official["dq_sq_pq"]):
        same(ours[["bDQ", "bSQ", "bPQ"]], official["dq_sq_pq"])
    check_hovernet_types(records, types["type_f1d_acc_f1c_types1toN"])


def check_hovernet_types(records, official):
    if not failed(official):
        names = [str(k) for k in range(1, len(official) - 1)]
        summary = PROTOCOLS["hovernet"].summary(records, names, [])
        same([summary["F1"], summary["accuracy"], *(summary[f"F1_{k}"] for k in names)], official)


def check_image(case: str, official: dict):
    records = collect([case])
    check_pannuke(records, official["pannuke"])
    for name, key in (("cellvit", "cellvit40"), ("cellvta_conic", "cellvta_maskbased")):
        if (found := official_of(official, key)) is not None:
            check_cellvit(name, records, found, official["num_classes_incl_bg"] - 1)
    check_conic(records, official["conic"])
    check_hovernet(records, official["hovernet"], official["hovernet_type"])


@pytest.mark.parametrize("case", EXTRACT["images"])
def test_image(case):
    check_image(case, EXTRACT["images"][case])


def test_every_image():
    everything = json.loads(shared("golden/metrics/per_image.json").read_text())
    assert len(everything) == 65
    for case, official in everything.items():
        if case != "pannuke_overlapping_channels":
            check_image(case, official)
            if not failed(official["cellvit20_detection_only"]):
                check_magnification_20(case, official)


def check_magnification_20(case, official):
    records = Records.collect([match(*shared_maps(case), mpp=0.5)], [{"image": 0, "pred_typed": True}])
    names = [str(k) for k in range(1, official["num_classes_incl_bg"])]
    summary = PROTOCOLS["cellvit"].summary(records, names, [])
    check_detection(summary, official["cellvit20_detection_only"], names)


def test_pannuke_set():
    stored = EXTRACT["datasets"]["sweep_plus_nasty"]
    summary = PROTOCOLS["pannuke"].summary(collect(stored["names"], stored["tissue"]), CLASSES, TISSUES)
    printed = stored["pannuke"]
    same([summary["mPQ"], summary["bPQ"]], [printed["Average mPQ"], printed["Average bPQ"]])
    same([summary[f"PQ_{c}"] for c in CLASSES], [printed[f"{c} PQ"] for c in PRINTED])
    for tissue in TISSUES:
        same(
            [summary[f"tissue/{tissue}/mPQ"], summary[f"tissue/{tissue}/bPQ"]],
            [printed[f"{tissue} PQ"], printed[f"{tissue} PQ binary"]],
        )


def check_cellvit_set(names, tissues, official, protocol="cellvit", classes=CLASSES):
    summary = PROTOCOLS[protocol].summary(collect(names, tissues), classes, TISSUES)
    whole = official["dataset"]
    dice = [whole["Binary-Cell-Dice-Mean"], whole["Binary-Cell-Jacard-Mean"]]
    same([summary["Dice"], summary["Jaccard"]], dice, FLOAT32)
    for key in ("bPQ", "bDQ", "bSQ", "mPQ", "mDQ", "mSQ"):
        same(summary[key], whole[key])
    same([summary["image_mean/bPQ"], summary["image_mean/mPQ"]], [whole["bPQ"], whole["mPQ"]])
    for ours, theirs in (("F1", "f1"), ("precision", "precision"), ("recall", "recall")):
        same(summary[ours], whole[f"{theirs}_detection"])
    for tissue in TISSUES:
        row = official["tissue_metrics"].get(tissue.lower())
        if row is None:
            assert tissue not in tissues
            continue
        same([summary[f"tissue/{tissue}/{k}"] for k in ("mPQ", "bPQ")], [row["mPQ"], row["bPQ"]])
        ours = [summary[f"tissue/{tissue}/{k}"] for k in ("Dice", "Jaccard")]
        same(ours, [row["Dice"], row["Jaccard"]], FLOAT32)
    for k, name in enumerate(classes, start=1):
        same(summary[f"PQ_{name}"], official["nuclei_metrics_pq"][f"class{k}"])
        row = official["nuclei_metrics_d"][f"class{k}"]
        ours = [summary[f"{s}_{name}"] for s in ("F1", "precision", "recall")]
        same(ours, [row["f1_cell"], row["prec_cell"], row["rec_cell"]])
    return summary


def check_conic_set(names, tissues, official):
    protocol, records = PROTOCOLS["conic"], collect(names, tissues)
    summary = protocol.summary(records, list("123456"), TISSUES)
    same([summary["bPQ"], summary["mPQ"], summary["R2"]], [official[k] for k in ("pq", "multi_pq+", "multi_r2")])
    same([summary[f"PQ_{k}"] for k in range(1, 7)], official["class_pq+"])
    images = protocol.images(records, 6)
    for k, total in enumerate(official["class_total_tp_fp_fn_iou"], start=1):
        same(images[[f"{c}_{k}" for c in ("tp", "fp", "fn", "iou")]].sum(), total)
    for side in ("true", "pred"):
        same(images[[f"{side}_{k}" for k in range(1, 7)]], official[f"{side}_counts"])


def check_hovernet_set(names, tissues, official):
    records = collect(names, tissues)
    images = PROTOCOLS["hovernet"].images(records, 6)
    columns = ["Dice", "AJI", "bDQ", "bSQ", "bPQ", "AJI+"]
    rows = official["inst_per_image_dice_aji_dq_sq_pq_ajiplus"]
    same(images[columns].to_numpy()[: len(rows)], rows)
    assert images[columns].iloc[len(rows) :].isna().all().all(), "the official evaluation left these out"
    summary = PROTOCOLS["hovernet"].summary(records, list("123456"), TISSUES)
    same([summary[c] for c in columns], official["inst_mean"])
    scored = collect([c for c in names if c != "empty_both"])
    check_hovernet_types(scored, official["type_f1d_acc_f1c_types1toN"])


def test_cellvit_set():
    stored = EXTRACT["datasets"]["sweep_plus_nasty"]
    check_cellvit_set(stored["names"], stored["tissue"], stored["cellvit40"])


def test_cellvit_folds_and_their_averaging():
    stored = EXTRACT["datasets"]["three_folds"]
    folds = zip(stored["names"], stored["tissue"], stored["cellvit40_json"])
    summaries = [check_cellvit_set(*fold) for fold in folds]
    if "mean_over_folds_dataset_mPQ_bPQ" in stored:
        joined = over_folds(summaries, TISSUES)
        same([joined["mPQ"], joined["bPQ"]], stored["mean_over_folds_dataset_mPQ_bPQ"])
        printed = stored["paper_table_mean_over_tissues_of_mean_over_folds_mPQ_bPQ"]
        same([joined["tissue_mean/mPQ"], joined["tissue_mean/bPQ"]], printed)


def test_conic_sets():
    stored = EXTRACT["datasets"]["conic6"]
    names, tissues = stored["names"], stored["tissue"]
    check_conic_set(names, tissues, stored["conic"])
    check_hovernet_set(names, tissues, stored["hovernet"])
    check_cellvit_set(names, tissues, stored["cellvta_maskbased"], "cellvta_conic", list("123456"))


def test_remaining_sets():
    everything = json.loads(shared("golden/metrics/datasets.json").read_text())
    stored = everything["sweep_only"]
    names, tissues = stored["names"], stored["tissue"]
    check_cellvit_set(names, tissues, stored["cellvit40"])
    summary = PROTOCOLS["pannuke"].summary(collect(names, tissues), CLASSES, TISSUES)
    printed = stored["pannuke"]["printed"]
    same([summary["mPQ"], summary["bPQ"]], [printed["Average mPQ"], printed["Average bPQ"]])
    check_conic_set(names, tissues, stored["conic"])
    check_hovernet_set(names, tissues, stored["hovernet"])
    stored = everything["sweep_plus_nasty"]
    check_conic_set(stored["names"], stored["tissue"], stored["conic"])
    records = collect(stored["names"], stored["tissue"])
    check_hovernet_types(records, stored["hovernet_type_only"]["type_f1d_acc_f1c_types1toN"])


def test_class_channels_that_overlap():
    path = shared("golden/metrics/cases/pannuke_overlapping_channels.npz")
    official = json.loads(shared("golden/metrics/per_image.json").read_text())[path.stem]["pannuke"]
    with np.load(path, allow_pickle=False) as stored:
        ours = pannuke_channels(stored["gt_ch"][..., :5], stored["pred_ch"][..., :5])
    same([ours["bDQ"], ours["bSQ"], ours["bPQ"]], official["binary_dq_sq_pq"])
    same([[ours[f"{s}_{k}"] for s in ("DQ", "SQ", "PQ")] for k in range(1, 6)], official["per_class_dq_sq_pq"])
    same(ours["mPQ"], official["mPQ_image"])
