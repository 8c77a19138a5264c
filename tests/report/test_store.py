"""What tables keep of records between two calls, and when it is computed anew."""

import pytest

from benchmark.report import read_runs
from benchmark.report.page import html
from benchmark.report.page.html import write_page
from benchmark.report.page.section import Section, Topic
from benchmark.report.render.table import Block, Table
from benchmark.report.select import store
from benchmark.report.write import write_tables
from benchmark.results.run import Run
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.files import write_json
from tests.support.drawn_records import drawn
from tests.support.report_runs import make_run, squares


@pytest.fixture
def results(tmp_path):
    squares().save(tmp_path / "records")
    for method in ("cellvta@small", "hovernet@small"):
        for seed in range(2):
            folder = RunFolder(make_run(tmp_path / "results", tmp_path / "records", method, seed=seed))
            write_json(folder.metrics, folder.stored(folder.metrics) | {"key": f"{method}{seed}"})
            folder.list_files()
    return tmp_path / "results"


@pytest.fixture
def read(monkeypatch) -> list:
    """The runs whose records are read from now on."""
    seen, records = [], Run.records
    monkeypatch.setattr(Run, "records", lambda run: seen.append(run.folder) or records(run))
    return seen


def tables(results, out) -> dict:
    """Name -> content of the files that `table` writes, but for what it keeps."""
    write_tables(results, out)
    files = [path for path in out.rglob("*.*") if path.parent.name != "_scores"]
    return {path.relative_to(out): path.read_bytes() for path in files}


def test_records_are_read_once_and_the_tables_are_the_same(results, tmp_path, read):
    first = tables(results, tmp_path / "out")
    assert len(read) == len(set(read)) == 4, "all that is needed of a run, at one reading"
    read.clear()
    assert tables(results, tmp_path / "out") == first and read == []
    assert tables(results, tmp_path / "elsewhere") == first and len(read) == 4
    names = sorted(path.name.rpartition("-")[0] for path in (tmp_path / "out/_scores").glob("*.parquet"))
    assert names == ["crowding", "images-cellvit", "sizes", "sizes-inner"]


@pytest.mark.parametrize("cores", [1, 2])
def test_runs_that_are_many_are_read_by_several_processes(results, tmp_path, monkeypatch, read, capfd, cores):
    (results / "synthetic/hovernet@small/fold1-seed0/nuclei.parquet").write_bytes(b"damaged")
    alone = tables(results, tmp_path / "alone")
    damaged = capfd.readouterr().err
    assert damaged.count("nuclei.parquet") >= 1
    read.clear()
    monkeypatch.setattr(read_runs, "MANY", 3)
    monkeypatch.setattr(read_runs, "BATCH", 1)
    monkeypatch.setattr(read_runs, "usable_cores", lambda: cores)
    assert tables(results, tmp_path / "together") == alone
    assert capfd.readouterr().err == damaged, "a damaged run is named as it was, and once"
    here = {folder for folder in read if "seed0" not in str(folder) or "cellvta" in str(folder)}
    assert len(here) == (3 if cores == 1 else 0), "this process reads none of those that others read"


def test_other_records_are_read_and_the_rest_is_kept(results, tmp_path, read):
    first = tables(results, tmp_path / "out")
    changed = RunFolder(results / "synthetic/cellvta@small/fold1-seed0")
    drawn(2, 10).save(changed.path)
    changed.list_files()
    read.clear()
    second = tables(results, tmp_path / "out")
    assert read == [changed.path] and second != first and second == tables(results, tmp_path / "anew")


def test_a_change_of_the_code_of_scores_computes_all_anew(results, tmp_path, read, monkeypatch):
    tables(results, tmp_path / "out")
    monkeypatch.setattr(store, "_code", lambda: "0123456789ab")
    read.clear()
    tables(results, tmp_path / "out")
    assert len(read) == 4


@pytest.mark.parametrize("end", ["parquet", "json"])
@pytest.mark.parametrize("at", [0.1, 0.5, 0.95, None])
def test_a_damaged_file_is_named_and_computed_anew(results, tmp_path, read, capsys, at, end):
    first = tables(results, tmp_path / "out")
    (path,) = (tmp_path / "out/_scores").glob(f"images-*.{end}")
    data = bytearray(path.read_bytes())
    if at is None:
        path.unlink()
    else:
        data[int(at * len(data))] ^= 1
        path.write_bytes(data)
    read.clear()
    assert tables(results, tmp_path / "out") == first
    named = f"skipped {path.with_suffix('.parquet')}: its frames are computed anew" in capsys.readouterr().err
    assert len(read) == 4 and named == (at is not None or end == "json")


def test_runs_without_a_list_of_files_are_read_each_time(results, tmp_path, read):
    make_run(results, tmp_path / "records", "classical@small")
    tables(results, tmp_path / "out")
    read.clear()
    tables(results, tmp_path / "out")
    assert {path.parent.name for path in read} == {"classical@small"}


def test_the_page_shows_the_first_lines_of_a_long_table(tmp_path, monkeypatch):
    monkeypatch.setattr(html, "LINES", 3)
    blocks = [Block([["a"], *([f"line {k}"] for k in range(count))]) for count in (3, 5)]
    section = Section("g0", "title", "folder", topics=[Topic("Runs", [Table("runs", "Runs", blocks=blocks)])])
    write_page(tmp_path / "index.html", [section], "title", "subtitle", "footer")
    text = (tmp_path / "index.html").read_text()
    assert text.count("<td>line") + text.count('<td class="left">line') == 6 and "line 3" not in text
    assert text.count("The first 3 of 5 lines; the csv has all.") == 1
