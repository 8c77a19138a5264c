"""Published figures beside measured ones: never in the same cell, never of different averagings."""

import pytest

from benchmark.report.select.groups import groups
from benchmark.report.tables.published_table import published_table
from benchmark.report.write import write_tables
from benchmark.results import collect
from tests.support.report_runs import make_run, squares


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    squares().save(folder)
    return folder


COUNTS = {1: 2722, 2: 2722, 3: 2656}


def table_of(results, dataset="pannuke", counts=COUNTS):
    (group,) = groups(collect.runs(results), dataset)
    for run in group.runs:
        run.metrics.pop("n_images", None)
        run.metrics.update({"n_images": counts[run.id.split]} if counts else {})
    values = {r.folder: r.metrics["protocols"]["cellvit"] | {"tissue_mean/mPQ": 0.3} for r in group.runs}
    return published_table(group, "cellvit", values)


def line(table, average, method="cellvta", variant="paper", metric="mPQ"):
    wanted = {"average": average, "method": method, "variant": variant, "metric": metric}
    return next(r for r in table.records if wanted.items() <= r.items())


def test_like_is_set_beside_like(tmp_path, stored):
    """Images against images (0.506, 0.496), tissues against tissues (0.509, 0.498)."""
    make_run(tmp_path, stored, "cellvta@paper", dataset="pannuke", fold=1)
    table = table_of(tmp_path)
    published = {(a, m): line(table, a, m, v)["published"] for a in ("images", "tissues") for m, v in ROWS}
    assert {k: f"{v:.3f}" for k, v in published.items()} == {
        ("images", "cellvta"): "0.506",
        ("images", "cellvit"): "0.496",
        ("tissues", "cellvta"): "0.509",
        ("tissues", "cellvit"): "0.498",
    }
    assert [block.title for block in table.blocks] == ["mean over test images", "mean over 19 tissues"]


ROWS = (("cellvta", "paper"), ("cellvit", "sam_h"))


def test_a_difference_needs_every_published_split(tmp_path, stored):
    make_run(tmp_path, stored, "cellvta@paper", dataset="pannuke", fold=1, bpq=0.6)
    one = line(table_of(tmp_path), "images")
    assert one["measured"] == pytest.approx(0.3) and one["difference"] != one["difference"]
    for fold, bpq in ((2, 0.7), (3, 0.8)):
        make_run(tmp_path, stored, "cellvta@paper", dataset="pannuke", fold=fold, bpq=bpq)
    whole = line(table_of(tmp_path), "images")
    assert whole["measured"] == pytest.approx(0.35)
    assert whole["difference"] == pytest.approx(0.35 - whole["published"])
    assert line(table_of(tmp_path), "tissues")["measured"] == pytest.approx(0.3)
    other = line(table_of(tmp_path), "images", "cellvit", "sam_h")
    assert other["measured"] != other["measured"], "another method's runs do not count"


def test_a_difference_needs_the_published_number_of_images(tmp_path, stored):
    for fold in (1, 2, 3):
        make_run(tmp_path, stored, "cellvta@paper", dataset="pannuke", fold=fold, bpq=0.6)
    whole, part = table_of(tmp_path), table_of(tmp_path, counts=COUNTS | {2: 36})
    assert line(whole, "images")["difference"] == line(whole, "images")["difference"]
    assert line(part, "images")["difference"] != line(part, "images")["difference"]
    assert line(part, "images")["measured"] == line(whole, "images")["measured"]
    (note,) = set(part.notes) - set(whole.notes)
    assert "36 instead of 2722 on split 2" in note
    unknown = table_of(tmp_path, counts=None)
    assert line(unknown, "images")["difference"] != line(unknown, "images")["difference"]


def test_no_published_figures_no_block(tmp_path, stored):
    make_run(tmp_path, stored)
    assert table_of(tmp_path, "synthetic") is None
    assert "Published" not in write_tables(tmp_path, tmp_path / "out")


def test_the_block_stands_apart_in_make_table(tmp_path, stored):
    make_run(tmp_path, stored, "cellvta@paper", dataset="pannuke")
    text = write_tables(tmp_path, tmp_path / "out")
    main, block = text.split("**Published figures")
    assert "0.506" not in main and "0.506" in block and "not measured here" in block
    assert (tmp_path / "out/pannuke/main-paper/published-cellvit.csv").is_file()
