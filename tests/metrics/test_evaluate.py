"""One call from label maps to scores, its bad input, and the example in the documentation."""

import re

import numpy as np
import pandas as pd
import pytest

from benchmark.data.nuclei import Nuclei
from benchmark.metrics import PROTOCOLS, evaluate
from benchmark.runtime.paths import ROOT
from tests.support.label_maps import EMPTY, HALF, TRUE

PAIRS = [
    ((TRUE, [1, 1, 2]), (TRUE, [1, 1, 2])),
    ((TRUE, [1, 1, 2]), (HALF, [2, 1, 2])),
    ((EMPTY, []), (HALF, [1, 1, 2])),
]
IOU = 240 / 256


def call(pairs=PAIRS, **options):
    return evaluate([t for t, _ in pairs], [p for _, p in pairs], **{"mpp": 0.25, **options})


def test_images_and_summary():
    found = call(
        protocol="clean", classes=["round", "long"], names=["a", "b", "c"], tissues=["Colon", "Colon", "Liver"]
    )
    assert found.images["image"].tolist() == ["a", "b", "c"] and found.images["protocol"].tolist() == ["clean"] * 3
    assert found.images["bPQ"].tolist() == pytest.approx([1, (1 + IOU) / 3, 0])
    assert found.images["PQ_long"].tolist() == pytest.approx([1, IOU / 1.5, 0]) and "PQ_1" not in found.images
    assert found.summary["bPQ"] == pytest.approx(found.images["bPQ"].mean())
    assert found.summary["tissue/Liver/bPQ"] == 0 and len(found.records.images) == 3


def test_scores_need_no_data_frame(monkeypatch):
    """Building them takes longer than to score an image: they are made when they are asked for."""

    def refuse(*_, **__):
        raise AssertionError("a DataFrame was built")

    for protocol in PROTOCOLS:
        with monkeypatch.context() as patch:
            patch.setattr(pd.DataFrame, "__init__", refuse)
            found = call(protocol=protocol)
            assert found.summary["image_mean/bPQ"] > 0
        assert found.images is found.images and len(found.images) == len(found.records.images) == 3


def test_rows_of_the_stored_table():
    """As `images`, but each row has the columns of its protocol alone, and type 0 has a name."""
    found = call(protocol="all", classes=["round", "long"], names=["a", "b", "c"])
    rows = found.rows()
    assert [(row["protocol"], row["image"]) for row in rows] == list(
        zip(found.images["protocol"], found.images["image"])
    )
    by_name = {row["protocol"]: row for row in rows}
    assert "PQ_untyped" in by_name["cellvit"] and "PQ_0" in found.images and "PQ_untyped" not in found.images
    assert "AJI+" in by_name["hovernet"] and "AJI+" not in by_name["clean"] and "n_paired" not in by_name["pannuke"]
    assert list(rows[0])[:8] == ["protocol", "image", "tissue", "bPQ", "bDQ", "bSQ", "mPQ", "PQ_round"]
    assert found.summaries == found.summary and list(call(protocol="clean").summaries) == ["clean"]


def test_all_protocols_at_once():
    found = call(protocol="all")
    assert list(found.summary) == list(PROTOCOLS) and len(found.images) == 3 * len(PROTOCOLS)
    alone = call(protocol="conic")
    assert found.summary["conic"] == pytest.approx(alone.summary, abs=0, rel=0, nan_ok=True)
    assert found.images.query("protocol == 'conic'")["bPQ"].tolist() == alone.images["bPQ"].tolist()
    assert {"PQ_1", "PQ_2", "tp_2"} <= set(alone.images) and "PQ_3" not in alone.images


def test_nuclei_maps_and_per_instance_types_agree():
    maps = [((t, _paint(t, k)), (p, _paint(p, j))) for (t, k), (p, j) in PAIRS]
    nuclei = [
        tuple(Nuclei.from_labels(m, np.array(k, np.uint8), 0.25, image_id=f"n{i}", tissue="Colon") for m, k in pair)
        for i, pair in enumerate(PAIRS)
    ]
    plain = call()
    assert call(maps).summary == pytest.approx(plain.summary, nan_ok=True)
    own = evaluate([t for t, _ in nuclei], [p for _, p in nuclei])
    assert own.images["image"].tolist() == ["n0", "n1", "n2"] and own.summary["bPQ"] == plain.summary["bPQ"]
    assert own.summary["tissue/Colon/mPQ"] == plain.summary["mPQ"]


def test_without_types():
    found = evaluate([TRUE, TRUE], [TRUE, HALF], "clean", mpp=0.25)
    assert found.summary["bPQ"] == pytest.approx((1 + (1 + IOU) / 3) / 2) and np.isnan(found.summary["mPQ"])
    placeholder = Nuclei.from_labels(TRUE, np.array([1, 1, 1], np.uint8), 0.25, typed=False)
    assert np.isnan(evaluate([placeholder], [(TRUE, [1, 1, 2])]).summary["mPQ"])


def _paint(labels, types):
    return np.concatenate([[0], types]).astype(np.uint8)[labels] if len(types) else np.zeros_like(labels)


OUTSIDE = np.ones_like(TRUE)
BAD = {
    "protocol": (dict(protocol="pq"), "unknown protocol 'pq'; known are pannuke, cellvit"),
    "lengths": (dict(pairs=[]), "0 true and 0 predicted images"),
    "names": (dict(names=["a", "a", "b"]), "the name 'a' occurs twice"),
    "few names": (dict(names=["a"]), "1 values of image_id for 3 images"),
    "no mpp": (dict(mpp=None), "image 0: mpp is missing, expected micrometres per pixel"),
    "few mpp": (dict(mpp=[0.25]), "1 values of mpp for 3 images"),
    "zero mpp": (dict(mpp=0), "image 0: mpp is 0, expected a positive number"),
    "shape": (dict(pairs=[(TRUE, HALF[:5])], names=["x"]), r"image 0 \('x'\): pred_instances has shape \(5, 40\)"),
    "negative": (dict(pairs=[(TRUE - 1, HALF)]), "true_instances holds the id -1"),
    "huge": (
        dict(pairs=[(TRUE, HALF.astype(np.uint64) << 63)]),
        r"pred_instances holds the id \d+, expected ids below",
    ),
    "fraction": (dict(pairs=[(TRUE, HALF * 0.5)]), "pred_instances is float64 and holds values that are no whole"),
    "type map": (dict(pairs=[(TRUE, (HALF, OUTSIDE))]), r"image 0: pred_types: the type map names types on \d+ pixels"),
    "type count": (dict(pairs=[((TRUE, [1]), HALF)]), "true_types has 1 entries, expected 3"),
    "type shape": (dict(pairs=[((TRUE, OUTSIDE[:3]), HALF)]), r"true_types has shape \(3, 40\), expected \(40, 40\)"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    options, message = BAD[name]
    with pytest.raises(ValueError, match=message) as caught:
        call(**options)
    assert "\n" not in str(caught.value)


def test_whole_numbers_as_floats_are_accepted():
    floats = [((t.astype(np.float32), k), (p.astype(np.float64), j)) for (t, k), (p, j) in PAIRS]
    assert call(floats).summary == pytest.approx(call().summary, nan_ok=True)


def test_example_of_the_documentation_runs(capsys):
    text = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    examples = re.findall(r"```python\n(.*?)```", text, re.S)
    assert len(examples) >= 2
    space = {}
    for code in examples:
        exec(code, space)
    printed = capsys.readouterr().out
    assert f"{space['found'].summary['bPQ']:.3f}" in printed and "clean" in printed
