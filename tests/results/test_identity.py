"""Protocols are no part of a result's identity; the records' version is."""

import pytest

from benchmark.experiment.grid import cells
from benchmark.metrics import records
from benchmark.metrics.protocols import PROTOCOLS
from tests.support.grids import setup


@pytest.fixture
def cell(tmp_path):
    return lambda: cells(setup(tmp_path, tmp_path), ["hovernet@debug"])[0]


def test_adding_a_protocol_makes_no_run_stale(cell, monkeypatch):
    before = cell().identity
    monkeypatch.setitem(PROTOCOLS, "another", PROTOCOLS["clean"])
    assert cell().identity == before
    monkeypatch.setattr(records, "VERSION", records.VERSION + 1)
    assert cell().identity["records"] == before["records"] + 1 and "protocols" not in before
