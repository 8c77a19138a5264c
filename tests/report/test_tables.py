"""Tables and the first figure, from run folders made here: arithmetic and file contents."""

import csv
import io
import math
import os
import random
import re
import subprocess
import sys
import time

import pytest

from benchmark.metrics.protocols import PROTOCOLS
from benchmark.report.build import build
from benchmark.report.render.latex import escape, latex
from benchmark.report.render.table import Block, Table, markdown, to_csv
from benchmark.report.stats.summary import summarise
from benchmark.report.write import write_tables
from benchmark.runtime.paths import ROOT
from tests.support.report_runs import MAIN, make_run, read_csv, squares, table_rows


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records")
    squares().save(folder)
    return folder


def test_summary_by_hand():
    s = summarise([0.5, 0.6, 0.7, None, math.nan, "x"], expected=4)
    assert (s.n, s.expected, s.complete) == (3, 4, False)
    assert s.mean == pytest.approx(0.6) and s.sd == pytest.approx(0.1)  # sqrt((.01 + 0 + .01) / 2)
    assert s.text() == "0.600 ± 0.100 (3/4)"
    assert summarise([0.25], 1).text() == "0.250" and summarise([], 3).text() == "–"
    assert summarise([2e6, 4e6], 3).text(1, 1e-6, "M") == "3.0 ± 1.4 M (2/3)"


def test_main_table(tmp_path, stored):
    for fold, bpq in ((1, 0.5), (2, 0.6), (3, 0.7)):
        make_run(tmp_path / "results", stored, "cellvta@small", fold, 0, bpq)
    for fold in (1, 3):
        make_run(tmp_path / "results", stored, "classical@small", fold, 0, 0.3, cost={"params": 0, "trainable": 0})
    expected = ["cellvta@small", "hovernet@small", "classical@small"]
    text = write_tables(tmp_path / "results", tmp_path / "out", experiment_methods=expected, dataset="synthetic")
    header, cellvta, hovernet, classical, cost_header, *costs = table_rows(text)
    assert header[:6] == ["method", "backbone (weights)", "bPQ", "95 %", "mPQ", "95 %"]
    assert header[6:] == ["DQ", "SQ", "detection F1", "95 %", "F1 Neoplastic", "F1 Inflammatory", "runs"]
    assert cellvta[:5] == ["cellvta", "tiny (random)", "**0.600 ± 0.100**", "–", "**0.300 ± 0.050**"]
    assert hovernet == ["hovernet", *"–" * 11, "0/3"]
    assert classical[1:3] == ["–", "<u>0.300 ± 0.000 (2/3)</u>"] and classical[-1] == "2/3"
    assert cost_header[2:5] == ["params (M)", "trainable (M)", "GFLOPs"]
    assert costs[0][2:] == ["1.50", "0.25", "7.5", "12.0 ± 1.0", "3.0 ± 0.0", "512 ± 0 rss", "1.0 ± 0.0", "3/3"]
    version = PROTOCOLS["cellvit"].version
    for told in (
        f"protocol `cellvit` version {version}",
        "matched recipe (`main`)",
        "preset `small`",
        "0123456789",
        "3 folds (1, 2, 3) × 1 seed (0)",
        "python -m benchmark run",
        "2 cores",
        "synthetic",
    ):
        assert told in text, told
    folder = tmp_path / "out" / MAIN
    assert text == f"{(folder / 'main-cellvit.md').read_text()}\n{(folder / 'cost.md').read_text()}"
    rows = read_csv(tmp_path / "out" / MAIN / "main-cellvit.csv")
    assert [r["method"] for r in rows] == expected
    assert float(rows[0]["bPQ_mean"]) == pytest.approx(0.6) and float(rows[0]["bPQ_sd"]) == pytest.approx(0.1)
    assert (rows[2]["bPQ_n"], rows[2]["expected"], rows[1]["bPQ_mean"]) == ("2", "3", "")
    assert rows[0]["AJI_mean"] == ""
    assert read_csv(folder / "cost.csv")[0]["peak_memory_rss_bytes_mean"] == str(512 * 2**20)


def test_scores_that_a_protocol_adds_have_columns_of_their_own(tmp_path, stored):
    make_run(tmp_path / "results", stored, "cellvta@small", 1, 0, version=-1)  # scored anew from its records
    headers = []
    for protocol in ("cellvit", "conic"):
        text = write_tables(tmp_path / "results", tmp_path / "out", protocol=protocol, dataset="synthetic")
        headers += [line for line in text.splitlines() if line.startswith("| method") and "bPQ" in line]
    assert ["R2" in line for line in headers] == [False, True]
    rows = read_csv(tmp_path / "out" / MAIN / "main-conic.csv")
    assert -1e9 < float(rows[0]["R2_mean"]) <= 1
    assert not {"precision_mean", "accuracy_mean", "pooled/bPQ_mean", "PQ_Neoplastic_mean"} & rows[0].keys()


def test_latex_is_booktabs_and_escaped(tmp_path, stored):
    for fold in (1, 2):
        make_run(tmp_path, stored, "decoder_only@small", fold)
    write_tables(tmp_path, tmp_path / "out")
    for name in ("main-cellvit", "tissues-cellvit", "types-cellvit", "sizes"):
        tex = (tmp_path / "out" / MAIN / f"{name}.tex").read_text()
        assert r"\toprule" in tex and r"\bottomrule" in tex and r"decoder\_only" in tex
        for line in tex.splitlines()[1:]:
            line = line.removesuffix("{!}{%")  # a line end that is no space
            assert not re.search(r"(?<!\\)[%#]", line), line
            assert not re.search(r"(?<!\\)_", line), line
            assert not set(line) & set("±–×µ≥−`"), line
        for spec, inside in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", tex, re.DOTALL):
            body = [line for line in inside.splitlines() if line.endswith(r" \\") and r"\multicolumn" not in line]
            assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in body} == {len(spec)}
    assert escape("`a --b_c` – `") == r"a -{}-b\_c -- "
    assert escape("`a --b_c` –") == r"\texttt{a -{}-b\_c} --"
    assert r"Colon\_x" in (tmp_path / "out" / MAIN / "tissues-cellvit.tex").read_text()
    assert escape("a_b & 5% {x} ~ \\ < µm") == r"a\_b \& 5\% \{x\} \textasciitilde{} \textbackslash{} $<$ $\mu$m"


def test_breakdowns(tmp_path, stored):
    for fold, bpq in ((1, 0.5), (2, 0.7)):
        make_run(tmp_path, stored, "cellvta@small", fold, 0, bpq)
    make_run(tmp_path, stored, "hovernet@small", 1, 0, 0.4)
    write_tables(tmp_path, tmp_path / "out")
    tissues = table_rows((tmp_path / "out" / MAIN / "tissues-cellvit.md").read_text())
    assert ["Breast", "0.600 ± 0.141", "0.400 (1/2)"] in tissues and [
        "overall mPQ",
        "0.300 ± 0.071",
        "0.200 (1/2)",
    ] in tissues
    types = table_rows((tmp_path / "out" / MAIN / "types-cellvit.md").read_text())
    assert ["Inflammatory", "–", "–"] in types and ["Neoplastic", "0.300 ± 0.000", "0.300 (1/2)"] in types
    rows = [r for r in read_csv(tmp_path / "out" / MAIN / "tissues-cellvit.csv") if r["tissue"] == "Colon_x"]
    assert {(r["method"], r["metric"], r["n"]) for r in rows} == {
        (m, k, n) for m, n in (("cellvta@small", "2"), ("hovernet@small", "1")) for k in ("bPQ", "mPQ")
    }


def test_size_table_by_hand(tmp_path, stored):
    """Squares of 12 px are 3.4 µm wide (half are found), of 28 px 7.9 µm, of 56 px 15.8 µm."""
    for fold in (1, 2):
        make_run(tmp_path, stored, fold=fold)
    write_tables(tmp_path, tmp_path / "out")
    rows = {(r["metric"], r["d_from_um"]): r for r in read_csv(tmp_path / "out" / MAIN / "sizes.csv")}
    assert rows["recall", ""]["d_to_um"] == "4" and float(rows["recall", ""]["mean"]) == pytest.approx(0.5)
    assert float(rows["PQ", ""]["mean"]) == pytest.approx(11 / 13 * 24 / (24 + 12), abs=1e-6)
    assert float(rows["PQ", "6"]["mean"]) == pytest.approx(27 / 29, abs=1e-6)
    assert float(rows["PQ", "8"]["mean"]) == pytest.approx(55 / 57, abs=1e-6)
    assert rows["PQ", "8"]["n_true"] == "64" and rows["PQ", "4"]["n_true"] == "0"  # 2 folds x 2 images x 16
    assert rows["PQ", "6"]["sd"] == "0" and rows["PQ", "6"]["n"] == "2"
    text = (tmp_path / "out" / MAIN / "sizes.md").read_text()
    assert "< 4 µm" in text and "4–6 µm" in text and "≥ 8 µm" in text


@pytest.mark.filterwarnings("error")
def test_figures(tmp_path, stored):
    for method in ("cellvta@small", "decoder_only@small", "cellvta@small,points=8"):
        for fold in (1, 2):
            make_run(tmp_path / "results", stored, method, fold)
    before = {}
    for _ in range(2):
        build(tmp_path / "results", tmp_path / "out", tmp_path / "no cache")
        files = {p: p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file()}
        assert not before or files == before, "the same results give the same files"
        before = files
    folder = tmp_path / "out" / MAIN
    figures = {p.stem for p in folder.glob("*.png")}
    drawn = {"pq_by_size", "pq_by_crowding", "gain", "tissues", "accuracy_cost", "forest", "confusion"}
    assert figures == drawn | {"accuracy"}
    for stem in figures:
        assert (folder / f"{stem}.png").read_bytes()[:4] == b"\x89PNG"
        assert (folder / f"{stem}.pdf").read_bytes()[:4] == b"%PDF"
    rows = [r for r in read_csv(folder / "pq_by_size.csv") if r["method"] == "cellvta@small"]
    near = min(rows, key=lambda r: abs(float(r["x_um"]) - 7.9))
    assert float(near["PQ"]) == pytest.approx(27 / 29, abs=1e-3) and near["drawn"] == "1"
    assert float(rows[0]["recall"]) == pytest.approx(0.5, abs=1e-3), "half of the small squares are missed"
    assert {float(r["PQ"]) for r in read_csv(folder / "gain.csv") if r["drawn"] == "1"} == {0.0}
    page = (tmp_path / "out" / "index.html").read_text()
    assert "No pictures" in page and "One fold and one seed" not in page


def test_csv_for_pipes(tmp_path, stored):
    for dataset in ("synthetic", "pannuke"):
        make_run(tmp_path, stored, dataset=dataset, bpq=0.25)
    text = write_tables(tmp_path, tmp_path / "out", form="csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(r["dataset"], r["bPQ_mean"]) for r in rows] == [("pannuke", "0.25"), ("synthetic", "0.25")]
    tex = write_tables(tmp_path, tmp_path / "out", form="tex")
    assert r"\label{tab:pannuke-main-small-cost}" in tex and r"\label{tab:synthetic-main-small-cost}" in tex


def strange_texts(count):
    """Texts from the signs that mean something in csv, Markdown or HTML, always the same ones."""
    rng = random.Random(0)
    signs = [
        "=",
        "+",
        "-",
        "@",
        "\t",
        "\r",
        "\n",
        "＝",
        "'",
        '"',
        ",",
        ";",
        "|",
        "`",
        "``",
        "*",
        "\\",
        "<",
        ">",
        "&",
        " ",
    ]
    signs += ["[", "](", ")", "<b>", "&lt;", "#", "_", "!", "a", "1", "cmd"]
    return ["".join(rng.choices(signs, k=rng.randint(1, 9))) for _ in range(count)]


@pytest.mark.parametrize("formula", ["=cmd|'/C calc'!A0", "+1+cmd", "-2+3", "@SUM(A1)", " =1", "＝1", "-"])
def test_formulas_are_text_in_csv(formula):
    rows = list(csv.reader(io.StringIO(to_csv([{formula: 1, "b": formula}]), newline="")))
    assert rows == [["'" + formula, "b"], ["1", "'" + formula]]


def test_separators_and_returns_in_a_name_begin_no_formula():
    text = to_csv([{"a": "x;=1", "b": "x\r=1", "c": "\t=1"}])
    assert text == "a,b,c\nx;'=1,\"x\n'=1\",'\t'=1\n"


def test_csv_of_names_comes_back_and_no_cell_begins_a_formula():
    records = [{"name": text, "value": -0.5} for text in strange_texts(2000)]
    back = list(csv.DictReader(io.StringIO(to_csv(records), newline="")))
    for record, row in zip(records, back, strict=True):
        name = record["name"].replace("\r\n", "\n").replace("\r", "\n")
        assert row["name"].replace("'", "") == name.replace("'", "")
        assert row["value"] == "-0.5"
        for part in re.split(r"[;\n]", row["name"]):  # what a spreadsheet set to semicolons takes for cells
            assert not re.match(r" *[-=+@\t＝]", part) or re.fullmatch(r"[+-]1+", row["name"]), row


@pytest.mark.parametrize("number", ["-0.5", "+3", "-1e-5", "-inf", "0.1", "–", "a-b", "cellvta@small"])
def test_numbers_and_harmless_text_stay_in_csv(number):
    assert to_csv([{"a": number}]) == f"a\n{number}\n"


def live(markdown_text):
    """What is left of Markdown when spans of code and escaped signs are taken out."""
    return re.sub(r"(?<!`)(`+)(?!`)(.*?[^`])\1(?!`)", "…", re.sub(r"\\[!-/:-@\[-`{-~]", "…", markdown_text))


def test_names_are_text_in_markdown():
    for text in [*strange_texts(500), "<script>alert(1)</script>", "[a](javascript:b)", "![](http://c)"]:
        name = text.strip() or "x"
        cells = markdown(Table("t", "c", [], [Block([["a", "b"], [name, "1"]], ranks={(1, 1): 1})]))
        row = cells.splitlines()[-2]
        assert not re.search(r"<(?!/?u>)[a-z/!?]|`|\]\(", bare := re.sub(r"\\[!-/:-@\[-`{-~]", "…", row)), name
        assert bare.count("|") == 3 and bare.count("*") in (4, 4 + (name.count("*") == 1)), (
            name
        )  # the borders, and what is bold
        for sentence in (f"Of {name}.", f"`a` {name} `b`", f"<{name}"):
            for table in (
                Table("t", sentence),
                Table("t", "c", [sentence]),
                Table("t", "c", [], [Block([["a"]], title=sentence)]),
                Table("t", "c", conclusion=sentence),
            ):
                lines = markdown(table).splitlines()
                assert not any(re.search(r"<[a-z/!?]|`|\]\(", live(line)) for line in lines), sentence
                assert len([line for line in lines if line]) <= 4
    (said, *_) = markdown(Table("t", "protocol `a<b` of x")).splitlines()
    assert said == "**protocol `a<b` of x**"


def test_csv_and_markdown_hold_awkward_text():
    table = Table(
        "t", "c", ["n"], [Block([["a", "b"], ["x|y", "1"]])], [{"a": 'say "x", y', "b": math.nan}, {"c": 0.5}]
    )
    assert to_csv(table.records) == 'a,b,c\n"say ""x"", y",,\n,,0.5\n'
    assert "x\\|y" in markdown(table) and r"\label{tab:t}" in latex(table)


def test_a_table_takes_seconds(tmp_path, stored):
    make_run(tmp_path, stored)
    code = "import sys; from pathlib import Path; from benchmark.report.write import write_tables; "
    code += f"print(write_tables(Path({str(tmp_path)!r}), Path({str(tmp_path / 'out')!r}))); "
    code += "assert 'torch' not in sys.modules"
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "cellvta" in done.stdout and time.perf_counter() - start < 30
