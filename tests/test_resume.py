"""A run killed at any moment and started again ends with the same bits as an unbroken one."""

import os
import signal
import time

import pytest

METHOD = "cellvta@debug,drop_path=0.3"  # stochastic depth: random numbers are drawn inside the network
RECIPE = ("recipe.epochs=6", "recipe.samples=24", "recipe.eval_every=2")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", "-m", "benchmark")


def kill_after(process, log, lines, group=False):
    """SIGKILL a process (or its group) once its log has `lines` lines."""
    end = time.monotonic() + 240
    while time.monotonic() < end and process.poll() is None:
        if log.exists() and len(log.read_text().splitlines()) >= lines:
            time.sleep(0.15)  # into the next epoch
            break
        time.sleep(0.02)
    assert process.poll() is None, f"ended before it could be killed: {process.communicate()}"
    if group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.communicate()


@pytest.mark.parametrize("launcher", [("-m", "benchmark"), TORCHRUN], ids=["one process", "two gloo processes"])
def test_resumed_equals_unbroken(benchmark_command, tmp_path, launcher):
    words = ("--method", METHOD, "--fold", "2", *RECIPE)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    done = benchmark_command("run", *words, results=whole, launcher=launcher)
    assert done.returncode == 0, done.stderr

    (folder,) = [p.parent for p in whole.rglob("metrics.json")]
    twin = broken / folder.relative_to(whole)
    launched = ("-c", _detached(launcher))
    process = benchmark_command("run", *words, results=broken, launcher=launched, wait=False)
    kill_after(process, twin / "log.jsonl", 2, group=True)
    assert not (twin / "metrics.json").exists()
    assert (twin / "checkpoint.pt").exists()

    again = benchmark_command("run", *words, results=broken, launcher=launcher)
    assert again.returncode == 0, again.stderr
    assert "resuming after epoch" in again.stderr
    for name in (
        "metrics.json",
        "weights.safetensors",
        "overlaps.parquet",
        "images.parquet",
        "nuclei.parquet",
    ):
        assert (folder / name).read_bytes() == (twin / name).read_bytes(), name


def _detached(launcher) -> str:
    """Python that becomes the launcher in a process group of its own: one kill reaches all workers."""
    return (
        "import os, sys; os.setpgid(0, 0); "
        f"os.execv(sys.executable, [sys.executable, *{list(launcher)!r}, *sys.argv[1:]])"
    )
