"""The CPU kernel of deformable attention: how it is compiled, kept, and run on threads; and what happens without it."""

import os
import stat
import subprocess
import sys
import tempfile

import pytest
import torch

from benchmark.ops import backends, cpu, default_backend, selection
from benchmark.ops.cpu import build
from benchmark.runtime.paths import ROOT
from tests.support.attention import arguments, results

needs_compiler = pytest.mark.skipif(not backends()["cpu"][0], reason=f"cpu backend: {backends()['cpu'][1]}")


@pytest.fixture
def fresh(tmp_path, monkeypatch):
    """As in a new process with an empty kernel cache, whose folder is returned."""
    monkeypatch.setenv("BENCHMARK_KERNEL_CACHE", str(tmp_path / "kernels"))
    monkeypatch.delenv("CC", raising=False)
    remembered = (build.library, cpu.usable, selection.warn_once)
    for function in remembered:
        function.cache_clear()
    yield tmp_path / "kernels"
    for function in remembered:
        function.cache_clear()


def run(code: str, **environment) -> str:
    """What `code` prints in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


EIGHT = """
import os, torch
from benchmark.ops.cpu import build
children = []
for _ in range(8):
    child = os.fork()
    if not child:
        build.library(torch.float32).ms_deform_attn
        os._exit(0)
    children.append(child)
print({os.waitpid(child, 0)[1] for child in children})
"""


@needs_compiler
def test_eight_processes_compile_at_once(tmp_path):
    assert run(EIGHT, BENCHMARK_KERNEL_CACHE=str(tmp_path)) == "{0}"
    (kept,) = tmp_path.iterdir()
    assert kept.suffix == ".so"


@needs_compiler
def test_home_that_cannot_be_written(fresh, tmp_path, monkeypatch):
    home, temporary = tmp_path / "home", tmp_path / "tmp"
    home.write_text("not a folder: nobody, not even root, can write below it")
    temporary.mkdir()
    for name in ("BENCHMARK_KERNEL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    assert default_backend("cpu") == "cpu"
    (folder,) = [f for f in temporary.iterdir() if list(f.glob("*.so"))]
    assert not stat.S_IMODE(folder.stat().st_mode) & 0o077, "nobody else may put code there"


@pytest.mark.parametrize(
    ("compiler", "why"), [("no-such-compiler", "not found"), ("false", "fails"), ("'cc", "no command")]
)
def test_without_a_compiler_the_torch_form_takes_over_with_one_warning(fresh, monkeypatch, compiler, why):
    monkeypatch.setenv("CC", compiler)
    given = arguments(dtype=torch.float32)
    with pytest.warns(RuntimeWarning) as seen:
        first, second = results(None, *given), results(None, *given)
    (warning,) = seen
    assert "'cpu' backend cannot run here" in str(warning.message) and why in str(warning.message)
    expected = results("torch", *given)
    assert all(torch.equal(a, b) for found in (first, second) for a, b in zip(found, expected))
    assert default_backend("cpu") == "torch" and not fresh.exists()
    with pytest.raises(ValueError, match=f"backend is 'cpu', which cannot run on cpu: .*{compiler}.*{why}"):
        results("cpu", *given)
    monkeypatch.setenv("BENCHMARK_OP_BACKEND", "cpu")
    with pytest.raises(ValueError, match=f"BENCHMARK_OP_BACKEND is 'cpu', which cannot run on cpu: .*{why}"):
        results(None, *given)


@needs_compiler
def test_kernel_that_cannot_be_loaded_is_named(fresh, monkeypatch):
    monkeypatch.setattr(build, "_compile", lambda line: b"damaged")
    with pytest.warns(RuntimeWarning, match=f"cannot be kept or loaded: .*{fresh}"):
        assert default_backend("cpu") == "torch"


def test_compiler_that_speaks_no_utf8(fresh, tmp_path, monkeypatch):
    compiler = tmp_path / "compiler"
    compiler.write_text("#!/bin/sh\nprintf 'd\\351faut\\n' >&2; exit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    works, why = cpu.usable()
    assert not works and "faut" in why


@needs_compiler
def test_damaged_file_in_the_cache_is_built_again(fresh):
    assert cpu.usable() == (True, "")
    (kept,) = fresh.iterdir()
    content = kept.read_bytes()
    kept.unlink()  # not truncated in place: this process has it mapped
    kept.write_bytes(content[: len(content) // 2])  # as after a power cut; to load it could end the process
    build.library.cache_clear()
    build.library(torch.float32)
    assert kept.read_bytes() == content and list(fresh.iterdir()) == [kept]


@needs_compiler
def test_cache_is_used_again_and_tells_machines_apart(fresh, monkeypatch):
    compiled = []
    monkeypatch.setattr(build, "_compile", lambda line, call=build._compile: compiled.append(line) or call(line))

    def compilations(dtype=torch.float32):
        build.library.cache_clear()
        build.library(dtype)
        return len(compiled)

    assert (compilations(), compilations(), compilations(torch.float64)) == (1, 1, 2)
    monkeypatch.setattr(build, "_features", lambda: "another processor")
    assert compilations() == 3
    assert len(list(fresh.iterdir())) == 3


def test_environment_names_the_backend(monkeypatch):
    monkeypatch.setenv("BENCHMARK_OP_BACKEND", "torch")
    given = arguments(dtype=torch.float32)
    assert all(torch.equal(a, b) for a, b in zip(results(None, *given), results("torch", *given)))
    monkeypatch.setenv("BENCHMARK_OP_BACKEND", "quick")
    with pytest.raises(ValueError, match="BENCHMARK_OP_BACKEND is 'quick', expected one of"):
        results(None, *given)


def test_import_needs_no_gpu_and_compiles_nothing(tmp_path):
    code = "import benchmark.ops, sys; print('benchmark.ops.cuda' in sys.modules)"
    assert run(code, CUDA_VISIBLE_DEVICES="", BENCHMARK_KERNEL_CACHE=str(tmp_path)) == "False"
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
    assert run(FORK) == "0"
