"""Commands in tables and pages: `make table` in a checkout, `benchmark table` where the program is installed."""

import ast

import pytest

from benchmark.report.tables import common
from benchmark.results.collect import no_runs
from benchmark.runtime import paths

FOLDERS = [
    path for name in ("report/tables", "report/page", "report/select") for path in (paths.PACKAGE / name).glob("*.py")
]


class _Group:
    expected, runs = 1, ()

    def notes(self):
        return []


@pytest.mark.parametrize(("checkout", "called"), [(True, "make"), (False, "benchmark")])
def test_the_command_below_a_table_is_one_that_the_reader_has(monkeypatch, tmp_path, checkout, called):
    monkeypatch.setattr(paths, "IN_CHECKOUT", checkout)
    assert f"Table: `{called} table`; runs:" in " ".join(common.notes(_Group()))
    assert no_runs(tmp_path, [], None).endswith(f"`{called} ablation` makes some.")


@pytest.mark.parametrize("path", FOLDERS, ids=lambda path: path.stem)
def test_no_table_has_a_command_of_the_checkout_alone(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    plain = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    docs = [
        ast.get_docstring(node, clean=False)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef))
    ]
    assert not [text for text in plain if "`make " in text and text not in docs]
