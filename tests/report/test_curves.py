"""Curves of the report: runs pooled and paired by source, bands over sources; scores by size without the border."""

import numpy as np
import pytest

from benchmark.metrics.match import match
from benchmark.metrics.records import Records
from benchmark.report.select.groups import Group, Row
from benchmark.report.stats import curves
from benchmark.report.stats.sizes import TABLE_EDGES, size_scores
from benchmark.report.tables.bins import size_table
from tests.support.report_runs import Stub

SQUARE = np.pad(np.ones((6, 6), int), 4)
D_UM = 2 * np.sqrt(36 / np.pi) * 0.25


def run(name: str, found: list[bool], fold: int = 1, sources: bool = True, ids: bool = True):
    """A run whose images hold the same nucleus, found or missed."""
    matches = [match(SQUARE, None, SQUARE * hit, None, mpp=0.25) for hit in found]
    meta = [
        {"image": i, "image_id": f"im{i}" if ids else "", "source": f"slide{i}" if sources else ""}
        for i in range(len(found))
    ]
    one = Stub(name, fold=fold)
    one.records = lambda: Records.collect(matches, meta)
    return one


def group(*rows: list) -> tuple[Group, curves.Curves]:
    made = Group("made", "main", "small", [1, 2], [0], [Row(r[0].folder, ("", ""), r, r[0].folder) for r in rows])
    return made, curves.curves(made)["d_um"]


def test_runs_are_pooled_and_the_count_is_of_one_run():
    made, found = group([run("a", [True, True, True, False, True]), run("b", [True, False, True, False, True], fold=2)])
    assert found.clusters == [f"sslide{i}" for i in range(5)]
    ((_, line),) = curves.lines(made, found)
    assert line["recall"][0] == pytest.approx(7 / 10) and line["PQ"][0] == pytest.approx(7 / (7 + 3 / 2))
    assert line["n"][0] == pytest.approx(5) and 0 < line["recall_low"][0] < 0.7 < line["recall_high"][0] <= 1


def test_a_gain_is_paired_by_source():
    hits, worse = [True, True, False, True, False, True], [False, True, False, True, False, False]
    made, found = group([run("a", hits)], [run("b", worse), run("c", hits, fold=2)])
    gain = curves.gain(found, *made.rows)
    # only fold 1 is common: 4 and 2 of 6 found
    assert gain["PQ"][0] == pytest.approx(4 / 5 - 2 / 4) and gain["n"][0] == pytest.approx(6)
    assert -1e-9 < gain["PQ_low"][0] < gain["PQ"][0] < gain["PQ_high"][0]
    assert curves.gain(found, made.rows[0], Row("d", ("", ""), [], "d")) is None


def test_few_clusters_have_no_band_and_images_without_names_are_of_their_fold():
    made, found = group([run("a", [True, False, True, True])])
    assert np.isnan(curves.lines(made, found)[0][1]["PQ_low"]).all()
    _, named = group([run("a", [True, True], sources=False), run("b", [True, True], fold=2, sources=False)])
    assert named.clusters == ["iim0", "iim1"]
    _, nameless = group([run("a", [True], sources=False, ids=False), run("b", [True], 2, sources=False, ids=False)])
    assert nameless.clusters == ["1i0", "2i0"]
    assert found.grid[0] == pytest.approx(D_UM, abs=1e-6)


def test_sizes_with_and_without_the_border_and_a_ceiling_in_other_bins():
    one = run("a", [True])
    corner = SQUARE.copy()
    corner[:2, :2] = 2  # missed, at the image's edge, below 4 um as the other
    found = Records.collect([match(corner, None, SQUARE, None, mpp=0.25)], [{"image": 0}])
    one.records = lambda: found
    scores = size_scores(one)
    assert (scores.table["recall"][0], scores.inner["recall"][0]) == (0.5, 1)
    one.config, one.provenance, one.backbone = {"classes": [], "tissues": []}, {}, ("", "")
    bins = [{"bin": f"<{TABLE_EDGES[0]:g}", "PQ": 0.9}, *({"bin": "", "PQ": None} for _ in TABLE_EDGES)]

    def made(stored):
        one.metrics = {"ceiling": {"sizes": stored}}
        table = size_table(
            Group("made", "main", "small", [1], [0], [Row("a@small", ("", ""), [one], "a")]), {"a": scores}
        )
        return {r["metric"]: r["mean"] for r in reversed(table.records)}

    assert made(bins) == pytest.approx({"PQ": 2 / 3, "recall": 0.5, "PQ without edge nuclei": 1, "PQ ceiling": 0.9})
    assert "PQ ceiling" not in made([bins[0] | {"bin": "<5"}, *bins[1:]])
