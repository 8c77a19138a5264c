"""docs/tour.ipynb: its cells run in their order, and print what the page shows."""

import contextlib
import io
import json

import matplotlib
import pytest

from benchmark.runtime.paths import ROOT

BOOK = json.loads((ROOT / "docs" / "tour.ipynb").read_text(encoding="utf-8"))
CELLS = [cell for cell in BOOK["cells"] if cell["cell_type"] == "code"]


def printed(cell: dict) -> str:
    """What the stored page shows as printed by a cell."""
    streams = [output for output in cell["outputs"] if output["output_type"] == "stream"]
    return "".join("".join(stream["text"]) for stream in streams if stream["name"] == "stdout")


def test_it_is_a_notebook_of_version_4_that_was_executed_in_order():
    assert (BOOK["nbformat"], BOOK["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in BOOK["cells"]]
    assert len({*ids}) == len(ids)
    assert [cell["execution_count"] for cell in CELLS] == list(range(1, len(CELLS) + 1))
    outputs = [output for cell in CELLS for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} == {"stream", "display_data"}, "no error, no bare value"
    assert {output.get("name", "stdout") for output in outputs} == {"stdout"}, "no warning"
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2


@pytest.mark.filterwarnings("ignore:FigureCanvasAgg is non-interactive")
def test_the_cells_run_and_print_what_is_shown(tmp_path, monkeypatch):
    matplotlib.use("Agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    space = {"__name__": "__main__"}
    for number, cell in enumerate(CELLS, 1):
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec("".join(cell["source"]), space)
        assert out.getvalue() == printed(cell), f"code cell {number}"
    matplotlib.pyplot.close("all")
    assert not any(tmp_path.iterdir()), "nothing is left where the notebook lies"
