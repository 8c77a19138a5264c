"""Figures as drawn: our intervals where they belong, one look per method, nothing cut, no warning of a library."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex, to_rgba

from benchmark.report.figures import scores
from benchmark.report.figures.accuracy import accuracy_figure
from benchmark.report.figures.budget import budget_figure
from benchmark.report.figures.curves import curves_figure, gain_figure
from benchmark.report.figures.misses import misses_figure
from benchmark.report.figures.style import (
    COLOURS,
    broken,
    drawing,
    fitted,
    group_looks,
    keys,
    legend,
    looks,
    save,
    text_width,
)
from benchmark.report.select.groups import Group, Row, groups
from benchmark.report.select.observations import Observed, observe
from benchmark.report.stats.curves import curves, lines
from benchmark.results import collect
from benchmark.runtime.paths import ROOT
from tests.support.report_runs import Stub, make_run, read_csv, squares

pytestmark = pytest.mark.filterwarnings("error")
NAMES = ("cellvit", "cellvta", "decoder_only", "mine", "cellvta,points=8")
COSTS = {"cellvit": 4e6, "cellvta": 2e6, "decoder_only": 1e6, "mine": 1e6, "cellvta,points=8": 3e6}


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved while a test runs, in order."""
    from matplotlib.figure import Figure

    saved, original = [], Figure.savefig

    def record(self, *args, **kwargs):
        if self not in saved:
            saved.append(self)
        return original(self, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", record)
    return saved


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """The squares in six sources for bootstrap intervals."""
    folder = tmp_path_factory.mktemp("records")
    squares().save(folder)
    return folder


def scored(names=NAMES) -> tuple[Group, Observed]:
    """A group of methods with scores of twelve images in twelve clusters and two tissues, skewed to one side."""
    rng, rows, frames = np.random.default_rng(0), [], {}
    for k, name in enumerate(names):
        run = Stub(name)
        run.cost = {"trainable": COSTS[name], "images_per_second": 3.0 + k}
        bpq = 0.4 + 0.05 * k + 0.1 * rng.exponential(size=12)
        frames[name] = pd.DataFrame({"bPQ": bpq, "cluster": range(12), "tissue": ["Breast", "Colon_x"] * 6})
        rows.append(Row(name.replace(",", "@small,") if "," in name else f"{name}@small", ("", ""), [run], name))
    return Group("synthetic", "main", "small", [1], [0], rows), Observed(list("abcdefghijkl"), True, frames)


def segments(axes) -> set[tuple]:
    """((x, y), (x, y)) of the lines of intervals, rounded."""
    lines = [segment for collection in axes.collections for segment in getattr(collection, "get_segments", list)()]
    return {tuple(map(tuple, np.round(segment, 6).tolist())) for segment in lines}


def expected(records: list[dict], key: str | None = None) -> list[tuple[float, float]]:
    return [tuple(round(float(record[end]), 6) for end in ("low", "high")) for record in records]


def inside(axes, xs, ys) -> bool:
    """Whether all points lie within the limits of the axes."""
    (left, right), (low, high) = sorted(axes.get_xlim()), sorted(axes.get_ylim())
    return all(left <= x <= right for x in xs) and all(low <= y <= high for y in ys)


def test_intervals_per_tissue_are_those_of_the_csv_and_cross_their_dots(tmp_path, figures):
    group, observed = scored()
    assert scores.tissue_dots(group, observed, tmp_path)
    records, (axes,) = read_csv(tmp_path / "tissues.csv"), figures[0].axes
    assert len(records) == 2 * len(NAMES)
    drawn = segments(axes)
    assert sorted((a[0], b[0]) for a, b in drawn) == sorted(expected(records))
    assert inside(axes, *zip(*(end for pair in drawn for end in pair))), "an interval is cut off by the axes"
    dots = {
        tuple(np.round(dot, 6)) for line in axes.lines for dot in zip(*line.get_data()) if line.get_marker() != "None"
    }
    for (low, y), (high, _) in drawn:
        assert any(low <= x <= high and abs(at - y) < 1e-6 for x, at in dots), "no dot on an interval"
    assert [tick.get_text() for tick in axes.get_yticklabels()] in (["Breast", "Colon x"], ["Colon x", "Breast"])


@pytest.mark.parametrize("names", [NAMES[:1], NAMES])
def test_one_method_has_dots_too(tmp_path, figures, names):
    group, observed = scored(names)
    assert scores.tissue_dots(group, observed, tmp_path)
    assert sum(len(line.get_xdata()) for line in figures[0].axes[0].lines if line.get_marker() != "None") == 2 * len(
        names
    )


def test_intervals_of_variants_and_of_cost_are_those_of_the_csv(tmp_path, figures):
    group, observed = scored()
    assert scores.forest(group, observed, tmp_path) and scores.pareto(group, observed, tmp_path)
    forest, cost = figures
    assert [(a[0], b[0]) for a, b in segments(forest.axes[0])] == expected(read_csv(tmp_path / "forest.csv"))
    records = read_csv(tmp_path / "accuracy_cost.csv")
    for axes, key in zip(cost.axes, ("trainable", "images_per_second")):
        drawn = segments(axes)
        assert {(a[0], a[1], b[1]) for a, b in drawn} == {
            (float(record[key]), *ends) for record, ends in zip(records, expected(records))
        }
        assert inside(axes, *zip(*(end for pair in drawn for end in pair)))


def test_what_costs_nothing_is_named_where_the_axis_has_no_0(tmp_path, figures, monkeypatch):
    monkeypatch.setitem(COSTS, "mine", 0)
    group, observed = scored()
    assert scores.pareto(group, observed, tmp_path)
    trainable, speed = figures[0].axes
    assert trainable.get_title() == "without mine: 0 or not recorded" and speed.get_title() == ""


def test_the_first_figure_has_the_methods_colours_and_intervals(tmp_path, figures):
    group, observed = scored()
    assert accuracy_figure(group, observed, tmp_path)
    records, (axes,) = read_csv(tmp_path / "accuracy.csv"), figures[0].axes
    assert [float(r["value"]) for r in records] == sorted((float(r["value"]) for r in records), reverse=True)
    (lines,) = [part for part in axes.collections if hasattr(part, "get_segments")]
    assert [(a[0], b[0]) for a, b in np.round(lines.get_segments(), 6).tolist()] == expected(records)
    assert [segment[0][1] for segment in lines.get_segments()] == list(range(len(records)))
    looks = group_looks(group)
    assert [to_hex(colour).upper() for colour in lines.get_colors()] == [looks[r["label"]]["color"] for r in records]


def test_seaborn_computes_no_interval(tmp_path, monkeypatch):
    """It would resample what it is handed; ours are over clusters."""

    def refuse(*args, **kwargs):
        raise AssertionError("seaborn resamples")

    monkeypatch.setattr("seaborn._statistics.bootstrap", refuse)
    group, observed = scored()
    assert all(draw(group, observed, tmp_path) for draw in (scores.tissue_dots, scores.forest, scores.pareto))


def test_the_front_leaves_out_what_costs_as_much_and_scores_less():
    points = [{"key": x, "value": y} for x, y in ((1, 0.5), (1, 0.7), (2, 0.7), (3, 0.9), (4, 0.8))]
    assert [(p["key"], p["value"]) for p in scores._front(points, "key", -1)] == [(1, 0.7), (3, 0.9)]
    assert [(p["key"], p["value"]) for p in scores._front(points, "key", 1)] == [(3, 0.9), (4, 0.8)]


def test_a_method_has_its_colour_whatever_stands_beside_it():
    alone, beside = looks({"b": "cellvta"}), looks({"a": "mine", "b": "cellvta", "c": "decoder_only"})
    assert alone["b"] == beside["b"] and alone["b"]["color"] == COLOURS[1]
    assert beside["a"]["color"] not in (beside["b"]["color"], beside["c"]["color"])
    rows = looks({"a": "cellvta", "b": "cellvta", "c": "decoder_only"})
    assert rows["a"]["color"] == rows["b"]["color"] != rows["c"]["color"] and rows["a"]["marker"] != rows["b"]["marker"]
    of_one = looks({str(k): "cellvta" for k in range(5)})
    assert len({style["color"] for style in of_one.values()}) == 5, "a single method's rows differ in colour"
    many = looks({str(k): f"tool {k}" for k in range(20)} | {"a": "cellvit"})
    assert len({(style["color"], style["marker"], style["linestyle"]) for style in many.values()}) >= 14


def test_a_method_looks_alike_in_every_figure(tmp_path, figures, stored):
    """Rows that a figure leaves out, for want of a log or of types, moved the colours of those after them."""
    for method in ("cellvit@small", "cellvta@small", "decoder_only@small", "cellvta@small,points=8"):
        folder = make_run(tmp_path / "results", stored, method)
        if method != "cellvit@small":
            (folder / "log.jsonl").write_text('{"epoch": 0, "loss": 2.0}\n{"epoch": 1, "loss": 1.0, "val_bPQ": 0.5}\n')
    (group,) = groups(collect.runs(tmp_path / "results"))
    observed, by_size = observe(group, "cellvit"), curves(group)["d_um"]
    assert scores.training_curves(group, tmp_path) and curves_figure(group, by_size, tmp_path, "pq_by_size")
    assert scores.tissue_dots(group, observed, tmp_path) and scores.pareto(group, observed, tmp_path)
    assert gain_figure(group, [by_size], tmp_path)
    seen = {}
    for figure in figures[:-1]:
        (key,) = figure.legends
        for handle, text in zip(key.legend_handles, key.get_texts()):
            seen.setdefault(text.get_text(), set()).add((handle.get_color(), handle.get_marker()))
    assert {name: len(found) for name, found in seen.items()} == dict.fromkeys(seen, 1) and len(seen) == 4
    (look,) = seen["cellvta"]
    assert figures[-1].axes[0].lines[-1].get_color() == look[0] == COLOURS[1], "the gain is drawn as the adapter is"
    drawn = {line.get_color() for line in figures[0].axes[0].lines if len(line.get_xdata())}
    assert drawn == {look[0], COLOURS[3]}, "the lines are as the legend says"


@pytest.mark.parametrize("count", [1, 5])
def test_nothing_is_cut(tmp_path, figures, stored, count, monkeypatch):
    """The label of the weights was, where the scores above it have long numbers."""
    for k, method in enumerate(("cellvta", "cellvta", "decoder_only", "cellvit", "classical")[:count]):
        words = {"settings": {"recipe.optimiser.lr": 0.0005}, "spec": "cellvta@small"} if k == 1 else {}
        name = f"{method}@small" + ",recipe.optimiser.lr=0.0005" * (k == 1)
        folder = make_run(tmp_path / "results", stored, name, **words)
        (folder / "log.jsonl").write_text('{"epoch": 0, "loss": 2.0}\n{"epoch": 1, "loss": 1.0, "val_bPQ": 0.5}\n')
    (group,) = groups(collect.runs(tmp_path / "results"))
    observed, by_size = observe(group, "cellvit"), curves(group)["d_um"]
    few = [
        (row, values | {"PQ": values["PQ"] / 99, "recall": values["recall"] / 9})
        for row, values in lines(group, by_size)
    ]
    monkeypatch.setattr("benchmark.report.figures.curves.lines", lambda *_: few)
    assert curves_figure(group, by_size, tmp_path, "pq_by_size") and scores.training_curves(group, tmp_path)
    assert scores.tissue_dots(group, observed, tmp_path) and scores.confusions(group, tmp_path)
    assert scores.pareto(group, observed, tmp_path) is (count > 1)
    for figure, name in zip(figures, ("pq_by_size", "training", "tissues", "confusion", "accuracy_cost")):
        figure.set_dpi(300)  # as its layout was made
        box, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert min(box.x0, box.y0) > -0.01 and box.x1 < width + 0.01 and box.y1 < height + 0.01, (name, box)


def test_confusions_of_classes_that_are_called_other_and_none(tmp_path, figures, stored, capsys):
    """The run was left out of the figure: CoNSeP has a class "other"."""
    make_run(tmp_path / "results", stored, "cellvit@small", classes=["other", "none", "Dead"])
    (group,) = groups(collect.runs(tmp_path / "results"))
    assert scores.confusions(group, tmp_path) and "skipped" not in capsys.readouterr().err
    (panel,) = figures[0].axes
    names = ["other", "none", "Dead"]
    assert [tick.get_text() for tick in panel.get_yticklabels()] == names
    assert [tick.get_text() for tick in panel.get_xticklabels()] == [*names, "missed"]
    drawn = read_csv(tmp_path / "confusion.csv")
    assert [line["predicted"] for line in drawn[:4]] == [*names, "(none)"]
    assert sum(float(line["nuclei"]) for line in drawn) > 0


def test_confusions_name_every_column_and_line(tmp_path, figures, stored):
    """With four panels the last column had no names below it."""
    for method in ("cellvit", "cellvta", "decoder_only", "full_finetune"):
        make_run(tmp_path / "results", stored, f"{method}@small", classes=["Neoplastic", "Inflammatory", "$\\frac$"])
    (group,) = groups(collect.runs(tmp_path / "results"))
    assert scores.confusions(group, tmp_path)
    panels = np.reshape(figures[0].axes, (2, 3))
    for panel in panels[0]:
        assert [tick.get_text() for tick in panel.get_xticklabels()] == [
            "Neoplastic",
            "Inflammatory",
            "$\\frac$",
            "missed",
        ]
    for panel in panels[:, 0]:
        assert len(panel.get_yticklabels()) == 3
    records = read_csv(tmp_path / "confusion.csv")
    counts = pd.DataFrame(records).query("method == 'cellvta@small'").astype({"nuclei": float})
    share = counts.query("true == 'Neoplastic'")["nuclei"] / counts.query("true == 'Neoplastic'")["nuclei"].sum()
    printed = [text.get_text() for text in panels[0][1].texts]
    assert printed[:4] == [f"{100 * value:.0f}" for value in share] and printed.count("–") == 4, "no nucleus of a type"


def test_a_method_without_confusion_is_named(tmp_path, figures, stored, monkeypatch):
    for method in ("cellvta", "decoder_only"):
        make_run(tmp_path / "results", stored, f"{method}@small", classes=["Neoplastic", "Inflammatory", "Dead"])
    (group,) = groups(collect.runs(tmp_path / "results"))
    original = scores._confusion
    monkeypatch.setattr(scores, "_confusion", lambda row: None if row.label == "cellvta" else original(row))
    assert scores.confusions(group, tmp_path)
    assert figures[0].get_suptitle().endswith("not shown, no nucleus found that has a type: cellvta")


def test_epochs_are_whole_and_a_run_is_a_line(tmp_path, figures, stored):
    for fold in (1, 2):
        folder = make_run(tmp_path / "results", stored, fold=fold)
        log = [f'{{"epoch": {k}, "loss": {fold + k}.0, "val_bPQ": {"null" if k % 2 else 0.1 * k}}}\n' for k in range(8)]
        (folder / "log.jsonl").write_text("".join(log))
    (group,) = groups(collect.runs(tmp_path / "results"))
    assert scores.training_curves(group, tmp_path)
    loss, validation = figures[0].axes
    assert sorted(line.get_ydata().tolist() for line in loss.lines if len(line.get_xdata())) == [
        [float(fold + k) for k in range(8)] for fold in (1, 2)
    ]
    assert [line.get_xdata().tolist() for line in validation.lines if len(line.get_xdata())] == [[1, 3, 5, 7]] * 2
    assert all(tick == int(tick) for axes in (loss, validation) for tick in axes.get_xticks())


def test_a_log_without_validation_is_drawn(tmp_path, figures, stored):
    folder = make_run(tmp_path / "results", stored)
    (folder / "log.jsonl").write_text('{"epoch": 0, "loss": 2.0}\n')
    (group,) = groups(collect.runs(tmp_path / "results"))
    assert scores.training_curves(group, tmp_path)
    assert not [line for line in figures[0].axes[1].lines if len(line.get_xdata())]


def test_the_budget_joins_means_and_shows_every_run(tmp_path, figures):
    rows, frames = [], {}
    for epochs in (10, 20):
        for seed in (0, 1):
            run = Stub(f"{epochs}-{seed}", 1, seed)
            run.backbone, run.metrics, run.cost = (
                ("tiny", "x"),
                {"val_bPQ": 0.5},
                {"train_seconds": 2.0 * epochs + seed},
            )
            recipe = {"epochs": epochs, "samples": 96, "batch": 8}
            run.config |= {"name": "cellvta", "arguments": {}, "recipe": recipe}
            bpq = 0.5 + epochs / 100 + seed / 10
            frames[run.folder] = pd.DataFrame({"bPQ": [bpq], "mPQ": [bpq / 2], "cluster": [0], "tissue": [""]})
            rows.append(Row("cellvta@mini", ("", ""), [run], run.folder))
    group = Group("synthetic", "main", "mini", [1], [0, 1], rows)
    assert budget_figure(group, Observed(["a"], True, frames), tmp_path)
    by_time = figures[0].axes[1]
    (line,) = [line for line in by_time.lines if len(line.get_xdata())]
    assert np.allclose(line.get_xydata(), [(20.5, 0.65), (40.5, 0.75)]) and line.get_color() == COLOURS[1]
    (dots,) = [dots for dots in by_time.collections if len(dots.get_offsets())]
    assert np.allclose(sorted(dots.get_offsets().tolist()), [(20, 0.6), (21, 0.7), (40, 0.7), (41, 0.8)])


def test_missed_nuclei_are_stacked_shares(tmp_path, figures):
    fates = {"found": (6, 1), "merged": (3, 0), "split": (1, 3)}
    frame = pd.DataFrame(
        [{"bin": b, "fate": fate, "n": n[i]} for i, b in enumerate(("<4", ">=4")) for fate, n in fates.items()]
    )
    assert misses_figure({"a": frame, "none": frame.assign(n=0)}, tmp_path)
    (axes,) = figures[0].axes
    bars = {(round(bar.get_x() + bar.get_width() / 2), bar.get_facecolor()): bar for bar in axes.patches}
    merged, split = (to_rgba(colour) for colour in COLOURS[:2])
    assert [bars[k, merged].get_height() for k in (0, 1)] == pytest.approx([0.3, 0])
    assert [bars[k, split].get_height() for k in (0, 1)] == pytest.approx([0.1, 0.75])
    assert bars[0, split].get_y() == pytest.approx(0.3), "in the legend's order from below"
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["<4 µm", "≥4 µm"]
    assert [text.get_text() for text in figures[0].legends[0].get_texts()] == ["merged", "split"]
    assert misses_figure({str(k): frame for k in range(4)}, tmp_path)
    panels = figures[1].axes[:4]
    shown = [any(tick.get_visible() for tick in axes.get_xticklabels()) for axes in panels]
    assert shown == [False, True, True, True], "the lowest of each column has the sizes"


def test_long_names_differ_where_there_is_room():
    """A legend of one column left out the number of epochs, for which there was room."""
    labels = [f"decoder_only (epochs {n}, optimiser.lr 0.008)" for n in (128, 256)]
    assert [fitted(label, 2.9) for label in labels] == labels
    assert text_width(fitted("m" * 60, 1.0)) <= 1.0 and fitted("m" * 60, 1.0).count("…") == 1
    assert broken(labels[0], 1.2, 6).split("\n") == ["decoder_only", "(epochs\xa0128,", "optimiser.lr\xa00.008)"]


def test_names_are_no_formulas(tmp_path):
    """matplotlib typeset what stands between dollars, and failed where it is no formula."""
    with drawing(2.0) as figure:
        figure.subplots().set_title("$\\frac$")
        legend(figure, keys({"$\\nofunction{x}$": looks({"a": "mine"})["a"]}))
    save(figure, tmp_path / "names", [])
    assert (tmp_path / "names.pdf").is_file()


@pytest.mark.parametrize("words", [["table", "--help"], ["table"], ["status", "--dataset", "synthetic@patches=6"]])
def test_tables_load_no_drawing_library(tmp_path, stored, words):
    make_run(tmp_path / "results", stored)
    if "--help" not in words:
        words = [*words, "--results", str(tmp_path / "results")]
        words += (
            ["--reports", str(tmp_path / "reports")] if words[0] == "table" else ["--cache", str(tmp_path / "cache")]
        )
    code = f"""
import sys
from benchmark.cli import main
try:
    main({words!r})
except SystemExit as end:
    assert not end.code
print([name for name in ("seaborn", "matplotlib") if name in sys.modules])
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
