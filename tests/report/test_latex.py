"""LaTeX tables compile: ASCII, balanced, known commands, no table wider or higher than can be read."""

import itertools
import re
import shutil
import subprocess

import pytest

from benchmark.metrics.protocols import PROTOCOLS
from benchmark.report.render import latex as module
from benchmark.report.render.latex import escape, latex
from benchmark.report.render.table import Block, Table, ranked, save
from benchmark.report.write import write_tables
from tests.support.report_runs import make_run, squares

NASTY = (
    "a_b@c=d,e/f 5% & #1 $x$ {y} ~ ^ \\ <u> | \" ' ` × ± µ μ – — − ≥ ≤ → Δ α ² ° ™ “q” … é ü ł Å 机 --x " + "w/" * 30
)
COMMANDS = {
    *("begin", "end", "centering", "caption", "label", "addtocounter", "toprule", "midrule", "bottomrule"),
    *("resizebox", "ifdim", "else", "fi", "width", "linewidth", "multicolumn", "par", "medskip", "footnotesize"),
    *("raggedright", "textbf", "underline", "texttt", "allowbreak", "char", "v", "c", "u", "H", "r"),
    *re.findall(r"\\([A-Za-z]+)", " ".join(module.SIGNS.values())),
}
DOCUMENT = r"""\documentclass[%s]{article}
\usepackage{%s}
\begin{document}
%s
\end{document}
"""


def check(tex: str) -> None:
    """What a compiler would complain about, and what a reader could not see."""
    first, _, rest = tex.partition("\n")
    assert first == r"% needs \usepackage{booktabs,graphicx}" and rest.isascii()
    bare = re.sub(r"\\[^A-Za-z]", "", rest).replace("{!}{%\n", "{!}{\n")  # without \_, \&, accents and such
    assert not re.search(r"[%#~_`]|\^(?![{2-9])", re.sub(r"``", "", bare)), re.search(r".*[%#~_`].*", bare)
    assert set(re.findall(r"\\([A-Za-z]+)", rest)) <= COMMANDS
    depth = list(itertools.accumulate({"{": 1, "}": -1}.get(c, 0) for c in bare))
    assert min(depth) == 0 == depth[-1] and bare.count("$") % 2 == 0
    opened = []
    for what, name in re.findall(r"\\(begin|end)\{([^}]*)\}", rest):
        assert what == "begin" or opened.pop() == name
        opened += [name] * (what == "begin")
    assert not opened and rest.count(r"\label{") == 1 and re.search(r"\\label\{tab:[A-Za-z0-9-]+\}", rest)
    for spec, inside in re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", rest, re.DOTALL):
        rows = [line for line in inside.splitlines() if line.endswith(r" \\") and r"\multicolumn" not in line]
        assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in rows} == {len(spec)} and len(rows) < 60
        assert max(len(re.sub(r"\\[a-z]+|[{}$\\]", "", line)) for line in rows) < 200, rows[0]


def nasty(rows: int = 3, columns: int = 4) -> Table:
    block = Block([["method", NASTY, *(f"c{j}" for j in range(columns))]], left=2, title=NASTY)
    block.rows += [[f"m_{i}", "tiny", *(f"0.{i + j:03d} ± 0.1" for j in range(columns))] for i in range(rows)]
    ranked(block, 2)
    return Table(
        "a_b%c", f"Caption {NASTY} `code {NASTY.replace('`', '')}`", [NASTY, "more"], [block], conclusion=NASTY
    )


def test_any_text_becomes_ascii_that_latex_knows():
    assert escape("Δ bPQ ≤ 5 µm — “é” ł 机") == r"$\Delta$ bPQ $\leq$ 5 $\mu$m --- ``\'{e}'' \l{} [U+673A]"
    assert escape("a|b > `--x_y` – c") == r"a$|$b $>$ \texttt{-{}-x\_y} -- c"
    assert escape("a/" * 20).count(r"/\allowbreak{}") == 20 and "allowbreak" not in escape("a/b")
    for code in (*range(0xA0, 0x2600), 0x4E2D, 0x1F600):
        assert escape(chr(code)).isascii()
    check(latex(nasty(), "folder-ü_50%&x"))


def test_equal_tables_of_two_groups_have_labels_of_their_own(tmp_path):
    for group in ("data set/main-small", "data set/published-small"):
        save(nasty(), tmp_path / group)
    labels = {re.search(r"\\label\{(.*?)\}", p.read_text())[1] for p in tmp_path.rglob("*.tex")}
    assert labels == {"tab:data-set-main-small-a-b-c", "tab:data-set-published-small-a-b-c"}


def test_a_wide_block_is_split_by_columns_and_a_long_one_by_pages():
    wide = nasty(3, 40)
    wide.blocks[0].rows[0][1] = "backbone"
    tex = latex(wide)
    check(tex)
    heads = [line.split(" & ") for line in tex.splitlines() if line.startswith("method &")]
    assert len(heads) > 2 and heads[0][:2] == ["method", "backbone"] and all("backbone" not in h for h in heads[1:])
    shown = [c.removesuffix(r" \\") for head in heads for c in head if c.startswith("c")]
    assert shown == [f"c{j}" for j in range(40)], "every column once, in order"
    assert r"\textbf{0.002 $\pm$ 0.1}" in tex and r"\begin{table*}" in tex
    long = nasty(200, 3)
    long.blocks[0].rows[0][1] = "backbone"
    long = latex(long)
    check(long)
    pages = long.split(r"\begin{table")[1:]
    assert len(pages) > 3 and all("(continued)" in page for page in pages[1:]) and "(continued)" not in pages[0]
    assert [long.count(rf"m\_{i} &") for i in range(200)] == [1] * 200
    assert long.count(r"\addtocounter{table}{-1}") == len(pages) - 1, "one number"


def test_a_block_of_thousands_of_lines_ends(monkeypatch):
    heights = []

    def height(block):
        heights.append(block)
        assert len(heights) < 10_000, "it does not end"
        return measure(block)

    measure = module._height
    monkeypatch.setattr(module, "_height", height)
    table = nasty(1600, 3)
    table.blocks[0].rows[0][1] = "backbone"  # short, so that all columns stand side by side
    tex = latex(table)
    assert [tex.count(rf"m\_{i} &") for i in range(1600)] == [1] * 1600


def test_an_interval_stays_with_its_value_and_a_small_table_takes_one_column():
    cells = [["method", *["bPQ", "95 %"] * 12], ["cellvta", *["0.500", "[0.400, 0.600]"] * 12]]
    heads = [l for l in latex(Table("t", "c", blocks=[Block(cells)])).splitlines() if l.startswith("method &")]
    assert len(heads) > 1 and all(head.endswith(r"95\% \\") or head.endswith(r"95 \% \\") for head in heads)
    assert r"\begin{table}" in latex(Table("t", "c", blocks=[Block([["a", "b"], ["1", "2"]])]))


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """Tables of every kind of run, of variants and of several folds, as .tex files."""
    path = tmp_path_factory.mktemp("latex")
    squares().save(path / "records")
    for method in ("cellvta@small", "decoder_only@small", "cellvta@small,points=8,width=0.5"):
        for fold in (1, 2):
            make_run(path / "results", path / "records", method, fold, arguments={"tune": method[:7]})
    make_run(path / "results", path / "records", "cellvta@paper", dataset="pannuke", kind="published")
    make_run(path / "results", path / "records", "my.tool_1", dataset="a_b%&ü", kind="imported")
    write_tables(path / "results", path / "out", protocol="all")
    return sorted((path / "out").rglob("*.tex"))


def test_every_table_of_a_report_is_whole(tables):
    names = {p.stem.partition("-")[0] for p in tables}
    assert names >= {"main", "cost", "tissues", "types", "sizes", "crowding", "averagings", "published"}
    assert names >= {"significance", "components", "tuning"} and len(tables) > 4 * len(PROTOCOLS)
    for path in tables:
        check(path.read_text())


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="pdflatex is not installed")
@pytest.mark.parametrize("columns", ["onecolumn", "twocolumn"])
def test_every_table_compiles(tables, tmp_path, columns):
    text = "\n\\clearpage\n".join([*(p.read_text() for p in tables), latex(nasty(), "n"), latex(nasty(90, 30), "w")])
    (tmp_path / "a.tex").write_text(DOCUMENT % (columns, "booktabs,graphicx", text))
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "a.tex"], cwd=tmp_path, capture_output=True, timeout=300
    )
    log = (tmp_path / "a.log").read_text(errors="replace")
    wrong = [line for line in log.splitlines() if line.startswith("!") or "Missing character" in line]
    wrong += re.findall(r".*(?:multiply defined|Float too large).*", log)
    assert done.returncode == 0 and not wrong, wrong[:5]
