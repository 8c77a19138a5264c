"""Memory, time and gradients of one update with recipe.recompute and recipe.accumulate, and shared by processes.

    OMP_NUM_THREADS=1 python perf/memory_levers.py            # cellvta and cellvit at scale small, on a CPU

Each row is a process of its own, which makes updates of one batch of drawn images with random weights:

memory      main memory at its peak, above that before the first update
seconds     processor time of an update, the least of those made
gradient    relative norm of its difference from the gradient of the whole batch at once, in the training's first batch
fixed       the same with batch norm fixed to its running statistics: what the loss alone makes

"n processes" is what n of them would do, one after the other: the mean of the gradients of n shares, each with a loss
of its own. "losses added up" is the same for micro-batches, which is not what recipe.accumulate does.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from benchmark.data.registry import dataset
from benchmark.data.store.prepare import prepare
from benchmark.methods import registry
from benchmark.runtime import distributed, memory
from benchmark.runtime.workers import pool
from benchmark.training import accumulate, loader
from benchmark.training.recompute import recompute_blocks
from benchmark.training.scales import SCALES


@dataclass(frozen=True)
class Setting:
    """How an update is made. shares: of the batch, each with a loss of its own, whose gradients are averaged."""

    what: str
    parts: int = 1
    recompute: bool = False
    shares: int = 1


SETTINGS = (
    Setting("as it is"),
    Setting("recipe.recompute=true", recompute=True),
    Setting("recipe.accumulate=2", parts=2),
    Setting("recipe.accumulate=4", parts=4),
    Setting("recipe.accumulate=8", parts=8),
    Setting("both, accumulate=4", parts=4, recompute=True),
    Setting("2 processes", shares=2),
    Setting("4 processes", shares=4),
    Setting("losses of 8 added up", shares=8),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=["cellvta", "cellvit"], help="default cellvta cellvit")
    parser.add_argument("--scale", choices=("debug", "small"), default="small", help="default small")
    parser.add_argument("--updates", type=int, default=3, help="timed, of each row (default 3)")
    chosen = parser.parse_args()
    print(f"{'method':16}{'setting':28}{'memory, MiB':>12}{'seconds':>9}{'gradient':>10}{'fixed':>10}")
    for name in chosen.methods:
        for number in range(len(SETTINGS)):
            with pool(1) as processes:
                row = processes.submit(measure, f"{name}@{chosen.scale}", chosen.scale, number, chosen.updates).result()
            print(
                f"{name:16}{SETTINGS[number].what:28}{row[0]:12.0f}{row[1]:9.2f}{row[2]:10.1e}{row[3]:10.1e}",
                flush=True,
            )
    return 0


def measure(spec: str, scale: str, number: int, updates: int) -> tuple[float, float, float, float]:
    """The figures of a row: MiB, seconds, and the two differences."""
    setting, recipe = SETTINGS[number], replace(SCALES[scale], batch=8, workers=0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = prepare(dataset("synthetic@patches=24"), Path(folder), split=1, progress=False)
        torch.manual_seed(0)
        method = registry.build(spec, len(data.classes), len(data.tissues)).train()
        method.set_tune(method.phases(False)[-1].tune)
        world, subset = distributed.start("cpu"), data.subset(1, "train")
        batch = next(iter(loader.training_loader(subset, method, recipe, data, 0, world, recipe.batch)))
    if setting.recompute:
        recompute_blocks(method, lambda line: None)
    before, seconds = resident(), []
    for _ in range(updates):
        began = time.process_time()
        update(method, batch, setting)
        seconds.append(time.process_time() - began)
    peak = memory.peak_resident() - before
    differences = []
    for fixed in (False, True):
        for module in method.modules():
            if fixed and isinstance(module, _BatchNorm):
                module.eval()
        whole = update(method, batch, SETTINGS[0])
        differences.append(float((update(method, batch, setting) - whole).norm() / whole.norm()))
    return peak / 2**20, min(seconds), *differences


def update(method, batch: dict, setting: Setting) -> torch.Tensor:
    """The gradient of all parameters, float64, one after the other."""
    method.zero_grad(set_to_none=True)
    shares = [dict(zip(batch, own)) for own in zip(*(v.chunk(setting.shares) for v in batch.values()))]
    for share in shares:
        passes = accumulate.MicroBatches(method, share["image"], setting.parts, (0,), "fp32")
        outputs = passes.forward()
        (sum(method.loss(outputs, share).values()) / setting.shares).backward()
        passes.backward()
    return torch.cat([p.grad.flatten().double() for p in method.parameters() if p.grad is not None])


def resident() -> int:
    """Bytes of main memory that this process has now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("/proc/self/status: expected a line VmRSS, found none; this script needs Linux.")


if __name__ == "__main__":
    sys.exit(main())
