"""Compile kernel.c with the machine's C compiler on first use, and find the threads that PyTorch uses.

The kernel needs no header of Python or PyTorch and links no OpenMP: its work runs on the team of the OpenMP runtime
that PyTorch itself has loaded (a second runtime in one process spins against the first), or else on threads of its own.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

from benchmark.ops.kernel_cache import cached

SOURCE = Path(__file__).with_name("kernel.c")
FLAGS = ("-O3", "-std=gnu11", "-shared", "-fPIC", "-pthread", "-ffp-contract=fast", "-fno-math-errno", "-Wno-psabi")
# the compilers of some processors spell it the second way, and a few know neither
NATIVE = (("-march=native",), ("-mcpu=native",), ())
OPTIONS = {torch.float32: (), torch.float64: ("-DDOUBLE",)}


@functools.cache
def library(dtype: torch.dtype) -> ctypes.CDLL:
    """The kernel for float32 or float64, compiled if no cache holds it.

    Raises:
        RuntimeError: there is no compiler, it fails, or its result cannot be kept or loaded.
    """
    compiler = _compiler()
    source = SOURCE.read_text(encoding="utf-8")
    line = (*compiler, *FLAGS, *OPTIONS[dtype])
    key = "\n".join([source, *line, _version(compiler), platform.machine(), _features()])
    try:
        name = f"deform_attn_{str(dtype).removeprefix('torch.')}.so"
        return cached(name, key, lambda: _compile(line), lambda path: ctypes.CDLL(str(path)))
    except OSError as error:
        raise RuntimeError(f"the compiled kernel cannot be kept or loaded: {error}") from error


def _compiler() -> tuple[str, ...]:
    """The command $CC, else the first of cc, gcc, clang."""
    try:
        chosen = shlex.split(os.environ.get("CC", ""))
    except ValueError as error:
        raise RuntimeError(f"CC is {os.environ['CC']!r}, which is no command: {error}") from error
    if chosen:
        if not shutil.which(chosen[0]):
            raise RuntimeError(f"CC names the C compiler '{chosen[0]}', which was not found")
        return tuple(chosen)
    for name in ("cc", "gcc", "clang"):
        if path := shutil.which(name):
            return (path,)
    raise RuntimeError("no C compiler was found (cc, gcc or clang; or set CC)")


def _version(compiler: tuple[str, ...]) -> str:
    done = _call((*compiler, "--version"), 60)
    if done.returncode:
        raise RuntimeError(f"'{shlex.join(compiler)} --version' fails: {_tail(done.stderr)}")
    return done.stdout


def _features() -> str:
    """What tells processors apart: a cache shared by unlike machines must not give one the other's instructions."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor()
    kept = {"vendor_id", "cpu family", "model", "model name", "flags", "Features", "CPU part", "isa"}
    lines = {line for line in info.read_text().splitlines() if line.partition(":")[0].strip() in kept}
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _compile(line: tuple[str, ...]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "kernel.so"
        for native in NATIVE:
            done = _call((*line, *native, str(SOURCE), "-o", str(out)), 300)
            if done.returncode == 0 and out.exists():
                return out.read_bytes()
    raise RuntimeError(f"'{shlex.join(line)}' fails: {_tail(done.stderr)}")


def _call(line: tuple[str, ...], seconds: int) -> subprocess.CompletedProcess:
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        return subprocess.run(
            line, capture_output=True, encoding="utf-8", errors="replace", timeout=seconds, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RuntimeError(f"the C compiler '{line[0]}' cannot be used: {error}") from error


def _tail(text: str) -> str:
    return " ".join(text.split())[-300:] or "it says nothing"


def team() -> ctypes.c_void_p:
    """Address of GOMP_parallel in the OpenMP runtime of PyTorch, or a null pointer."""
    # in a forked process the runtime's threads are gone, and it would wait for them
    return ctypes.c_void_p(None) if _forked else _gomp_parallel()


@functools.cache
def _gomp_parallel() -> ctypes.c_void_p:
    folder = Path(torch.__file__).parent / "lib"
    for name in ("libtorch_cpu.so", "libtorch_cpu.dylib"):
        try:
            # looked up in the library and in those that it is linked with: the runtime it uses, not another copy
            return ctypes.cast(ctypes.CDLL(str(folder / name)).GOMP_parallel, ctypes.c_void_p)
        except (OSError, AttributeError):
            continue
    return ctypes.c_void_p(None)


_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
