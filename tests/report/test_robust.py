"""The report of awkward results: hostile names, damaged files, long labels, one untyped run."""

import io
import json
import re
import warnings
from urllib.parse import unquote

import numpy as np
import pytest
from markupsafe import escape
from PIL import Image

from benchmark.metrics.records import TABLES, Records
from benchmark.report.build import build
from benchmark.report.figures.gallery import _predictions
from benchmark.report.figures.scores import training_curves
from benchmark.report.figures.style import WIDTH, drawing, legend, look, shorten
from benchmark.report.select.groups import groups, shown_weights
from benchmark.report.stats.curves import curves
from benchmark.results import collect, manifest
from tests.support.report_runs import make_run, read_csv, squares, table_rows

HOSTILE = '<script>alert(1)<&"x #%25,seed=1'


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    squares().save(folder)
    return folder


def test_hostile_names_stay_text_and_links_still_work(tmp_path, stored):
    make_run(tmp_path / "results", stored, "<b>a@small", dataset=HOSTILE, classes=[], tissues=[])
    page = build(tmp_path / "results", tmp_path / "out", tmp_path / "cache")
    text = page.read_text()
    assert str(escape(HOSTILE)) in text and "<script>alert" not in text and "<b>a" not in text
    for written in (tmp_path / "out").rglob("*.md"):
        assert not re.search("<(?!/?u>)[a-z/!?]", re.sub("`[^`]*`", "", written.read_text())), written
    links = [h for h in re.findall(r'href="([^"#]+)"', text) if not h.startswith("data:")]
    assert len(links) > 5 and all((page.parent / unquote(link)).is_file() for link in links)
    for anchor in re.findall(r'href="#([^"]+)"', text):
        assert re.fullmatch(r"[A-Za-z0-9-]+", anchor) and f'id="{anchor}"' in text, anchor


def test_damaged_predictions_are_named_once(tmp_path, stored, capsys):
    make_run(tmp_path, stored)
    (run,) = collect.runs(tmp_path)
    content = io.BytesIO()
    instances = np.stack([np.arange(30000), np.arange(30000, 0, -1)]).astype(np.int32).reshape(2, 100, 300)
    np.savez_compressed(content, instances=instances, types=np.ones(59999, np.uint8), offsets=[0, 29999, 59999])
    for damaged in (b"", b"no zip", content.getvalue()[:-40], content.getvalue()[:900] + b"\0" * 90):
        (run.folder / "predictions.npz").write_bytes(damaged)
        assert _predictions(run, [0, 1], 0.25) == {}
        assert capsys.readouterr().err.count("predictions.npz") >= 1
    (run.folder / "predictions.npz").write_bytes(content.getvalue())
    assert _predictions(run, [1], 0.25)[1].instances[0, 0] == 30000


@pytest.mark.parametrize("line", ["[1]", '{"epoch": "a"}', '{"loss": 2}', "{"])
def test_damaged_logs_are_named(tmp_path, stored, capsys, line):
    folder = make_run(tmp_path, stored)
    (folder / "log.jsonl").write_text(f'{{"epoch": 0, "loss": 1.0}}\n{line}\n')
    (group,) = groups(collect.runs(tmp_path))
    assert training_curves(group, tmp_path / "out") is False
    assert "log.jsonl" in capsys.readouterr().err


def test_protocols_must_be_objects(tmp_path, stored, capsys):
    folder = make_run(tmp_path, stored)
    (folder / "metrics.json").write_text('{"protocols": {"cellvit": [1]}}')
    assert collect.runs(tmp_path) == [] and "'cellvit' holds a list" in capsys.readouterr().err


def test_a_test_set_of_two_splits_counts_once(tmp_path, stored):
    """Images without a source: the bands are over images, not over their appearances."""
    records = squares()
    records.images["source"] = ""
    records.save(tmp_path / "records")
    for fold in (1, 2):
        make_run(tmp_path / "results", tmp_path / "records", fold=fold)
    (group,) = groups(collect.runs(tmp_path / "results"))
    assert curves(group)["d_um"].clusters == ["i0", "i1"]


@pytest.mark.filterwarnings("error")
def test_many_variants_stand_in_the_forest_only(tmp_path, stored):
    methods = ["cellvta@small", *(f"cellvta@small,points={k}" for k in range(1, 14))]
    for method in methods:
        folder = make_run(tmp_path / "results", stored, method)
        (folder / "log.jsonl").write_text('{"epoch": 0, "loss": 2.0}\n{"epoch": 1, "loss": 1.0}\n')
    page = build(tmp_path / "results", tmp_path / "out", tmp_path / "cache")
    (folder,) = page.parent.glob("*/*")
    assert {r["method"] for r in read_csv(folder / "training.csv")} == {"cellvta@small"}
    assert {r["method"] for r in read_csv(folder / "forest.csv")} == set(methods[1:])
    assert {r["metric"] for r in read_csv(folder / "components.csv")} == {"bPQ", "mPQ"}, "the table's, not the figure's"
    assert "leave out 13 variants" in page.read_text()


def test_runs_of_different_images_are_no_reason_to_fail(tmp_path, stored, capsys):
    frames = [getattr(squares(), part) for part in TABLES]
    Records(*(frame[frame["image"] == 0].reset_index(drop=True) for frame in frames)).save(tmp_path / "fewer")
    make_run(tmp_path / "results", stored, "cellvta@small")
    make_run(tmp_path / "results", tmp_path / "fewer", "decoder_only@small")
    build(tmp_path / "results", tmp_path / "out", tmp_path / "cache")
    assert "its test images are others" in capsys.readouterr().err


@pytest.mark.parametrize(
    "labels", [["a", "b", "c"], ["m" * 13] * 6, [f"{k}" + "long_" * 12 for k in range(5)], ["m" * 60]]
)
@pytest.mark.filterwarnings("error")
def test_legends_are_not_cut(labels):
    with drawing(4.0) as figure:
        axes = figure.subplots()
        named = {f"{k}{label}": axes.plot([0, 1], [k, k], **look(k))[0] for k, label in enumerate(labels)}
        legend(figure, named)
        content = io.BytesIO()
        figure.savefig(content, format="png", dpi=100)
        box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0 and box.x1 <= WIDTH * 100 + 1, (box.x0, box.x1)
    assert Image.open(content).size[0] == WIDTH * 100


def test_names_are_shortened_in_the_middle():
    assert shorten("abcdefghij", 7) == "abc…hij" and shorten("abc", 7) == "abc"
    assert shown_weights("synthetic pretext:bef3f60687d861b7") == "synthetic pretext:bef3f6"
    assert shown_weights("random") == "random" and shown_weights("a:b") == "a:b"


def test_control_signs_in_names_stay_text(tmp_path, stored):
    """They went to the terminal, the tables and the page as they are."""
    red = "\x1b[31mred"
    make_run(tmp_path / "results", stored, classes=[red], tissues=[red])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a figure would miss the sign in its font
        page = build(tmp_path / "results", tmp_path / "out", tmp_path / "cache")
    written = [path for path in page.parent.rglob("*") if path.suffix in (".md", ".csv", ".html", ".tex")]
    assert len(written) > 5 and not [path for path in written if "\x1b" in path.read_text(encoding="utf-8")]
    assert escape(r"\x1b[31mred") in page.read_text(encoding="utf-8")


def test_removed_provenance_and_cost_leave_a_complete_run(tmp_path, stored, capsys):
    """Files that may be removed were reported as skipped, with the words of an exception."""
    folder = make_run(tmp_path / "results", stored)
    for name in ("provenance.json", "cost.json"):
        (folder / name).unlink()
    (run,) = collect.runs(tmp_path / "results")
    assert run.cost == {} and run.provenance == {}
    page = build(tmp_path / "results", tmp_path / "out", tmp_path / "cache")
    assert "skipped" not in capsys.readouterr().err
    (main,) = page.parent.rglob("main-cellvit.md")
    assert table_rows(main.read_text())[1][:3] == ["cellvta", "tiny (random)", "0.500"]
    (costs,) = page.parent.rglob("cost.md")
    assert table_rows(costs.read_text())[1] == ["cellvta", "tiny (random)", *"–––––––", "1/1"]


@pytest.mark.parametrize("name", ["provenance.json", "cost.json"])
def test_what_was_removed_from_a_run_that_lists_its_files_is_named(name, tmp_path, stored, capsys):
    folder = make_run(tmp_path / "results", stored)
    for holder, listed in (("metrics.json", "config.json"), ("provenance.json", "cost.json")):
        content = json.loads((folder / holder).read_text())
        files = {listed: manifest.entry(folder / listed, manifest.REMOVABLE)}
        (folder / holder).write_text(json.dumps(content | {"files": files}))
    (folder / name).unlink()
    assert len(collect.runs(tmp_path / "results")) == 1
    assert f"{folder / name} was removed; the run is complete" in capsys.readouterr().err
