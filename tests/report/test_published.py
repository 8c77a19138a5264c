"""The published figures: headline numbers follow from the finer lines, and all equal the reference logs."""

import numpy as np
import pandas as pd
import pytest

from benchmark.data.sources.pannuke import CLASSES, TISSUES
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.report.select.groups import Group
from benchmark.report.tables.published import ALL, published, table, values
from benchmark.report.tables.published_table import published_table
from tests.support.report_runs import squares
from tests.support.shared import shared

SPLITS = (1, 2, 3)


def tissue_mean(method: str, row: str, score: str) -> float:
    """Mean over 19 tissues of the mean over the splits, as papers on PanNuke print it."""
    splits = [values(method, row, "pannuke", k, "cellvit") for k in SPLITS]
    return float(np.mean([np.mean([s[f"tissue/{t}/{score}"] for s in splits]) for t in TISSUES]))


def image_mean(method: str, row: str, score: str) -> float:
    return float(np.mean([values(method, row, "pannuke", k, "cellvit")[score] for k in SPLITS]))


@pytest.mark.parametrize(
    ("method", "row", "score", "images", "tissues"),
    [
        ("cellvta", "paper", "mPQ", 0.506, 0.509),
        ("cellvta", "paper", "bPQ", 0.668, 0.684),
        ("cellvit", "sam_h", "mPQ", 0.496, 0.498),
        ("cellvit", "sam_h", "bPQ", 0.666, 0.679),
        ("cellvit", "sam_l", "mPQ", 0.497, 0.498),
        ("cellvit", "sam_b", "mPQ", 0.491, 0.492),
        ("cellvit", "vit256", "mPQ", 0.483, 0.485),
    ],
)
def test_headlines_follow_from_the_finer_lines(method, row, score, images, tissues):
    """Like for like: 0.506 against 0.496 over images, 0.509 against 0.498 over tissues."""
    assert round(image_mean(method, row, score), 3) == images
    assert round(tissue_mean(method, row, score), 3) == tissues
    whole = values(method, row, "pannuke", ALL, "cellvit")
    assert whole[score] == pytest.approx(image_mean(method, row, score), abs=2e-6)
    assert whole[f"tissue_mean/{score}"] == pytest.approx(tissue_mean(method, row, score), abs=2e-6)


def test_abstracts():
    said = table()[table()["note"].str.contains("abstract")]
    assert said["value"].round(3).tolist() == [0.538, 0.506]
    assert said["average"].tolist() == ["images", "images"]


def test_mean_over_types():
    types = [np.mean([values("cellvta", "paper", "pannuke", k, "cellvit")[f"PQ_{c}"] for k in SPLITS]) for c in CLASSES]
    assert np.mean(types) == pytest.approx(0.44589, abs=1e-5)
    conic = published("cellvta", "paper", "conic")
    pq = conic[conic["metric"].str.startswith("PQ_")]["value"]
    assert len(pq) == 6 and pq.mean() == pytest.approx(0.46922, abs=1e-5)


def test_split_tissue_means_follow_too():
    """No tissue lacks a value in any split of these."""
    for method, row in (("cellvta", "paper"), ("cellvit", "sam_h"), ("cellvit", "vit256")):
        for k in SPLITS:
            found = values(method, row, "pannuke", k, "cellvit")
            for score in ("bPQ", "mPQ"):
                mean = np.mean([found[f"tissue/{t}/{score}"] for t in TISSUES])
                assert found[f"tissue_mean/{score}"] == pytest.approx(mean, abs=2e-6)


def test_every_metric_of_pannuke_is_one_of_its_protocol():
    known = set(PROTOCOLS["cellvit"].summary(squares(), list(CLASSES), list(TISSUES))) | {"n_images", "tissue_accuracy"}
    found = published(dataset="pannuke")
    assert set(found["protocol"]) == {"cellvit"}
    assert not set(found["metric"]) - known


def test_lookup():
    assert published("hovernet").empty
    assert published("cellvta", dataset="pannuke", split=1, metric="mPQ")["value"].item() == 0.503989
    assert not table().duplicated(["method", "row", "dataset", "split", "protocol", "metric"]).any()
    counts = published("cellvta", "paper", metric="n_images")
    assert dict(zip(zip(counts["dataset"], counts["split"]), counts["value"])) == {
        ("conic", "1"): 991,
        ("pannuke", "1"): 2722,
        ("pannuke", "2"): 2722,
        ("pannuke", "3"): 2656,
    }


def test_values_equal_the_reference():
    logs = pd.read_csv(shared("golden/metrics/published.csv"))
    logs = logs[logs["protocol"].str.startswith("json:dataset") & logs["metric"].isin(["bPQ", "mPQ", "f1_detection"])]
    ours = table()[table()["metric"].isin(["bPQ", "mPQ", "F1"]) & (table()["split"] != ALL)]
    assert len(ours) == len(logs)
    np.testing.assert_allclose(np.sort(ours["value"]), np.sort(logs["value"]), atol=6e-7)


def test_figures_of_an_uncertain_protocol_stand_in_no_table():
    group = Group("pannuke", "main", "paper", [1], [0], [])
    shown = published_table(group, "cellvit", {})
    assert {line["variant"] for line in shown.records if line["method"] == "cellvit"} >= {"sam_h", "vit256"}
    assert not any(line["variant"].endswith("-x20") for line in shown.records)
    assert any(note.startswith("Left out: cellvit, sam_h-x20 (images at x20") for note in shown.notes)
