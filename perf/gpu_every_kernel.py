"""Launches every kernel of the GPU backend on small tensors; for compute-sanitizer (see gpu_check.sh)."""

import sys

import torch

from benchmark.ops import cuda
from benchmark.ops.cuda.driver import gpu

# channels, levels, queries: tile and no tile, one range and many, several slabs, sides without the vector path
PROBLEMS = [
    (64, [(16, 16)], 700),
    (64, [(17, 16)], 700),
    (64, [(40, 41), (20, 20), (3, 2)], 33),
    (30, [(7, 5), (4, 4)], 50),
    (1025, [(3, 3)], 5),
    (1, [(6, 6)], 9),
]


def main() -> int:
    works, why = cuda.usable()
    if not works:
        print(f"needs a GPU: {why}")
        return 0
    machine, launched = gpu(torch.cuda.current_device()), set()
    start = machine.launch
    machine.launch = lambda family, layout, kernel, *rest: (launched.add(kernel), start(family, layout, kernel, *rest))
    rng = torch.Generator("cuda").manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        for channels, shapes, queries in PROBLEMS:
            exact = torch.float64 if dtype == torch.float64 else torch.float32
            size = (1, queries, 2, len(shapes), 4)
            value = torch.randn(1, sum(h * w for h, w in shapes), 2, channels, device="cuda", generator=rng).to(dtype)
            locations = torch.rand(*size, 2, device="cuda", generator=rng, dtype=exact) * 1.4 - 0.2
            weights = torch.rand(size, device="cuda", generator=rng, dtype=exact)
            grad_output = cuda.forward(value, shapes, locations, weights)
            for deterministic in (True, False):
                cuda.backward(grad_output, value, shapes, locations, weights, deterministic, scatter=not deterministic)
            torch.cuda.synchronize()
    print(f"launched {', '.join(sorted(launched))}")
    return 0 if len(launched) == 10 else 1


if __name__ == "__main__":
    sys.exit(main())
