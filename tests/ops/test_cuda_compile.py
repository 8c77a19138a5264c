"""The GPU kernels compile for every generation that counts, with hardly a spilled register. Needs no GPU.

Never skipped where torch brings NVRTC (its Linux wheels for CUDA), nor in CI; registers and spills are listed at the
end of the tests.
"""

import os
import re
import subprocess
import sys

import pytest
import torch

from benchmark.ops.cuda import nvrtc, sources
from benchmark.ops.cuda.layout import Layout
from benchmark.runtime.paths import ROOT
from tests.support import reported

pytestmark = pytest.mark.skipif(
    torch.version.cuda is None and "BENCHMARK_CI" not in os.environ, reason="this torch is built without CUDA"
)
KERNEL = re.compile(
    r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r".*?Used (\d+) registers",
    re.DOTALL,
)
# where the driver of a GPU is installed, NVRTC keeps machine code, and what comes from there has no log
UNCACHED = ["--no-cache"] if torch.version.cuda and nvrtc.version() >= (12, 9) else []
VARIANTS = [Layout(d, 64, 16 // d.itemsize) for d in (torch.float64, torch.float32, torch.bfloat16, torch.float16)]
# other widths in one dtype: several items per lane, idle lanes, several slabs
OTHERS = [Layout(torch.float32, 256, 4), Layout(torch.float32, 30, 1), Layout(torch.float32, 1025, 1)]
CASES = [(a, v) for a in (80, 90, 120) for v in VARIANTS] + [(90, v) for v in OTHERS]


@pytest.mark.parametrize("architecture, layout", CASES, ids=lambda x: f"sm_{x}" if isinstance(x, int) else None)
def test_compiles_without_spills(architecture, layout):
    registers_of, most_spilled = {}, 0
    for family, kernels in sources.FAMILIES.items():
        text = sources.shared_source() + sources.own_source(family)
        cubin, log = nvrtc.compile_source(text, f"{family}.cu", sources.options(layout, architecture) + UNCACHED)
        assert cubin.startswith(b"\x7fELF")
        found = {name: tuple(map(int, figures)) for name, *figures in KERNEL.findall(log)}
        assert set(found) == set(kernels)
        for name, (stack, stores, loads, registers) in found.items():
            registers_of[name], most_spilled = registers, max(most_spilled, stack, stores, loads)
            # how a rare width's registers come out differs between versions of NVRTC: a few words are no harm
            # and these put aside a few once per tile, outside their loops, to keep more threads at work
            most = 0 if layout in VARIANTS and name not in ("values_and_points", "forward_tile") else 32
            assert max(stack, stores, loads) <= most, f"{name} spills: {log}"
            assert registers <= 128
    kernels = ", ".join(f"{name} {registers}" for name, registers in registers_of.items())
    head = f"sm_{architecture} {str(layout.dtype).removeprefix('torch.')} D={layout.channels}"
    reported.KERNELS.append(f"{head}: {most_spilled} B spilled; registers: {kernels}")


def test_source_is_read_in_any_locale():
    """Comments are not ASCII, and NVRTC may change the process's locale."""
    code = "from benchmark.ops.cuda import sources; print(max(sources.shared_source() + sources.own_source('forward')))"
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=os.environ | environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr.decode()


def test_source_error_is_shown():
    with pytest.raises(nvrtc.CompileError, match="undefined_name"):
        nvrtc.compile_source("__global__ void kernel(int* x) { *x = undefined_name; }", "kernel.cu", [])


def test_architecture_for_a_device():
    """Code runs on later minor versions of its major compute capability, never on another major one."""
    assert nvrtc.architecture(90) == 90 and nvrtc.architecture(80) == 80
    for capability in nvrtc.architectures():
        assert nvrtc.architecture(capability) == capability
    assert nvrtc.architecture(max(nvrtc.architectures()) // 10 * 10 + 9) == max(nvrtc.architectures())
    assert nvrtc.architecture(30) is None


def test_compiled_once(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_KERNEL_CACHE", str(tmp_path))
    first = sources.cubin("values", VARIANTS[1], 90)
    monkeypatch.setattr(nvrtc, "compile_source", None)
    assert sources.cubin("values", VARIANTS[1], 90) == first
    with pytest.raises(TypeError):  # another architecture is another key
        sources.cubin("values", VARIANTS[1], 80)


def test_imports_without_compiler_or_driver():
    """Importing touches neither NVRTC nor the driver, so it works where neither is."""
    code = (
        "import ctypes, torch; ctypes.CDLL = None; import benchmark.ops.cuda as c;"
        "torch.cuda.is_available = lambda: False; print(c.usable())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.stdout.strip() == "(False, 'torch sees no CUDA device')", done.stderr


def test_absent_compiler_is_a_reason(monkeypatch):
    from benchmark.ops import cuda
    from benchmark.ops.cuda import driver

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: type("P", (), {"major": 9, "minor": 0}))
    monkeypatch.setattr(nvrtc, "_candidates", lambda: ["libnvrtc.so.0"])
    for cached in (nvrtc.library, nvrtc.version, nvrtc.architectures, driver.gpu):
        cached.cache_clear()
    try:
        works, reason = cuda.usable(0)
    finally:
        for cached in (nvrtc.library, nvrtc.version, nvrtc.architectures, driver.gpu):
            cached.cache_clear()
    assert not works and "NVRTC was not found" in reason
