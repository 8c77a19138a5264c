"""The kernels' source compiled by g++ behind device.h, as a `plan.Machine` over CPU tensors."""

import ctypes
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

from benchmark.ops.cuda import sources
from benchmark.ops.cuda.layout import Layout

FOLDER = Path(__file__).parent
COMPILER = shutil.which("g++")
CONSTANTS = ["LANES", "ITEMS", "SLABS", "PITCH", "RANGE", "THREADS", "sizeof(Levels)"]


@cache
def library(family: str, layout: Layout, sanitize: bool = False) -> ctypes.CDLL:
    """The kernels of one variant as host functions `launch_<kernel>`."""
    launchers = [
        f'extern "C" const char* launch_{kernel}(unsigned grid, unsigned threads, unsigned shared, void** arguments,'
        f" unsigned seed) {{ return emulation::launch({kernel}, grid, threads, shared, arguments, seed); }}"
        for kernel in sources.FAMILIES[family]
    ]
    if family == "values":
        table = ", ".join(f"static_cast<int>({name})" for name in CONSTANTS)
        launchers.append(f'extern "C" const int constants[] = {{{table}}};')
    text = "\n".join(['#include "device.h"', sources.source(family), *launchers])
    build = Path(_folder().name) / f"{family}-{abs(hash((layout, sanitize)))}.so"
    options = [f"-D{name}={number}" for name, number in layout.definitions.items()]
    options += ["-fsanitize=address", "-g1", "-O1"] if sanitize else ["-O1"]
    command = [COMPILER, "-std=c++17", "-shared", "-fPIC", "-w", f"-I{FOLDER}", *options, "-x", "c++", "-", "-o", build]
    done = subprocess.run(command, input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[:4000]
    return ctypes.CDLL(str(build))


@cache
def _folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="cuda-emulation-")


class Emulated:
    """A small device; `seed` draws the order of blocks and threads (0: in order)."""

    def __init__(self, shared_limit=227 * 1024, multiprocessors=3, grid=2**31, seed=0, sanitize=False):
        self.shared_limit, self.multiprocessors, self.grid = shared_limit, multiprocessors, grid
        self.seed, self.sanitize = seed, sanitize
        self.launched: list[str] = []

    def launch(self, family, layout, kernel, grid, threads, shared, arguments):
        assert shared <= self.shared_limit
        function = getattr(library(family, layout, self.sanitize), f"launch_{kernel}")
        function.restype = ctypes.c_char_p
        pointers = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(a) for a in arguments))
        failure = function(min(grid, self.grid), threads, shared, pointers, self.seed)
        assert failure is None, f"{kernel}: {failure.decode()}"
        self.launched.append(kernel)
