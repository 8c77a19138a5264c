"""Small parts of `make kills` and `make damage`: killed runs end byte for byte alike, damaged files are named."""

import os
import subprocess
import sys

import pytest

from benchmark.runtime.paths import ROOT


def script(name, *words) -> str:
    """What a script of tests/support prints; it must end well."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    line = [sys.executable, "-m", f"tests.support.{name}", *words]
    done = subprocess.run(line, capture_output=True, text=True, cwd=ROOT, env=env, timeout=1150)
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.slow
def test_an_ablation_killed_and_resumed_ends_with_the_same_bytes():
    assert "0 differences" in script("kills", "--count", "6", "--seed", "1")


@pytest.mark.slow
@pytest.mark.timeout(1200)  # 6 minutes of processor time; other tests run beside it
def test_no_damage_of_any_file_gives_another_number():
    printed = script("damage", "--each", "2", "--seed", "1")
    names = ("weights.safetensors", "nuclei.parquet", "maps-0.npz", "checkpoint.pt", "instances.npy", "pretext")
    assert all(name in printed for name in names)


@pytest.mark.parametrize("name", ["kills", "damage"])
def test_the_scripts_explain_themselves(name):
    assert f"example: python -m tests.support.{name}" in script(name, "--help")
