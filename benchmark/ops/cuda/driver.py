"""One GPU as a `plan.Machine`: modules loaded and kernels launched through the CUDA driver, on torch's context, device
and current stream."""

import ctypes
import sys
import threading
from collections.abc import Sequence
from contextlib import contextmanager
from functools import cache

import torch

from benchmark.ops.cuda import nvrtc, sources
from benchmark.ops.cuda.layout import Layout

_MAX_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
_SHARED_LIMIT = 97  # CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN
_RELAXED = 2  # CU_STREAM_CAPTURE_MODE_RELAXED


@cache
def _cuda() -> ctypes.CDLL:
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")


def _call(name: str, *arguments) -> None:
    status = getattr(_cuda(), name)(*arguments)
    if status:
        text = ctypes.c_char_p()
        _cuda().cuGetErrorString(status, ctypes.byref(text))
        raise RuntimeError(f"{name}: {(text.value or b'unknown error').decode()} (CUDA error {status})")


@contextmanager
def _capture_undisturbed():
    """Loading a module allocates, which would break off a graph that is being captured; as a relaxed thread it may."""
    mode = ctypes.c_int(_RELAXED)
    _call("cuThreadExchangeStreamCaptureMode", ctypes.byref(mode))  # now holds the mode before
    try:
        yield
    finally:
        _call("cuThreadExchangeStreamCaptureMode", ctypes.byref(mode))


class Gpu:
    """A device, its context and the kernels loaded there. Made by `gpu(index)`.

    Raises:
        OSError: no CUDA driver or no NVRTC.
        RuntimeError: NVRTC does not know the device's compute capability, or a driver call fails.
    """

    def __init__(self, index: int):
        properties = torch.cuda.get_device_properties(index)
        capability = properties.major * 10 + properties.minor
        self.architecture = nvrtc.architecture(capability)
        if self.architecture is None:
            known = ", ".join(map(str, nvrtc.architectures()))
            raise RuntimeError(f"NVRTC {nvrtc.version()} compiles for {known}, not for this device's {capability}")
        self.index = index
        self.multiprocessors = properties.multi_processor_count
        device, self._context, limit = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_int()
        _call("cuDeviceGet", ctypes.byref(device), index)
        # torch's context too; made here if torch has not needed it yet
        _call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        _call("cuDeviceGetAttribute", ctypes.byref(limit), _SHARED_LIMIT, device)
        self.shared_limit = limit.value
        self._kernels: dict[tuple[str, Layout], dict[str, ctypes.c_void_p]] = {}
        self._lock = threading.Lock()

    def launch(self, family: str, layout: Layout, kernel: str, grid: int, threads: int, shared: int, arguments: list):
        """As `plan.Machine.launch`, on torch's current stream of this device; returns before the kernel runs."""
        self.start(self._kernels_of(family, layout)[kernel], grid, threads, shared, arguments)

    def start(self, function: ctypes.c_void_p, grid: int, threads: int, shared: int, arguments: list) -> None:
        """Launch a function of `load`; arguments are ctypes values."""
        pointers = (ctypes.c_void_p * len(arguments))(*(ctypes.addressof(a) for a in arguments))
        stream = ctypes.c_void_p(torch.cuda.current_stream(self.index).cuda_stream)
        one = ctypes.c_uint(1)
        size = ctypes.c_uint(grid), one, one, ctypes.c_uint(threads), one, one, ctypes.c_uint(shared)
        with self._current():
            _call("cuLaunchKernel", function, *size, stream, pointers, None)

    def load(self, cubin: bytes, names: Sequence[str]) -> dict[str, ctypes.c_void_p]:
        """The kernels `names` of a module, each allowed all the shared memory there is."""
        module, kernels = ctypes.c_void_p(), {}
        with self._current(), _capture_undisturbed():
            _call("cuModuleLoadData", ctypes.byref(module), cubin)
            for name in names:
                function = kernels[name] = ctypes.c_void_p()
                _call("cuModuleGetFunction", ctypes.byref(function), module, name.encode())
                _call("cuFuncSetAttribute", function, _MAX_SHARED, ctypes.c_int(self.shared_limit))
        return kernels

    def _kernels_of(self, family: str, layout: Layout) -> dict[str, ctypes.c_void_p]:
        key = family, layout
        if key not in self._kernels:
            with self._lock:  # autograd's threads may come at the same time
                if key not in self._kernels:
                    cubin = sources.cubin(family, layout, self.architecture)
                    self._kernels[key] = self.load(cubin, sources.FAMILIES[family])
        return self._kernels[key]

    @contextmanager
    def _current(self):
        # pushed, not assumed: a thread may have no context, or that of another device
        _call("cuCtxPushCurrent_v2", self._context)
        try:
            yield
        finally:
            _call("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))


@cache
def gpu(index: int) -> Gpu:
    return Gpu(index)
