"""What reaches the CUDA driver, with a recording stand-in for its library: no GPU is needed."""

import ctypes

import pytest
import torch

from benchmark.ops.cuda import driver, sources
from benchmark.ops.cuda.layout import Layout

LAYOUT = Layout(torch.float32, 64, 4)


class Driver:
    """Answers like libcuda; remembers the calls. `refused`: the name of a call that fails."""

    def __init__(self):
        self.calls, self.depth, self.capture_mode, self.refused = [], 0, 0, None

    def __getattr__(self, name):
        def call(*arguments):
            if name == "cuGetErrorString":
                arguments[1]._obj.value = b"refused"
                return 0
            self.calls.append((name, arguments))
            self.depth += {"cuCtxPushCurrent_v2": 1, "cuCtxPopCurrent_v2": -1}.get(name, 0)
            if name in ("cuModuleLoadData", "cuLaunchKernel"):
                assert self.depth == 1, "without the device's context"
            if name == "cuThreadExchangeStreamCaptureMode":
                mode = arguments[0]._obj
                self.capture_mode, mode.value = mode.value, self.capture_mode
            if name == "cuModuleLoadData":
                assert self.capture_mode == 2, "would break off the capture of a graph"
            if name == "cuDeviceGetAttribute":
                arguments[0]._obj.value = 227 * 1024
            if name == "cuModuleGetFunction":
                arguments[0]._obj.value = len(self.calls)
            return 1 if name == self.refused else 0

        return call


@pytest.fixture
def gpu(monkeypatch, tmp_path):
    properties = type("Properties", (), {"major": 9, "minor": 0, "multi_processor_count": 132})
    stream = type("Stream", (), {"cuda_stream": 4711})
    monkeypatch.setenv("BENCHMARK_KERNEL_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda index: stream)
    library = Driver()
    monkeypatch.setattr(driver, "_cuda", lambda: library)
    return driver.Gpu(1), library


pytestmark = pytest.mark.skipif(torch.version.cuda is None, reason="this torch is built without CUDA")


def test_launch(gpu):
    machine, library = gpu
    assert (machine.shared_limit, machine.multiprocessors, machine.architecture) == (227 * 1024, 132, 90)
    assert ("cuDeviceGet", 1) in [(name, arguments[-1]) for name, arguments in library.calls]
    arguments = [ctypes.c_void_p(123), ctypes.c_longlong(2**40)]
    for _ in range(2):
        machine.launch("forward", LAYOUT, "forward_tile", 7, 256, 1024, arguments)
    names = [name for name, _ in library.calls]
    assert names.count("cuModuleLoadData") == 1 and names.count("cuLaunchKernel") == 2
    assert (library.depth, library.capture_mode) == (0, 0)
    loaded = next(arguments[1] for name, arguments in library.calls if name == "cuModuleLoadData")
    assert loaded == sources.cubin("forward", LAYOUT, 90)
    _, *sizes, stream, pointers, extra = library.calls[names.index("cuLaunchKernel")][1]
    assert [size.value for size in sizes] == [7, 1, 1, 256, 1, 1, 1024]
    assert stream.value == 4711 and extra is None
    assert ctypes.c_longlong.from_address(pointers[1]).value == 2**40


def test_failed_launch_is_said_and_leaves_no_context(gpu):
    machine, library = gpu
    library.refused = "cuLaunchKernel"
    with pytest.raises(RuntimeError, match="cuLaunchKernel: refused"):
        machine.launch("values", LAYOUT, "combine_splits", 1, 256, 0, [ctypes.c_int(1)])
    assert library.depth == 0


def test_failed_load_leaves_neither_context_nor_capture_mode(gpu):
    machine, library = gpu
    library.refused = "cuModuleGetFunction"
    with pytest.raises(RuntimeError, match="cuModuleGetFunction: refused"):
        machine.load(b"", ["forward_tile"])
    assert (library.depth, library.capture_mode) == (0, 0)
