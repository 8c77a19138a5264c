"""Where the GPU's time goes in a training step: kernels by kind and by name, and the time between them.

    python perf/step_profile.py                 # cellvta@matched, batch 8, bf16, compiled and graphed
    python perf/step_profile.py --recipe eager  # launched one by one

One batch lies on the device, so that the step alone is seen. The profiler slows a step that is launched by Python; a
step of graphs hardly. Writes <out>/step_profile.csv: kind, kernel, launches and milliseconds a step.
"""

import argparse
import re
import sys
import time
from collections import defaultdict
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

sys.path.insert(0, str(Path(__file__).parent))
from arguments import positive
from bench_ops import hardware
from csv_rows import Rows
from step_parts import Bench, cellvta, trained
from step_variants import FASTEST, Variant

from benchmark.data.registry import dataset
from benchmark.data.store.prepare import prepare
from benchmark.runtime import distributed
from benchmark.training import loop

RECIPES = {"fastest": FASTEST, "compile": {"deterministic": False, "compile": True}, "eager": {"deterministic": False}}
# kind -> what the names of its kernels hold, the first that fits
KINDS = {
    "this op": r"^(forward_tile|values_and_points|gather_values|points_global)",
    "attention": r"cudnn_generated|cudnn::fusion|flash|fmha",
    "compiled by Inductor": r"^triton",
    "convolutions": r"fprop|dgrad|wgrad|conv2d|cask",
    "matrix products": r"^nvjet|gemm",
    "batch norm": r"batch_norm|batchnorm|bn_",
    "optimiser": r"multi_tensor",
    "copies and memory": r"Memset|Memcpy|copy_kernel|CatArray",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", choices=RECIPES, default="fastest")
    parser.add_argument("--steps", type=positive, default=3, help="profiled, after as many as --warm (default 3)")
    parser.add_argument("--warm", type=positive, default=20)
    parser.add_argument("--out", type=Path, default=Path("reports/speed"))
    chosen = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("step_profile.py: expected a CUDA device, found none.")
    world = distributed.start("cuda")
    print(f"{hardware(world.device)}; torch {torch.__version__}")
    data = prepare(dataset("synthetic@patches=24"), Path("data/cache"), 1, progress=False)
    bench = Bench(world, data, "paper", chosen.steps, chosen.warm, chosen.out, float("inf"), {}, [])
    variant = Variant("", RECIPES[chosen.recipe], feed="kept")
    with trained(bench, cellvta(bench), variant) as (state, active, job):
        print("; ".join(active.outcomes.values()) or "launched one by one")
        epoch(state, active, job, 5)
        wall = epoch(state, active, job, chosen.warm)
        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            epoch(state, active, job, chosen.steps)
    show(profiler, wall, chosen)


def epoch(state, active, job, steps: int) -> float:
    """Milliseconds a step."""
    active.feed.batch_sampler.samples = steps * active.feed.batch_sampler.batch
    torch.cuda.synchronize()
    began = time.perf_counter()
    loop.train_epoch(state, active, 0, job)
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - began) / steps


def show(profiler, wall: float, chosen) -> None:
    took: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for event in profiler.profiler.kineto_results.events():
        # a range that torch names, as of the optimiser's step, spans kernels that are counted by themselves
        if "CUDA" in str(event.device_type()) and not re.match(r"[\w.]+#|ProfilerStep", event.name()):
            took[event.name()][0] += 1
            took[event.name()][1] += event.duration_ns() / 1e6
    card = hardware(torch.device("cuda", torch.cuda.current_device()))
    rows = Rows(chosen.out / "step_profile.csv", ("kind", "kernel", "launches", "ms"), hardware=card)
    kinds: dict[str, list[float]] = defaultdict(lambda: [0, 0.0])
    for name, (count, milliseconds) in sorted(took.items(), key=lambda item: -item[1][1]):
        kind = kind_of(name)
        kinds[kind][0] += count
        kinds[kind][1] += milliseconds
        rows.add(kind, name[:120], count / chosen.steps, round(milliseconds / chosen.steps, 4))
    busy = sum(milliseconds for _, milliseconds in took.values()) / chosen.steps
    print(f"a step takes {wall:.1f} ms without the profiler, its kernels {busy:.1f} ms")
    for kind, (count, milliseconds) in sorted(kinds.items(), key=lambda item: -item[1][1]):
        print(f"  {kind:22s} {milliseconds / chosen.steps:7.2f} ms {count / chosen.steps:7.0f} launches")


def kind_of(kernel: str) -> str:
    return next((kind for kind, names in KINDS.items() if re.search(names, kernel)), "other operators, one by one")


if __name__ == "__main__":
    main()
