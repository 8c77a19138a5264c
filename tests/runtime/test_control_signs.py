"""What a terminal would obey is spelt out, wherever names go."""

import io
import sys

from benchmark.cli import main
from benchmark.report.render.table import Block, Table, markdown, to_csv
from benchmark.runtime.control_signs import guarded, visible
from benchmark.runtime.csv_cells import csv_cell

RED = "\x1b[31mred\x9b0m\u202e"
SPELT = r"\x1b[31mred\x9b0m\u202e"


def test_control_signs_are_spelt_out_and_nothing_else():
    assert visible(RED) == SPELT
    text = "Ärger\t“–”\n中文 é \u00a0"
    assert visible(text) == text


def test_they_stand_in_no_table():
    table = Table("t", RED, [RED, f"`{RED}`"], [Block([["name"], [RED]], title=RED)], [{"name": RED, RED: 1}])
    assert visible(markdown(table)) == markdown(table) and markdown(table).count("x1b[31mred") == 5
    assert to_csv(table.records) == f"name,{SPELT}\n{SPELT},1\n"
    assert csv_cell("a\r\nb\rc\x07") == "a\nb\nc\\x07"


def test_they_reach_no_terminal(capsys):
    assert main(["predict", "--method", "classical", "--images", f"no{RED}where", "--out", "x"]) == 2
    assert f"no{SPELT}where" in capsys.readouterr().err
    assert main(["run", f"--{RED}"]) == 2
    assert SPELT in capsys.readouterr().err


def test_progress_in_place_stays(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with guarded():
        print("\r3/4", end="", file=sys.stderr)
        print(" a\rb", file=sys.stderr)
    assert stream.getvalue() == "\r3/4 a\\rb\n" and sys.stderr is stream
