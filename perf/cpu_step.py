"""CellVTA at its full size on a CPU: the forward pass and a whole step of one image, beside the published way.

    python perf/cpu_step.py                     # about 12 minutes, 8 GB of memory; random encoder weights

The published way is our own model computing what the published code computes: the skip convolutions once for each
branch, deformable attention as `grid_sample`, torch's own allocator. The others change one thing after the other. The
loss is the mean square of all outputs. Each way is a process of its own, in turns, so that a slow minute of the machine
meets all; the least processor time counts. Writes <out>/<hardware>_cpu_step.csv; the last column is the share of the
profiled time that convolutions, matrix products and attention take.
"""

import argparse
import contextlib
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from arguments import positive
from bench_ops import hardware
from csv_rows import Rows
from step_floor import CLASSES, TISSUES
from step_variants import by_grid_sample, skips_of_each_branch

from benchmark.methods import registry
from benchmark.runtime import memory

CHANGES = {  # of each way, see `method_as`
    "as published": ("skips", "grid_sample", "allocator"),
    "skips once": ("grid_sample", "allocator"),
    "and our op": ("allocator",),
    "and freed memory kept": (),
}
PASSES = ("forward", "step")
ARITHMETIC = ("conv", "mm", "scaled_dot_product", "_Attention")
COLUMNS = ("pass", "way", "seconds", "ratio", "arithmetic")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", choices=("debug", "small", "matched"), default="matched")
    parser.add_argument("--turns", type=positive, default=2, help="processes of each way (default 2)")
    parser.add_argument("--calls", type=positive, default=2, help="timed in each, after one that is not (default 2)")
    parser.add_argument("--threads", type=positive, default=1)
    parser.add_argument("--out", type=Path, default=Path("reports/speed"))
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(measured(*options.child, options)))
        return
    name = re.sub(r"\W+", "_", hardware(torch.device("cpu"))).strip("_")
    facts = {
        "hardware": hardware(torch.device("cpu")),
        "method": f"cellvta@{options.scale}",
        "threads": options.threads,
    }
    rows = Rows(options.out / f"{name}_cpu_step.csv", COLUMNS, **facts)
    for which in PASSES:
        found = {way: [] for way in CHANGES}
        for _ in range(options.turns):
            for way, values in found.items():
                values.append(_process(which, way))
                print(f"{which:8s} {way:24s} {values[-1]['seconds']:7.2f} s", flush=True)
        least = {way: min(one["seconds"] for one in values) for way, values in found.items()}
        for way, seconds in least.items():
            ratio = least["as published"] / seconds
            rows.add(which, way, round(seconds, 3), round(ratio, 3), found[way][0]["arithmetic"])
            print(f"{which:8s} {way:24s} {seconds:7.2f} s  {ratio:5.2f} x", flush=True)


def _process(which: str, way: str) -> dict:
    command = [sys.executable, *sys.argv, "--child", which, way]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def measured(which: str, way: str, options) -> dict:
    """The least processor seconds of one pass in this process, and the share of arithmetic in a profiled one."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    weights = {"weights": "random"} if options.scale == "matched" else {}
    method = registry.build(f"cellvta@{options.scale}", CLASSES, TISSUES, **weights)
    images = torch.rand(1, 3, 256, 256)
    seconds = []
    with method_as(method, CHANGES[way]):
        for _ in range(1 + options.calls):
            begun = time.process_time()
            one_pass(method, images, which)
            seconds.append(time.process_time() - begun)
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            one_pass(method, images, which)
    total, arithmetic = 0.0, 0.0
    for event in profile.key_averages():
        total += event.self_cpu_time_total
        arithmetic += event.self_cpu_time_total * any(word in event.key for word in ARITHMETIC)
    return {"seconds": min(seconds[1:]), "arithmetic": round(arithmetic / total, 3)}


@contextlib.contextmanager
def method_as(method, changes: tuple[str, ...]):
    with contextlib.ExitStack() as stack:
        if "skips" in changes:
            stack.enter_context(skips_of_each_branch(method))
        if "grid_sample" in changes:
            stack.enter_context(by_grid_sample(method))
        if "allocator" not in changes:
            memory.keep_freed()
        yield


def one_pass(method, images: torch.Tensor, which: str) -> None:
    if which == "forward":
        with torch.no_grad():
            method.eval()(images)
        return
    method.train().zero_grad(set_to_none=True)
    sum(values.square().mean() for values in method(images).values()).backward()


if __name__ == "__main__":
    main()
