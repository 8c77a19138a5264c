"""Bootstrap intervals and paired tests: against scipy, against each other, and by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from benchmark.metrics.match import match
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.metrics.records import Records
from benchmark.report.figures.settings import settings_figure
from benchmark.report.render.table import markdown
from benchmark.report.select.groups import Group, Row, groups
from benchmark.report.select.observations import Observed, observe
from benchmark.report.stats.bootstrap import (
    Comparison,
    Interval,
    compare,
    compare_pairs,
    headline_interval,
    holm,
    interval,
    weights,
)
from benchmark.report.stats.setting_gains import setting_gains
from benchmark.report.stats.summary import Summary, summarise
from benchmark.report.tables.comparisons import component_table, conclusion, p_text, significance_table, tuning_table
from benchmark.results import collect
from tests.support.report_runs import CLASSES, TISSUES, Stub, make_run, squares


def observed(
    scores: dict[str, np.ndarray], clusters: np.ndarray, sources=True, tissue=None
) -> tuple[Observed, list[Row]]:
    """Rows with one run each, whose images have these bPQ values."""
    frames, rows = {}, []
    for name, values in scores.items():
        n = len(values)
        tissues = np.array(tissue if tissue is not None else [""] * n, object)
        frames[name] = pd.DataFrame({"bPQ": values, "cluster": clusters, "tissue": tissues})
        rows.append(Row(f"{name}@small", ("", ""), [Stub(name)], name))
    return Observed([str(i) for i in range(clusters.max() + 1)], sources, frames), rows


def test_interval_of_single_image_clusters_is_scipys_bootstrap():
    values = np.random.Generator(np.random.PCG64(1)).normal(0.5, 0.1, 60)
    seen, (row,) = observed({"a": values}, np.arange(60))
    found = interval(seen, row, "bPQ")
    assert found.value == pytest.approx(values.mean()) and found.clusters == 60
    reference = stats.bootstrap(
        (values,), np.mean, n_resamples=20000, method="percentile", rng=np.random.default_rng(0)
    )
    assert found.low == pytest.approx(reference.confidence_interval.low, abs=2e-3)
    assert found.high == pytest.approx(reference.confidence_interval.high, abs=2e-3)
    assert interval(seen, row, "bPQ") == found, "the same data give the same interval"


def test_patches_of_one_slide_are_not_independent():
    values = np.repeat(np.random.Generator(np.random.PCG64(2)).normal(0.5, 0.1, 12), 20)
    single, (row,) = observed({"a": values}, np.arange(240))
    slides, (same,) = observed({"a": values}, np.repeat(np.arange(12), 20))
    narrow, wide = interval(single, row, "bPQ"), interval(slides, same, "bPQ")
    assert wide.value == pytest.approx(narrow.value)
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)  # sqrt(20) wider


def test_resamples_draw_as_many_clusters_as_there_are():
    drawn = weights(7)
    assert drawn.shape == (2000, 7) and (drawn.sum(1) == 7).all() and drawn.max() > 1
    assert abs(drawn.mean() - 1) < 1e-12


def test_paired_comparison_by_hand_and_against_scipy():
    rng = np.random.Generator(np.random.PCG64(3))
    base, gain = rng.normal(0.5, 0.2, 40), rng.normal(0.02, 0.02, 40)
    seen, (a, b) = observed({"a": base + gain, "b": base}, np.arange(40))
    c = compare(seen, a, b, "bPQ")
    assert c.difference.value == pytest.approx(gain.mean())
    assert c.difference.low > 0 and c.difference.high < 0.04, "the shared spread of images cancels"
    assert c.p == pytest.approx(stats.wilcoxon(gain, zero_method="pratt").pvalue)
    assert c.dz == pytest.approx(gain.mean() / gain.std(ddof=1)) and c.better == pytest.approx((gain > 0).mean())
    other = compare(seen, b, a, "bPQ")
    assert other.difference.value == pytest.approx(-gain.mean()) and other.rank_biserial == -c.rank_biserial
    up, (x, y) = observed({"x": base + 0.1, "y": base}, np.arange(40))
    assert compare(up, x, y, "bPQ").rank_biserial == 1.0
    assert compare(up, x, x, "bPQ").p == 1.0


def test_too_few_clusters_say_nothing():
    seen, (a, b) = observed({"a": np.array([0.5, 0.6, 0.7]), "b": np.array([0.4, 0.5, 0.6])}, np.arange(3))
    assert math.isnan(interval(seen, a, "bPQ").low) and math.isnan(compare(seen, a, b, "bPQ").p)
    assert conclusion([compare(seen, a, b, "bPQ")], [math.nan], True).startswith("Too few")
    assert compare(seen, a, b, "mPQ") is None


@pytest.mark.parametrize("clusters", [4, 5])
def test_five_clusters_are_the_fewest(clusters):
    values = np.arange(clusters) / 10
    seen, (a, b) = observed({"a": values + 0.1 * (values + 1), "b": values}, np.arange(clusters))
    found = compare(seen, a, b, "bPQ")
    numbers = [interval(seen, a, "bPQ").low, found.difference.low, found.p, found.rank_biserial]
    assert [math.isnan(v) for v in numbers] == [clusters < 5] * 4


def test_ties_count_half_and_only_what_both_rows_have_is_compared():
    gain = np.array([0, 0, 0.1, 0.2, 0.3, -0.05, -0.15, 0.25])
    seen, (a, b) = observed({"a": 0.5 + gain, "b": np.full(8, 0.5)}, np.arange(8))
    c = compare(seen, a, b, "bPQ")
    assert c.better == (4 + 2 / 2) / 8 and c.p == pytest.approx(stats.wilcoxon(gain, zero_method="pratt").pvalue)
    assert c.p != pytest.approx(stats.wilcoxon(gain, zero_method="wilcox").pvalue)
    assert c.rank_biserial == pytest.approx((4 + 6 + 7 + 8 - 3 - 5) / 33)  # two zeros share ranks 1 and 2
    seen.images["b"].loc[7, "bPQ"] = np.nan
    seen = Observed(seen.clusters, seen.sources, seen.images)  # one remembers what it computed
    assert compare(seen, a, b, "bPQ").difference.clusters == 7
    a.runs.append(Stub("again", fold=2))
    seen.images["again"] = seen.images["a"].assign(bPQ=1.0)
    alone = compare(seen, a, b, "bPQ")
    assert alone.runs == 1 and alone.difference.value == pytest.approx((0.5 + gain).mean() - 0.5)


def test_pairs_together_are_pairs_one_by_one():
    """With ties, with zeros, without either, alike, and with fewer clusters: each has its own form of SciPy's test."""
    rng = np.random.Generator(np.random.PCG64(6))
    base = rng.random(30)
    gains = {
        "plain": rng.normal(0.05, 0.1, 30),
        "also plain": rng.normal(0.0, 0.1, 30),
        "tied": rng.choice([-0.25, 0.25, 0.5], 30),
        "zeros": np.where(rng.random(30) < 0.3, 0, rng.normal(0.1, 0.2, 30)),
        "alike": np.zeros(30),
        "fewer": np.where(np.arange(30) < 12, rng.normal(0.1, 0.1, 30), np.nan),
        "too few": np.where(np.arange(30) < 4, 0.1, np.nan),
        "nothing": np.full(30, np.nan),
    }
    base = np.round(base * 64) / 64  # so that what is added can be taken off again, to the bit
    seen, (first, *rest) = observed({"base": base} | {name: base + gain for name, gain in gains.items()}, np.arange(30))
    tested = compare_pairs(seen, [(row, first) for row in rest], "bPQ")
    assert tested[-1] is None
    for row, c, gain in zip(rest[:-1], tested[:-1], gains.values()):
        assert str(c) == str(compare(seen, row, first, "bPQ")), row.label  # NaN is not NaN
        differences = (base + gain - base)[~np.isnan(gain)]
        if row.label in ("alike", "too few"):
            assert c.p == 1 if row.label == "alike" else math.isnan(c.p)
        else:
            assert c.p == stats.wilcoxon(differences, zero_method="pratt").pvalue, row.label


def test_a_conclusion_names_what_holds_from_the_largest_on():
    def made(a, b, value, low, high, metric="bPQ"):
        return Comparison(a, b, metric, Interval(value, low, high, 9), 0.001, 1.0, 1.0, 1.0, 1)

    found = [made("p", "q", 0.01, 0.005, 0.02), made("r", "s", -0.2, -0.3, -0.1), made("t", "u", 0.1, -0.1, 0.3)]
    found += [made("v", "w", 0.5, 0.4, 0.6), made("p", "q", 0.9, 0.8, 1.0, "mPQ")]
    said = conclusion(found, [0.049, 0.01, 0.01, 0.051, 0.01], True)
    assert said.startswith("3 of 5 differences hold") and "s above r (0.200), p above q (0.010). This" in said
    many = [made(f"a{k}", "b", k / 10, 0.01, 1.0) for k in range(1, 9)]
    said = conclusion(many, [0.01] * 8, False)
    assert "a8 above b (0.800)" in said and "a3 above b (0.300), and 2 more" in said and "test images" in said


def test_tables_name_the_sides_the_right_way_round():
    base = np.random.Generator(np.random.PCG64(4)).normal(0.5, 0.1, 8)
    seen, _ = observed({"full": base, "less": base - 0.1, "alien": base - 0.2, "other": base - 0.3}, np.arange(8))
    names = {"full": "cellvta@small", "less": "cellvta@small,points=8", "other": "decoder_only@small"}
    rows = [Row(method, ("", ""), [Stub(name)], name) for name, method in names.items()]
    rows.append(Row("cellvta@small,points=2", ("vit", "file"), [Stub("alien")], "alien"))
    for row, tune, trained in zip(rows, ("adapter", "adapter", "decoder", "adapter"), (2e6, 2e6, 1e6, 2e6)):
        row.runs[0].config = {"arguments": {"tune": tune}}
        row.runs[0].cost = {"params": 8e6, "trainable": trained}
    group = Group("made", "main", "small", [1], [0], rows)
    (line,) = significance_table(group, seen, "caption", []).records
    assert (line["a"], line["b"]) == ("full", "other") and line["difference"] == pytest.approx(0.3)
    assert line["p"] == pytest.approx(2 / 2**8), "all eight on one side"
    components = component_table(group, seen, "caption", [])
    assert [r["variant"] for r in components.records] == ["points=8"], "one encoder is not a variant of another"
    assert components.records[0]["difference"] == pytest.approx(-0.1)
    assert components.blocks[0].rows[1][-2:] == ["8.00", "2.00"]
    strategies = tuning_table(group, seen, "caption", []).blocks[0].rows[1:]
    assert [line[-2:] for line in strategies] == [["2.00", "25.0%"], ["1.00", "12.5%"]]
    assert [p_text(p) for p in (0.0009, 0.001, math.nan)] == ["< 0.001", "0.001", "–"]


def test_tissue_means_get_an_interval_and_unknown_averages_none():
    values = np.concatenate([np.full(30, 0.2), np.full(10, 0.6)])
    seen, (row,) = observed({"a": values}, np.arange(40), tissue=["x"] * 30 + ["y"] * 10)
    assert headline_interval(seen, row, "bPQ", ["x", "y"], 0.4).low == pytest.approx(0.4)
    assert headline_interval(seen, row, "bPQ", ["x", "y"], 0.3).high > 0.3
    assert math.isnan(headline_interval(seen, row, "bPQ", ["x", "y"], 0.35).low)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, math.nan]) == pytest.approx([0.03, 0.06, 0.06, math.nan], nan_ok=True)
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_interval_text():
    assert Interval(0.5123, 0.4987, 0.5254, 9).text() == "0.512 [0.499, 0.525]"
    assert (
        Interval(-0.01, math.nan, math.nan, 2).text(sign=True) == "-0.010" and Interval(math.nan, 0, 0, 0).text() == "–"
    )


def test_clusters_are_sources_then_images_then_places():
    full, empty = np.pad(np.ones((6, 6), int), 4), np.zeros((14, 14), int)
    found = [match(full, [1], full, [1], mpp=0.25), match(empty, [], full, [1], mpp=0.25)]

    def seen(ids, sources):
        run = Stub("run", fold=2)
        meta = [{"image": i, "image_id": ids[i], "source": sources[i]} for i in range(2)]
        run.records = lambda: Records.collect(found, meta)
        row = Row("cellvta@small", ("", ""), [run], "cellvta")
        return observe(Group("made", "main", "small", [2], [0], [row]), "cellvit"), row

    by_source, row = seen(["x", "y"], ["slide", "slide"])
    assert by_source.sources and by_source.clusters == ["slide"]
    assert interval(by_source, row, "bPQ").value == pytest.approx(1, abs=2e-6), "an image without value is left out"
    by_image, _ = seen(["x", "y"], ["slide", ""])
    assert not by_image.sources and by_image.clusters == ["x", "y"]
    assert seen(["", "y"], ["", ""])[0].clusters == ["fold2:0", "y"]


def test_spread_is_that_of_a_sample():
    assert summarise([1.0, None, 3, math.nan], 3) == Summary(2.0, math.sqrt(2), 2, 3)
    assert summarise([1.0, 3.0], 3).text(1) == "2.0 ± 1.4 (2/3)" and summarise([1.0], 1).text(1) == "1.0"


@pytest.fixture(scope="module")
def group(tmp_path_factory) -> Group:
    results, stored = tmp_path_factory.mktemp("results"), tmp_path_factory.mktemp("records")
    squares().save(stored)
    for method in ("cellvta@small", "cellvta@small,points=8", "decoder_only@small"):
        tune = "decoder" if method.startswith("decoder") else "adapter"
        make_run(results, stored, method, arguments={"tune": tune})
    (found,) = groups(collect.runs(results))
    return found


def test_observed_sums_give_the_protocols_own_scores(group):
    seen = observe(group, "cellvit")
    assert seen.sources and seen.clusters == ["s"]
    scores = PROTOCOLS["cellvit"].summary(squares(), CLASSES, TISSUES)
    for metric in ("bPQ", "mPQ", "bDQ", "F1"):
        assert interval(seen, group.rows[0], metric).value == pytest.approx(scores[metric]), metric


def test_tables_of_differences(group):
    seen = observe(group, "cellvit")
    significance = markdown(significance_table(group, seen, "caption", []))
    assert "| cellvta " in significance and "nothing may be concluded" in significance, "one source image"
    components = component_table(group, seen, "caption", [])
    assert [r["variant"] for r in components.records] == ["points=8", "points=8"]
    assert components.records[0]["difference"] == 0
    tuning = tuning_table(group, seen, "caption", [])
    assert [r["tune"] for r in tuning.records] == ["adapter", "decoder"], "overridden parts are no strategy"


def test_gains_of_settings_are_paired_over_source_images(tmp_path):
    """Of the same nuclei as the first setting finds: no gain; of more of them: one, by hand."""

    def found(share: int) -> Records:
        matches = []
        for _ in range(12):
            true = np.zeros((64, 64), np.int32)
            for n in range(4):
                true[4 + 15 * n : 14 + 15 * n, 4:14] = n + 1
            pred = np.where(true <= share, true, 0)
            matches.append(match(true, np.ones(4, int), pred, np.ones(share, int), mpp=0.25))
        rows = [{"image": i, "image_id": f"i{i}", "source": f"s{i // 2}", "tissue": "Colon"} for i in range(12)]
        return Records.collect(matches, rows)

    lines = setting_gains({"published": found(2), "same": found(2), "more": found(4)}, "cellvit", 1)
    of = {(line["setting"], line["metric"]): line for line in lines}
    assert set(of) == {(name, metric) for name in ("same", "more") for metric in ("bPQ", "mPQ")}
    assert of["same", "bPQ"]["value"] == 0 == of["same", "bPQ"]["low"] == of["same", "bPQ"]["high"]
    assert of["more", "bPQ"]["value"] == pytest.approx(1 - 2 / 3)  # PQ 1 against 2 / (2 + 2 / 2)
    assert of["more", "bPQ"]["clusters"] == 6 and of["more", "bPQ"]["low"] == pytest.approx(1 / 3)
    assert settings_figure({"a run": lines}, {"a run": "cellvta"}, tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".png", ".pdf", ".csv"}
    assert not settings_figure({"a run": []}, {"a run": "cellvta"}, tmp_path)
