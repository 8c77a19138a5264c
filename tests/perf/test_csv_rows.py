"""Tables of the speed scripts (perf/csv_rows.py)."""

import csv
import importlib.util
import os
import subprocess

import pytest
import torch

from benchmark.runtime.paths import ROOT


@pytest.fixture
def csv_rows():
    spec = importlib.util.spec_from_file_location("csv_rows", ROOT / "perf/csv_rows.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_row_is_in_the_file_at_once(csv_rows, tmp_path):
    path = tmp_path / "new/table.csv"
    table = csv_rows.Rows(path, ("what", "ms"), gpu="H100, 80 GB")
    assert not path.exists(), "an older table is kept until there is something new"
    for k, name in enumerate(("a", "b,c")):
        table.add(name, 0.5)
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == k + 1 and rows[k]["what"] == name and rows[k]["ms"] == "0.5"
    assert [*rows[0]] == ["what", "ms", "gpu", "torch", "commit", "command"]
    assert rows[0]["gpu"] == "H100, 80 GB" and rows[0]["torch"] == torch.__version__ and rows[0]["command"]
    csv_rows.Rows(path, ("what",)).add("anew")
    assert path.read_text().count("\n") == 2
    with pytest.raises(ValueError):
        table.add("too few")


def test_the_limit(csv_rows):
    assert csv_rows.Rows(None, (), limit=-1).is_up and not csv_rows.Rows(None, ()).is_up


def test_commit(csv_rows, tmp_path, monkeypatch):
    folder = tmp_path / "perf"
    folder.mkdir()
    monkeypatch.setattr(csv_rows, "__file__", str(folder / "csv_rows.py"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert csv_rows.commit() == ""
    names = {f"GIT_{who}_{what}": "nobody" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "first"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True, env=os.environ | names)
    head = subprocess.run(["git", "-C", str(tmp_path), "rev-parse", "HEAD"], capture_output=True, text=True).stdout
    assert len(csv_rows.commit()) >= 7 and head.startswith(csv_rows.commit())
    monkeypatch.setenv("PATH", "")
    assert csv_rows.commit() == ""
