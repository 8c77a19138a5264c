"""Equal printed digits have equal marks wherever a table stands, and tabulate changes no letter of a cell."""

import re

import pytest

from benchmark.report.page.html import write_page
from benchmark.report.page.section import Section, Topic
from benchmark.report.render.table import Block, Table, markdown, printed_value, ranked
from benchmark.report.render.terminal import shown
from benchmark.report.write import write_tables
from tests.support.report_runs import make_run, squares, table_rows

# each pair is one number in three digits; the third is the next lower one
VALUES = {"cellvta": 0.20712, "hovernet": 0.20688, "cellvit": 0.1994, "classical": 0.1}


@pytest.fixture(scope="module")
def printed(tmp_path_factory):
    """(Markdown, LaTeX, terminal) of runs with VALUES."""
    folder = tmp_path_factory.mktemp("equal")
    squares().save(folder / "stored")
    for name, value in VALUES.items():
        make_run(folder / "results", folder / "stored", f"{name}@small", bpq=value)
    texts = [write_tables(folder / "results", folder / "out", form=form) for form in ("md", "tex")]
    return *texts, write_tables(folder / "results", folder / "out", room=120)


def test_equal_digits_share_first_place_and_the_next_lower_are_second(printed):
    in_markdown, in_latex, on_terminal = printed
    rows = {row[0]: row[2] for row in reversed(table_rows(in_markdown.partition("Cost.")[0]))}
    assert [rows[name] for name in VALUES] == ["**0.207**", "**0.207**", "<u>0.199</u>", "0.100"]
    assert in_latex.count(r"\textbf{0.207}") == 2 and r"\underline{0.199}" in in_latex
    assert on_terminal.count("*0.207*") == 2 and on_terminal.count("_0.199_") == 1
    assert "underline{0.207}" not in in_latex and "_0.207_" not in on_terminal


def test_marks_on_the_page(tmp_path):
    block = Block([["m", "s"], ["a", "0.207"], ["b", "0.207 ± 0.010"], ["c", "0.1"]])
    ranked(block, 1)
    section = Section("g0", "title", "folder", topics=[Topic("Scores", [Table("t", "c", blocks=[block])])])
    write_page(tmp_path / "index.html", [section], "title", "subtitle", "footer")
    cells = re.findall(r'<td class="(best|second)">(.*?)</td>', (tmp_path / "index.html").read_text())
    assert cells == [("best", "0.207"), ("best", "0.207 ± 0.010"), ("second", "0.1")]


@pytest.mark.parametrize(
    "texts, ranks",
    [
        (["0.2", "0.3", "0.1"], [2, 1, None]),
        (["0.207", "0.207", "0.206", "0.206", "0.1"], [1, 1, 2, 2, None]),
        (["0.300 (2/3)", "0.300 ± 0.100", "–", "0.0"], [1, 1, None, None]),
        (["0.5", "0.5"], [None, None]),
        (["0.000", "0.001"], [None, 1]),
        (["-0.2", "0.1", "-0.1"], [None, 1, None]),
        (["–", "–"], [None, None]),
        (["10.0", "9.0"], [1, 2]),
    ],
)
def test_ranks_by_hand(texts, ranks):
    block = Block([["m", "s"], *(["x", text] for text in texts)])
    ranked(block, 1)
    assert [block.ranks.get((i, 1)) for i in range(1, len(texts) + 1)] == ranks


def test_the_number_that_a_cell_begins_with():
    assert [printed_value(t) for t in ("0.598 ± 0.032 (2/3)", "-1.5", "12 rss")] == [0.598, -1.5, 12.0]
    assert printed_value("–") != printed_value("–"), "NaN"


# what a library might take for numbers, for lines between rows, or for space to remove
LETTERS = [
    "1e5",
    "0.10",
    "007",
    "1_000",
    "nan",
    "inf",
    "True",
    "None",
    "-0",
    "+1",
    ".5",
    "1,000.50",
    "",
    "\x01",
    "0x1F",
]


@pytest.mark.parametrize("left", [1, 2])
def test_cells_stay_the_letters_that_they_are(left):
    block = Block([["a", "b"], *([text, text] for text in LETTERS)], left=left)
    table = Table("t", "c", blocks=[block])
    expected = ["\\x01" if text == "\x01" else text for text in LETTERS]
    lines = shown(table, 80).splitlines()[4:]
    assert [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown(table).splitlines()[4:-1]] == [
        [text.replace("\\", "\\\\")] * 2 for text in expected
    ]
    assert [line.split() for line in lines] == [[text] * 2 if text else [] for text in expected]


def test_columns_of_markdown_are_aligned_as_the_block_says():
    table = Table("t", "c", blocks=[Block([["name", "value"], ["x", "1"], ["longer name", "22"]])])
    header, rule, *rows = markdown(table).splitlines()[2:5]
    assert re.fullmatch(r"\|:-+\|-+:\|", rule) and len({len(line) for line in (header, rule, *rows)}) == 1
    assert re.fullmatch(r"\| x +\| +1 \|", rows[0])
