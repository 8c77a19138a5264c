"""CUDA C++ to machine code by NVRTC, the compiler library that torch's wheels bring. Needs no GPU, nvcc or headers."""

import ctypes
import glob
import importlib.util
import os
import re
from functools import cache
from pathlib import Path

import torch

ALWAYS = ("--std=c++17", "--ptxas-options=-v")  # options of every compilation


class CompileError(RuntimeError):
    """NVRTC refused the source; the message holds its log."""


@cache
def library() -> ctypes.CDLL:
    """The loaded NVRTC.

    Raises:
        OSError: there is none beside torch nor on the system.
    """
    failures = []
    for candidate in _candidates():
        try:
            loaded = ctypes.CDLL(candidate)
            loaded.nvrtcGetErrorString.restype = ctypes.c_char_p
            return loaded
        except OSError as error:
            failures.append(str(error))
    raise OSError(f"NVRTC was not found ({failures[-1]}); torch's CUDA wheels bring it")


def _candidates() -> list[str]:
    """Files in the nvidia wheels' folders and torch's own, then names for the system's loader."""
    major = (torch.version.cuda or "13").split(".")[0]
    spec = importlib.util.find_spec("nvidia")
    folders = [*(spec.submodule_search_locations if spec else []), str(Path(torch.__file__).parent)]
    files = []
    for folder in folders:
        for pattern in ("lib/libnvrtc*.so*", "*/lib/libnvrtc.so.*", "*/bin/nvrtc64_*.dll", "*/bin/*/nvrtc64_*.dll"):
            files += sorted(glob.glob(os.path.join(glob.escape(folder), pattern)))
    files = [file for file in files if "builtins" not in file and ".alt." not in file]
    # torch may be one of several CUDA versions installed: its own first
    files.sort(key=lambda file: re.search(rf"(\.so\.|nvrtc64_){major}", file) is None)
    return [*files, f"libnvrtc.so.{major}", "libnvrtc.so"]


@cache
def version() -> tuple[int, int]:
    major, minor = ctypes.c_int(), ctypes.c_int()
    _check(library().nvrtcVersion(ctypes.byref(major), ctypes.byref(minor)))
    return major.value, minor.value


@cache
def architectures() -> tuple[int, ...]:
    """Compute capabilities that this NVRTC compiles for, as 90 for 9.0."""
    count = ctypes.c_int()
    _check(library().nvrtcGetNumSupportedArchs(ctypes.byref(count)))
    numbers = (ctypes.c_int * count.value)()
    _check(library().nvrtcGetSupportedArchs(numbers))
    return tuple(numbers)


def architecture(capability: int) -> int | None:
    """The best target for a device of this compute capability: code runs on later minor versions of its major one."""
    fitting = [a for a in architectures() if a // 10 == capability // 10 and a <= capability]
    return max(fitting, default=None)


def compile_source(source: str, name: str, options: list[str]) -> tuple[bytes, str]:
    """(cubin, log with registers and spills per kernel).

    Raises:
        CompileError: with NVRTC's log.
    """
    nvrtc, program = library(), ctypes.c_void_p()
    _check(nvrtc.nvrtcCreateProgram(ctypes.byref(program), source.encode(), name.encode(), 0, None, None))
    try:
        options = [*options, *ALWAYS]
        array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        status = nvrtc.nvrtcCompileProgram(program, len(options), array)
        log = _bytes(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
        if status:
            raise CompileError(f"NVRTC could not compile {name} ({' '.join(options)}):\n{log}")
        return _bytes(program, "CUBIN"), log
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def _bytes(program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _check(getattr(library(), f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    content = ctypes.create_string_buffer(size.value)
    _check(getattr(library(), f"nvrtcGet{what}")(program, content))
    return content.raw


def _check(status: int) -> None:
    if status:
        raise RuntimeError(f"NVRTC: {library().nvrtcGetErrorString(status).decode()}")
