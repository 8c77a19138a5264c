"""Runs that differ in a setting stand in one table, with a column for it, and apart from published figures."""

import pytest

from benchmark.report.build import build
from benchmark.report.figures.scores import forest
from benchmark.report.select.groups import claimed, groups, variants
from benchmark.report.select.observations import observe
from benchmark.report.sentences import summary
from benchmark.report.tables.comparisons import component_table
from benchmark.report.tables.published_table import published_table
from benchmark.report.write import write_tables
from benchmark.results import collect, load
from tests.support.report_runs import MAIN, make_run, read_csv, squares, table_rows

LR = {"recipe.optimiser.lr": 0.0005}


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    squares().save(folder)
    return folder


def with_settings(results, stored, spec, settings, words, **more):
    """A run whose name has the words, as `experiment.cell` writes it."""
    lr = settings.get("recipe.optimiser.lr", 1e-3)
    recipe = {"epochs": settings.get("recipe.epochs", 5), "optimiser": {"lr": lr}}
    return make_run(results, stored, f"{spec},{words}", settings=settings, spec=spec, recipe=recipe, **more)


@pytest.fixture
def results(tmp_path, stored):
    """The matched run, another learning rate, another experiment's recipe, other weights."""
    folder = tmp_path / "results"
    make_run(folder, stored, bpq=0.5)
    with_settings(folder, stored, "cellvta@small", LR, "recipe.optimiser.lr=0.0005", bpq=0.6)
    with_settings(folder, stored, "cellvta@small", {"recipe.epochs": 9}, "recipe.epochs=9", bpq=0.7)
    weights = {"weights": "uni.bin:1a2b3c4d5e6f"}
    with_settings(folder, stored, "cellvta@small", weights, "weights=uni.bin-1a2b3c4d", weights=weights["weights"])
    return folder


def test_one_table_with_a_column_for_what_differs(results, tmp_path):
    text = write_tables(results, tmp_path / "out")
    header, *rows = table_rows(text.split("\n\n")[1])
    assert header[:4] == ["method", "settings", "backbone (weights)", "bPQ"]
    rows = [[cell.replace("*", "") for cell in row[:3]] for row in rows if set(row[0]) != {"-"}]
    assert rows == [
        ["cellvta (random)", "–", "tiny (random)"],
        ["cellvta", "epochs 9", "tiny (random)"],
        ["cellvta", "optimiser.lr 0.0005", "tiny (random)"],
        ["cellvta (uni.bin:1a2b3c)", "–", "tiny (uni.bin:1a2b3c)"],
    ]
    lines = read_csv(tmp_path / "out" / MAIN / "main-cellvit.csv")
    assert [line["settings"] for line in lines] == ["", "epochs 9", "optimiser.lr 0.0005", ""]
    assert len({line["method"] for line in lines}) == 4
    assert "Not matched: the runs' recipes differ" not in text, "the column says it"
    assert read_csv(tmp_path / "out" / MAIN / "cost.csv")[1]["settings"] == "epochs 9"


def test_no_column_where_no_row_has_settings(tmp_path, stored):
    make_run(tmp_path / "results", stored)
    text = write_tables(tmp_path / "results", tmp_path / "out")
    assert table_rows(text)[0][:2] == ["method", "backbone (weights)"] and "settings" not in text


def test_what_the_column_does_not_show_is_said(tmp_path, stored):
    """Runs stored before settings were kept have none, but a recipe."""
    make_run(tmp_path, stored, recipe={"epochs": 5, "clip": 2.0})
    make_run(tmp_path, stored, "hovernet@small", recipe={"epochs": 5, "clip": 1.0})
    with_settings(tmp_path, stored, "cellvit@small", {"recipe.epochs": 9}, "recipe.epochs=9")
    (group,) = groups(collect.runs(tmp_path))
    (note,) = [note for note in group.notes() if note.startswith("Not matched: the runs' recipes")]
    assert "clip" in note and "epochs" not in note


def test_labels_are_unique_where_there_is_no_column(results, tmp_path):
    (group,) = groups(collect.runs(results))
    labels = [row.label for row in group.rows]
    assert labels == [
        *("cellvta (random)", "cellvta (epochs 9)", "cellvta (optimiser.lr 0.0005)", "cellvta (uni.bin:1a2b3c)"),
    ]
    page = build(results, tmp_path / "out", tmp_path / "cache")
    points = read_csv(page.parent / MAIN / "accuracy_cost.csv")
    assert {point["label"] for point in points} == {*labels} and {point["settings"] for point in points} > {"epochs 9"}


def test_values_behind_a_hash_keep_rows_apart(tmp_path, stored):
    for name, digits in (("flip", "1a2b3c4d"), ("turn", "5e6f7a8b")):
        settings = {"recipe.augment": [{"name": name}]}
        with_settings(tmp_path, stored, "cellvta@small", settings, f"recipe.augment=~{digits}")
    (group,) = groups(collect.runs(tmp_path))
    assert len({row.label for row in group.rows}) == len({row.settings for row in group.rows}) == 2


def test_variants_are_held_against_the_row_of_their_own_settings(tmp_path, stored):
    make_run(tmp_path, stored, bpq=0.5)
    make_run(tmp_path, stored, "cellvta@small,points=8", spec="cellvta@small,points=8", bpq=0.55)
    with_settings(tmp_path, stored, "cellvta@small", LR, "recipe.optimiser.lr=0.0005", bpq=0.7)
    with_settings(tmp_path, stored, "cellvta@small,points=8", LR, "recipe.optimiser.lr=0.0005", bpq=0.9)
    (group,) = groups(collect.runs(tmp_path))
    found = {row.label: [variant.method for variant in variants(group, row)] for row in group.rows}
    assert {label: names for label, names in found.items() if names} == {
        "cellvta": ["cellvta@small,points=8"],
        "cellvta (optimiser.lr 0.0005)": ["cellvta@small,points=8,recipe.optimiser.lr=0.0005"],
    }
    observed = observe(group, "cellvit")
    table = component_table(group, observed, "caption", [])
    assert {record["variant"] for record in table.records} == {"points=8"}
    assert {(record["a"], record["b"]) for record in table.records} == {
        ("cellvta,points=8", "cellvta"),
        ("cellvta,points=8 (optimiser.lr 0.0005)", "cellvta (optimiser.lr 0.0005)"),
    }
    forest(group, observed, tmp_path / "out")
    lines = read_csv(tmp_path / "out" / "forest.csv")
    assert [(line["full"], line["variant"]) for line in lines] == [
        ("cellvta", "points=8"),
        ("cellvta (optimiser.lr 0.0005)", "points=8"),
    ]


def test_the_claim_is_tested_on_rows_that_are_alike(tmp_path, stored):
    with_settings(tmp_path, stored, "cellvta@small", LR, "recipe.optimiser.lr=0.0005")
    make_run(tmp_path, stored, "decoder_only@small")
    (group,) = groups(collect.runs(tmp_path))
    assert claimed(group) is None
    sentences = summary(group, "cellvit", observe(group, "cellvit"), {}, []).finding
    assert sentences and not any("decoder_only in bPQ" in sentence for sentence in sentences)
    with_settings(tmp_path, stored, "decoder_only@small", LR, "recipe.optimiser.lr=0.0005")
    (group,) = groups(collect.runs(tmp_path))
    assert [row.settings for row in claimed(group)] == ["optimiser.lr 0.0005"] * 2
    with_settings(tmp_path, stored, "cellvta@small", {"optimiser": {"lr": 0.002}}, "recipe.optimiser.lr=0.002")
    asked = ["cellvta@small,recipe.optimiser.lr=0.002", "decoder_only@small,recipe.optimiser.lr=0.0005"]
    (group,) = groups(collect.runs(tmp_path), methods=asked)
    assert [row.method for row in claimed(group)] == asked, "each has the rate that the experiment chose for it"


def test_a_published_figure_is_not_set_beside_settings(tmp_path, stored):
    more = {"dataset": "pannuke", "kind": "published", "fold": 1}
    with_settings(tmp_path, stored, "cellvta@paper", LR, "recipe.optimiser.lr=0.0005", **more)

    def measured():
        (group,) = groups(collect.runs(tmp_path), "pannuke")
        values = {run.folder: run.metrics["protocols"]["cellvit"] for run in group.runs}
        table = published_table(group, "cellvit", values)
        return {
            r["measured"] for r in table.records if (r["method"], r["variant"]) == ("cellvta", "paper")
        }, table.notes

    assert all(value != value for value in measured()[0]), "nothing was measured under the published recipe"
    for digits, bpq in (("1a2b3c4d", 0.4), ("5e6f7a8b", 0.8)):
        weights = {"weights": f"uni.bin:{digits}0000"}
        words, more["weights"] = f"weights=uni.bin-{digits}", weights["weights"]
        with_settings(tmp_path, stored, "cellvta@paper", weights, words, bpq=bpq, **more)
    values, notes = measured()
    assert 0.4 in values and 0.8 not in values
    assert any("the first of 2 rows of it" in note and "uni.bin:1a2b3c" in note for note in notes)


def test_expected_rows_have_their_settings(tmp_path, stored):
    make_run(tmp_path, stored)
    expected = ["cellvta@small", "cellvta@small,recipe.epochs=9", "cellvta@small,weights=random"]
    (group,) = groups(collect.runs(tmp_path), "synthetic", methods=expected)
    assert [(row.settings, len(row.runs)) for row in group.rows] == [("", 1), ("epochs 9", 0), ("", 0)]


def test_figures_of_many_rows_keep_the_plain_ones(tmp_path, stored):
    make_run(tmp_path, stored)
    for epochs in range(10, 23):
        with_settings(tmp_path, stored, "cellvta@small", {"recipe.epochs": epochs}, f"recipe.epochs={epochs}")
    (group,) = groups(collect.runs(tmp_path))
    assert len(group.rows) == 14 and [row.method for row in group.drawn] == ["cellvta@small"]


def test_settings_in_the_frame_of_runs(results):
    frame = load(results).runs
    assert sorted(frame["settings"]) == ["", "", "epochs 9", "optimiser.lr 0.0005"]
