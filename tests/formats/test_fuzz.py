"""Damaged inputs of every format end in a result or in one sentence: never in a traceback, a hang or a crash."""

import os
import subprocess
import sys

import pytest
import torch

from benchmark.layers import weights_file
from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import ROOT
from benchmark.runtime.plugins import value_of

COUNT = 2480  # inputs; `make fuzz` reads more


def test_damaged_inputs_end_in_a_result_or_one_sentence():
    """In a process of its own, which a crash of the interpreter ends and whose memory is bounded."""
    line = [sys.executable, "-m", "tests.support.fuzz", "--count", str(COUNT), "--seed", "0"]
    env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, env=env, errors="replace", timeout=550)
    print(done.stdout)  # the figures by format
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout[-8000:]}\n{done.stderr[-3000:]}"
    formats = {row.split()[0] for row in done.stdout.splitlines() if row[:1].isalpha()}
    assert {"npy", "npz", "mat", "PNG", "TIFF", "JPEG", "JSON", "GeoJSON", "pickle", "pth", "safetensors"} <= formats
    assert {"TOML", "csv", "XML", "zip", "parquet", "run", "command"} <= formats


@pytest.mark.parametrize("reader", (weights_file.read, weights_file.read_file))
def test_a_tensor_with_more_values_than_its_file_is_refused(tmp_path, reader):
    torch.save({"a": torch.ones(1).expand(10**12)}, tmp_path / "a.pth")
    with pytest.raises(InputError, match=r"a\.pth: expected tensors with all their values"):
        reader(tmp_path / "a.pth")


@pytest.mark.parametrize("value", ("{[]: 1}", "(" * 300, "-" * 100_000 + "1", "\0"))
def test_a_value_that_is_no_literal_stays_a_word(value):
    assert value_of(value) == value
