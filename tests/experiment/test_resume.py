"""A run killed at any moment and started again ends with the same bits as an unbroken one."""

import json

import pytest

from benchmark.ops import default_backend
from tests.support.kills import content
from tests.support.processes import kill_after

METHOD = "cellvta@debug,drop_path=0.3"  # stochastic depth: random numbers are drawn inside the network
RECIPE = ("recipe.epochs=6", "recipe.samples=24", "recipe.eval_every=2", "recipe.ema=0.9", "recipe.workers=1")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "benchmark")


ALONE = ("-m", "benchmark")
PHASES = ("--method", "hovernet", "--experiment", "published")  # a fresh optimiser and batch in the second phase
LAST = ("recipe.keep=last", "recipe.monitor=raw")  # the weights of the last epoch, as HoVer-Net's code has it
CASES = {
    "one process": (ALONE, ("--method", METHOD, *RECIPE)),
    "two gloo processes": (TORCHRUN, ("--method", METHOD, *RECIPE)),
    "between two phases": (ALONE, (*PHASES, "recipe.epochs=4", "recipe.samples=32", "recipe.eval_every=2", *LAST)),
}


LONG = pytest.param("two gloo processes", marks=pytest.mark.slow)  # three times torchrun and two workers


@pytest.mark.parametrize("case", ["one process", LONG, "between two phases"])
def test_resumed_equals_unbroken(benchmark_command, tmp_path, case):
    launcher, words = CASES[case]
    words = (*words, "--fold", "2")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    done = benchmark_command("run", *words, results=whole, launcher=launcher)
    assert done.returncode == 0, done.stderr

    (folder,) = [p.parent for p in whole.rglob("metrics.json")]
    twin = broken / folder.relative_to(whole)
    process = benchmark_command("run", *words, results=broken, launcher=launcher, wait=False)
    kill_after(process, twin / "log.jsonl", 2)
    assert not (twin / "metrics.json").exists()
    assert (twin / "checkpoint.pt").exists()

    again = benchmark_command("run", *words, results=broken, launcher=launcher)
    assert again.returncode == 0, again.stderr
    assert "resuming after epoch" in again.stderr
    story = json.loads((twin / "provenance.json").read_text())
    assert story["op_backend"] == (default_backend("cpu") if "cellvta" in str(twin) else "none")
    for name in (
        "metrics.json",
        "weights.safetensors",
        "overlaps.parquet",
        "images.parquet",
        "nuclei.parquet",
    ):
        assert (folder / name).read_bytes() == (twin / name).read_bytes(), name
    assert content(folder / "card.md") == content(twin / "card.md") != ""
