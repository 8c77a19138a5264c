"""The CPU kernel of deformable attention: how it is compiled, kept, and run on threads; and what happens without it."""

import os
import stat
import subprocess
import sys

import pytest
import torch

from benchmark.ops import backends
from benchmark.paths import ROOT
from tests.test_ops import arguments, results

needs_compiler = pytest.mark.skipif(not backends()["cpu"][0], reason=f"cpu backend: {backends()['cpu'][1]}")
CALL = """
import torch, warnings
from benchmark.ops import backends, default_backend, ms_deform_attn
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    for _ in range(2):
        out = ms_deform_attn(torch.ones(1, 4, 1, 3), [(2, 2)], torch.full((1, 1, 1, 1, 1, 2), 0.5), torch.ones(1, 1, 1, 1, 1))
print(default_backend(), out.tolist(), [str(w.message) for w in seen])
"""


def start(code=CALL, **environment):
    environment = {k: str(v) for k, v in environment.items()}
    kept = {k: v for k, v in os.environ.items() if k not in ("BENCHMARK_KERNEL_CACHE", "XDG_CACHE_HOME", "CC")}
    environment = {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", code], env=environment, **streams)


def finish(process) -> str:
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    return out.strip()


@needs_compiler
def test_eight_processes_compile_at_once(tmp_path):
    processes = [start(BENCHMARK_KERNEL_CACHE=tmp_path) for _ in range(8)]
    assert {finish(p) for p in processes} == {"cpu [[[1.0, 1.0, 1.0]]] []"}
    (kept,) = tmp_path.iterdir()
    assert kept.suffix == ".so"


@needs_compiler
def test_home_that_cannot_be_written(tmp_path):
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.write_text("not a folder: nobody, not even root, can write below it")
    temporary.mkdir()
    assert finish(start(HOME=home, TMPDIR=temporary)) == "cpu [[[1.0, 1.0, 1.0]]] []"
    (folder,) = [f for f in temporary.iterdir() if "kernels" in f.name]
    assert not stat.S_IMODE(folder.stat().st_mode) & 0o077, "nobody else may put code there"


def test_without_a_compiler_another_backend_takes_over_with_one_warning(tmp_path):
    out = finish(start(CC="no-such-compiler", BENCHMARK_KERNEL_CACHE=tmp_path))
    assert out.startswith("torch [[[1.0, 1.0, 1.0]]]")
    assert out.count("'cpu' backend cannot run here") == 1 and "no-such-compiler" in out
    assert not list(tmp_path.iterdir())


def test_compiler_that_fails(tmp_path):
    out = finish(start(CC="false", BENCHMARK_KERNEL_CACHE=tmp_path))
    assert out.startswith("torch") and out.count("cannot run here") == 1


def test_forced_backend_that_cannot_run_raises(tmp_path):
    process = start(CC="no-such-compiler", BENCHMARK_KERNEL_CACHE=tmp_path, BENCHMARK_OP_BACKEND="cpu")
    _, err = process.communicate(timeout=100)
    assert process.returncode == 1
    assert "ValueError: BENCHMARK_OP_BACKEND is 'cpu', which cannot run on cpu: CC names" in err


def test_environment_names_the_backend(monkeypatch):
    monkeypatch.setenv("BENCHMARK_OP_BACKEND", "torch")
    given = arguments(dtype=torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(results(None, *given), results("torch", *given)))
    monkeypatch.setenv("BENCHMARK_OP_BACKEND", "quick")
    with pytest.raises(ValueError, match="BENCHMARK_OP_BACKEND is 'quick', expected one of"):
        results(None, *given)


def test_import_needs_no_gpu_and_compiles_nothing(tmp_path):
    code = "import benchmark.ops, sys; print('benchmark.ops.cuda' in sys.modules)"
    assert finish(start(code, CUDA_VISIBLE_DEVICES="", BENCHMARK_KERNEL_CACHE=tmp_path)) == "False"
    assert not list(tmp_path.iterdir())


@needs_compiler
@pytest.mark.parametrize("channels", [16, 5])
def test_bits_do_not_depend_on_the_number_of_threads(channels):
    given = arguments(batch=3, heads=3, channels=channels, queries=700, dtype=torch.float32)
    threads, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 8):
            torch.set_num_threads(count)
            found.append(results("cpu", *given))
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other))


FORK = """
import os, torch
from benchmark.ops import ms_deform_attn
torch.set_num_threads(4)
def call():
    value, places = torch.ones(4, 4, 4, 16), torch.full((4, 300, 4, 1, 1, 2), 0.5)
    return ms_deform_attn(value, [(2, 2)], places, torch.ones(4, 300, 4, 1, 1), backend="cpu")
assert (call() == 1).all()
child = os.fork()
if child == 0:
    from benchmark.ops import cpu
    import ctypes
    # the kernel alone: PyTorch's own threads do not survive a fork either
    torch.set_num_threads(1)
    torch.get_num_threads = lambda: 4
    os._exit(0 if (call() == 1).all() else 1)
_, status = os.waitpid(child, 0)
assert (call() == 1).all()
print(os.waitstatus_to_exitcode(status))
"""


@needs_compiler
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_works_in_a_forked_process():
    process = start(FORK)
    try:
        assert finish(process) == "0"
    finally:
        process.kill()


@needs_compiler
def test_cache_is_used_again_and_tells_sources_apart(tmp_path, monkeypatch):
    from benchmark.ops.cpu import build

    monkeypatch.setenv("BENCHMARK_KERNEL_CACHE", str(tmp_path))
    compiled = []
    monkeypatch.setattr(build, "_compile", lambda line, call=build._compile: compiled.append(line) or call(line))
    fresh = build.library.__wrapped__
    fresh(torch.float32), fresh(torch.float32)
    assert len(compiled) == 1
    fresh(torch.float64)
    assert len(compiled) == 2
    monkeypatch.setattr(build, "_features", lambda: "another processor")
    fresh(torch.float32)
    assert len(compiled) == 3 and len(list(tmp_path.iterdir())) == 3


@needs_compiler
def test_damaged_file_in_the_cache_is_reported(tmp_path):
    assert finish(start(BENCHMARK_KERNEL_CACHE=tmp_path)).startswith("cpu")
    (kept,) = tmp_path.iterdir()
    kept.write_bytes(b"damaged")
    out = finish(start(BENCHMARK_KERNEL_CACHE=tmp_path))
    assert out.startswith("torch") and str(kept) in out
