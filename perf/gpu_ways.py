"""The GPU backend's ways of the backward pass beside a plain kernel (one thread per channel, fp32 atomicAdd), on
CellVTA's shapes: milliseconds, ratios, the fraction of the floor (a copy within the device, measured in the same run),
and the largest relative distance between results. Needs a GPU.

    python perf/gpu_ways.py [--batch 16] [--csv reports/gpu/ways.csv]
"""

import argparse
import ctypes
import sys
from pathlib import Path

import gpu_time
import torch
from csv_rows import Rows

from benchmark.ops import cuda
from benchmark.ops.cuda import nvrtc
from benchmark.ops.cuda.plan import pointer

SHAPES = {
    "injector": ([(64, 64), (32, 32), (16, 16)], 256),
    "extractor": ([(16, 16)], 5376),
}
HEADS, CHANNELS, POINTS = 8, 64, 4
COLUMNS = ("call", "batch", "dtype", "part", "way", "ms", "plain fp32 ms / ms", "distance", "of_floor")
SHORT = {torch.float32: "fp32", torch.bfloat16: "bf16"}


def problem(name: str, batch: int, dtype: torch.dtype, queries: int | None = None):
    """Random values; points around a regular grid of queries, as offsets of a few pixels put them.

    queries: instead of the call's own; a square number, of the injector.
    """
    shapes, usual = SHAPES[name]
    queries = queries or usual
    rng = torch.Generator("cuda").manual_seed(0)
    length, levels = sum(h * w for h, w in shapes), len(shapes)
    sides = [round(queries**0.5)] if name == "injector" else [64, 32, 16]
    points = [torch.cartesian_prod(*[(torch.arange(s, device="cuda") + 0.5) / s] * 2).flip(-1) for s in sides]
    size = torch.tensor([(w, h) for h, w in shapes], device="cuda", dtype=torch.float32)
    offsets = torch.randn(batch, queries, HEADS, levels, POINTS, 2, device="cuda", generator=rng) * 2
    locations = torch.cat(points).view(1, queries, 1, 1, 1, 2) + offsets / size.view(1, 1, 1, levels, 1, 2)
    weights = torch.rand(batch, queries, HEADS, levels * POINTS, device="cuda", generator=rng).softmax(-1)
    weights = weights.view(batch, queries, HEADS, levels, POINTS)
    value = torch.randn(batch, length, HEADS, CHANNELS, device="cuda", generator=rng).to(dtype)
    grad_output = torch.randn(batch, queries, HEADS * CHANNELS, device="cuda", generator=rng).to(dtype)
    return grad_output, value, shapes, locations.contiguous(), weights.contiguous()


class Plain:
    """The comparison kernel: float32 only."""

    def __init__(self):
        from benchmark.ops.cuda.driver import gpu

        self.gpu = gpu(torch.cuda.current_device())
        text = Path(__file__).with_name("plain_deform_attn.cu").read_text()
        cubin, _ = nvrtc.compile_source(text, "plain.cu", [f"--gpu-architecture=sm_{self.gpu.architecture}"])
        self.kernels = self.gpu.load(cubin, ["plain_forward", "plain_backward"])

    def _run(self, name, tensors, value, locations):
        numbers = (*value.shape, locations.shape[1], *locations.shape[3:5])
        arguments = [*map(pointer, tensors), *map(ctypes.c_int, numbers)]
        threads = locations.shape[0] * locations.shape[1] * value.shape[2] * value.shape[3]
        self.gpu.start(self.kernels[name], -(-threads // 256), 256, 0, arguments)

    def forward(self, value, sides, locations, weights):
        out = value.new_empty(value.shape[0], locations.shape[1], HEADS * CHANNELS)
        self._run("plain_forward", (value, sides, locations, weights, out), value, locations)
        return out

    def backward(self, grad_output, value, sides, locations, weights):
        grads = [torch.zeros_like(t) for t in (value, locations, weights)]
        self._run("plain_backward", (grad_output, value, sides, locations, weights, *grads), value, locations)
        return grads


def milliseconds(function, repeats: int = 15) -> float:
    """Median of the GPU's own time for a call, after warming up."""
    device = torch.device("cuda", torch.cuda.current_device())
    return 1e3 * sorted(gpu_time.times(function, device, 2 + repeats)[2:])[repeats // 2]


def distance(results, expected) -> float:
    """Largest relative distance of a result from the expected one."""
    return max(float((r.double() - e.double()).norm() / e.double().norm()) for r, e in zip(results, expected))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--csv", type=Path)
    options = parser.parse_args()
    works, why = cuda.usable()
    if not works:
        print(f"needs a GPU: {why}")
        return 0
    plain, gpu = Plain(), torch.cuda.get_device_name()
    rows = Rows(options.csv, COLUMNS, gpu=gpu)
    for name in SHAPES:
        exact = problem(name, options.batch, torch.float32)
        shapes = exact[2]
        sides = torch.tensor(shapes, dtype=torch.int32, device="cuda")
        baseline = {
            "forward": lambda e=exact, s=sides: [plain.forward(e[1], s, *e[3:])],
            "backward": lambda e=exact, s=sides: plain.backward(*e[:2], s, *e[3:]),
        }
        results = {part: run() for part, run in baseline.items()}
        plain_ms = {part: milliseconds(run) for part, run in baseline.items()}
        for dtype in SHORT:
            arguments = [t.to(dtype) if i < 2 else t for i, t in enumerate(exact)]
            ways = {
                ("forward", "ours"): lambda a=arguments: [cuda.forward(*a[1:])],
                ("backward", "default"): lambda a=arguments: cuda.backward(*a, False),
                ("backward", "sorted (deterministic)"): lambda a=arguments: cuda.backward(*a, True),
                ("backward", "atomics"): lambda a=arguments: cuda.backward(*a, False, scatter=True),
            }
            for (part, way), run in ways.items():
                ms, error = milliseconds(run), distance(run(), results[part])
                grad, value, _, *rest = arguments
                floor = gpu_time.floor(sum(t.nbytes for t in (value, *rest)), grad.nbytes, value.device)
                of_floor = 1e3 * floor[part == "backward"] / ms
                faster = plain_ms[part] / ms
                rows.add(name, options.batch, SHORT[dtype], part, way, ms, faster, error, of_floor)
                print(
                    f"{name:9} B={options.batch} {SHORT[dtype]} {part:8} {way:22} {ms:8.3f} ms"
                    f"  {faster:6.1f} x the plain fp32 kernel ({plain_ms[part]:.3f} ms), distance {error:.1e}"
                    f", {of_floor:.2f} of the floor",
                    flush=True,
                )
    print(gpu)
    return 0


if __name__ == "__main__":
    sys.exit(main())
