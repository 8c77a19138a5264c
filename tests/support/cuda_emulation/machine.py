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
def library(layout: Layout, sanitize: str, change: tuple[str, str, int] | None) -> ctypes.CDLL:
    """All kernels of one variant as host functions `launch_<kernel>`.

    Args:
        sanitize: "address": with that sanitizer, whose library the process must have been started with; "races":
            with races.h; or nothing.
        change: (text, replacement, n): replaces the n-th occurrence in the source, to see whether tests notice.
    """
    parts = [sources.shared_source(), *map(sources.own_source, sources.FAMILIES)]
    text = "\n".join(parts)
    if change:
        old, new, index = change
        pieces = text.split(old)
        text = old.join(pieces[: index + 1]) + new + old.join(pieces[index + 1 :])
    launchers = [
        f'extern "C" const char* launch_{kernel}(unsigned grid, unsigned threads, unsigned shared, void** arguments,'
        f" unsigned seed) {{ return emulation::launch({kernel}, grid, threads, shared, arguments, seed); }}"
        for kernels in sources.FAMILIES.values()
        for kernel in kernels
    ]
    table = ", ".join(f"static_cast<int>({name})" for name in CONSTANTS)
    text = "\n".join(['#include "device.h"', text, *launchers, f'extern "C" const int constants[] = {{{table}}};'])
    build = Path(_folder().name) / f"{abs(hash((layout, sanitize, change)))}.so"
    options = ["-std=c++17", "-fPIC", "-w", f"-I{FOLDER}"]
    options += [f"-D{name}={number}" for name, number in layout.definitions.items()]
    linked = ["-fsanitize=address"] if sanitize == "address" else []
    # races.h stands in for the thread sanitizer's library, which therefore must not be linked
    options += ["-O1", "-fsanitize=thread", "-DRACES"] if sanitize == "races" else ["-O0", *linked]
    compiled = build.with_suffix(".o")
    command = [COMPILER, *options, "-x", "c++", "-c", "-", "-o", compiled]
    done = subprocess.run(command, input=text, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr[:4000]
    subprocess.run([COMPILER, "-shared", *linked, compiled, "-o", build], check=True)
    return ctypes.CDLL(str(build))


def constants(layout: Layout) -> dict[str, int]:
    """What the compiler made of the source's constants."""
    return dict(zip(CONSTANTS, (ctypes.c_int * len(CONSTANTS)).in_dll(library(layout, "", None), "constants")))


def address_sanitizer() -> str | None:
    """The sanitizer's library, to be preloaded."""
    if COMPILER is None:
        return None
    path = subprocess.run([COMPILER, "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    return path if Path(path).is_absolute() else None


@cache
def _folder() -> tempfile.TemporaryDirectory:
    return tempfile.TemporaryDirectory(prefix="cuda-emulation-")


class Emulated:
    """A small device; `seed` draws the order of blocks and threads (0: in order), `grid` limits blocks per launch."""

    def __init__(self, shared_limit=227 * 1024, multiprocessors=3, grid=2**31, seed=0, sanitize="", change=None):
        self.shared_limit, self.multiprocessors, self.grid, self.seed = shared_limit, multiprocessors, grid, seed
        self.variant = sanitize, change
        self.launched: list[str] = []

    def launch(self, family, layout, kernel, grid, threads, shared, arguments):
        assert kernel in sources.FAMILIES[family] and shared <= self.shared_limit
        function = getattr(library(layout, *self.variant), f"launch_{kernel}")
        function.restype = ctypes.c_char_p
        pointers = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(a) for a in arguments))
        failure = function(min(grid, self.grid), threads, shared, pointers, self.seed)
        if failure is not None:
            raise RuntimeError(f"{kernel}: {failure.decode()}")
        self.launched.append(kernel)
