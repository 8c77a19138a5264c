"""Tables within the width of a terminal: which columns, which are named, and that pipes get everything."""

import os
import re
import subprocess
import sys

import pytest

from benchmark.cli import main
from benchmark.experiment.grid import cells
from benchmark.experiment.launch import status
from benchmark.report.render.table import Block, Table
from benchmark.report.render.terminal import shown
from benchmark.report.write import write_tables
from benchmark.runtime import terminal
from benchmark.runtime.paths import ROOT
from tests.support.grids import setup
from tests.support.report_runs import MAIN, make_run, squares

WIDTHS = (60, 80, 120, 200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Results of two rows that take a setting to tell apart, and others, of three folds."""
    folder = tmp_path_factory.mktemp("wide")
    squares().save(folder / "stored")
    lr = "cellvta@small,recipe.optimiser.lr=0.0001"
    for fold in (1, 2, 3):
        make_run(folder / "results", folder / "stored", fold=fold, bpq=0.5 + fold / 100)
        make_run(folder / "results", folder / "stored", "cellvta@small,spatial_prior=false", fold=fold, bpq=0.4)
        make_run(folder / "results", folder / "stored", lr, fold=fold, settings={"recipe.optimiser.lr": 1e-4})
    return folder


@pytest.mark.parametrize("width", WIDTHS)
def test_what_a_table_prints_fits_the_terminal_and_names_what_it_leaves_out(folder, width):
    text = write_tables(folder / "results", folder / "out", room=width)
    main = text.partition("\nCost.")[0]
    where = folder / "out" / MAIN / "main-cellvit"
    assert [line for line in text.splitlines() if len(line) > width and str(folder) not in line] == []
    columns = next(line for line in main.splitlines() if line.startswith("---"))
    names = {"bPQ", "mPQ", "DQ", "SQ", "detection F1", "runs", "backbone (weights)", "F1 Neoplastic", "mPQ 95 %"}
    left_out = " ".join(main.split()).partition("Left out for want of width: ")[2].partition("; all in ")[0]
    left_out = set(left_out.split(", ")) - {""}
    everything = {"method", "settings", "bPQ 95 %", "detection F1 95 %", "F1 Inflammatory", *names}
    assert left_out < everything and len(columns.split()) + len(left_out) == len(everything)
    assert not left_out & {"method", "settings", "bPQ"}, "rows can be told apart, and compared"
    assert ("mPQ" in left_out) == (width < 80) and (left_out == set()) == (width == 200)
    if left_out:
        assert f"{where}.md" in " ".join(main.split()) and where.with_suffix(".md").is_file()


def test_on_paper_and_in_pipes_nothing_is_left_out(folder):
    text = write_tables(folder / "results", folder / "out")
    where = folder / "out" / MAIN
    assert text == f"{(where / 'main-cellvit.md').read_text()}\n{(where / 'cost.md').read_text()}"
    assert "Left out" not in text and max(map(len, text.splitlines())) > 200


@pytest.mark.parametrize("words, whole", [((), False), (("--format", "md"), True)])
def test_a_terminal_of_80_columns(folder, words, whole):
    """COLUMNS is honoured, and --format md gives the whole Markdown on a terminal too."""
    ours, theirs = os.openpty()
    command = [sys.executable, "-m", "benchmark", "table", *words]
    command += ["--results", folder / "results", "--reports", folder / "out"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=theirs, env=os.environ | {"COLUMNS": "80"}
    )
    os.close(theirs)
    content = b""
    try:
        while part := os.read(ours, 65536):
            content += part
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(ours)
    assert process.wait(timeout=120) == 0
    lines = content.decode().replace("\r\n", "\n").splitlines()
    widest = max(len(line) for line in lines if str(folder) not in line)
    assert widest > 200 if whole else 60 < widest <= 80
    assert any(line.startswith("| method") for line in lines) == whole


def test_columns_that_matter_most_come_first_and_in_their_own_order():
    block = Block([["name", *"abcd"], ["x", *(letter * 8 for letter in "abcd")]], importance=[4, 2])
    table = Table("t", "c", blocks=[block])
    assert shown(table, 24).splitlines()[2].split() == ["name", "b", "d"]
    assert "Left out for want of width: a, c; all with `| cat`." in " ".join(shown(table, 24).split())
    assert shown(table, 14).splitlines()[2].split() == ["name", "d"], "one is shown in any case"
    assert "Left out" not in shown(table, 44)


def test_a_long_cell_goes_on_below_and_loses_nothing():
    name = "cellvta,spatial_prior=false,points=8,recipe.optimiser.lr=0.0001"
    block = Block([["method", "score", "why"], [name, "0.5", "a long reason " * 5], ["b", "0.4", "short"]])
    lines = shown(Table("t", "c", blocks=[block]), 60).splitlines()[2:]
    assert max(map(len, lines)) <= 60
    columns = [sum(map(len, re.findall(r"^-+(?:  )", lines[1])))]
    assert "".join(line[: columns[0]].strip() for line in lines[2:-1]) == name
    assert " ".join(lines).count("reason") == 5


def test_marks_take_equal_width_and_digits_stay_below_digits():
    block = Block([["m", "s"], ["a", "0.500"], ["b", "0.400"], ["c", "0.300"]], ranks={(1, 1): 1, (2, 1): 2})
    text = shown(Table("t", "c", blocks=[block]), 80)
    assert len({line.index("0.") for line in text.splitlines() if "0." in line}) == 1
    assert "*0.500*" in text and "_0.400_" in text and "*best* of its column, _second_." in text
    assert "*best*" not in shown(Table("t", "c", blocks=[Block(block.rows)]), 80)


def test_names_are_shown_as_they_are_but_for_what_a_terminal_obeys():
    block = Block([["a", "b\x1b[2J"], ["*x* <b> `y` | \x1b[31mred", "1"]], title="t\x1b[0m")
    text = shown(Table("t", "c\x1b[0m", ["n\x1b[0m"], [block], conclusion="d\x1b[0m"), 80)
    assert "\x1b" not in text and text.count("\\x1b") == 6
    assert "*x* <b> `y` | \\x1b[31mred" in text


def test_sentences_are_broken_between_words_alone():
    path = "/a/very/long/path/" + "x" * 60
    table = Table("t", f"caption of {path}", ["one two three " * 10, f"`code` in {path}"])
    lines = shown(table, 40).splitlines()
    assert path in lines and all(len(line) <= 40 or path in line for line in lines)


def test_the_status_of_cells_fits_too(tmp_path, cache):
    overrides = (("optimiser.lr", 0.0001), ("augment", [{"name": "flip"}, {"name": "blur", "p": 0.25}]))
    grid = cells(setup(tmp_path, cache, overrides=overrides), ["cellvta", "classical"])
    whole, narrow = status(grid), status(grid, 60)
    assert len(whole.splitlines()) == 3 and max(map(len, whole.splitlines())) > 120
    assert max(map(len, narrow.splitlines())) <= 60 and len(narrow.splitlines()) > 3
    assert sorted("".join(narrow.split())) == sorted("".join(whole.split())), "every letter is there"
    assert whole.splitlines()[-1] == narrow.splitlines()[-1] == "2 missing"


def test_whether_stdout_is_a_terminal_decides(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "77")
    assert terminal.room() is None
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert terminal.room() == 77
    monkeypatch.setattr("sys.stdout", None)
    assert terminal.room() is None


def test_the_widest_columns_are_narrowed_first():
    assert terminal.fitted([8, 90, 40], 104) == [8, 52, 40]
    assert terminal.fitted([8, 90, 40], 84) == [8, 36, 36]
    assert terminal.fitted([30, 30], 10) == [20, 20], "no less, whatever the room"
    assert terminal.fitted([5, 6], 80) == [5, 6] and terminal.fitted([], 10) == []


def test_lines_are_broken_at_commas_slashes_and_spaces():
    text = "cellvta,tune=adapter+full a/b/c"
    assert terminal.wrapped(text, 20).split("\n") == ["cellvta,", "tune=adapter+full a/", "b/c"]
    assert terminal.wrapped("two  spaces", 11) == "two  spaces", "one that fits is left as it is"
    assert terminal.wrapped("x" * 45, 20).split("\n") == ["x" * 20, "x" * 20, "x" * 5]
    assert terminal.columns([["a  b", "1e5"]], None) == "a  b  1e5"


@pytest.mark.parametrize(
    "words",
    [
        ["models", "--methods", "cellvta@debug", "classical@debug"],
        ["recipe", "cellvta@small"],
        ["doctor", "--device", "cpu"],
        ["reproduce", "list"],
        ["datasets"],
    ],
)
def test_other_commands_fit_the_terminal_and_are_whole_elsewhere(words, monkeypatch, capsys):
    assert main(words) == 0
    whole = capsys.readouterr().out
    monkeypatch.setattr(terminal, "room", lambda: 70)
    assert main(words) == 0
    narrow = capsys.readouterr().out
    long = [line for line in narrow.splitlines() if len(line) > 70 and max(map(len, line.split())) < 60]
    assert long == [] and max(map(len, whole.splitlines())) > 70
    assert len(narrow.splitlines()) > len(whole.splitlines())
