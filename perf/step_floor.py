"""What a training step takes at least on a GPU, operation by operation, by arithmetic: no GPU is needed.

    python perf/step_floor.py [--method cellvta@matched] [--batch 8] [--bandwidth 2.9e12] [--peak 6e14]

The step runs on tensors without values. Each operation of torch takes the longer of moving its arguments and results
through memory once and of its arithmetic at the peak; their sum is the floor of the step as long as no operations are
fused, and what a compiler may save is the part of the memory. Kernels that miss peak and bandwidth, and the time
between kernels, come on top. Casts are those of autocast on a CPU, whose list differs a little from a GPU's.
"""

import argparse
import collections
from dataclasses import dataclass

import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmark.methods import registry
from benchmark.runtime.precision import autocast
from benchmark.training.scales import SCALES

CLASSES, TISSUES = 5, 19  # PanNuke's
VIEWS = "alias as_strided chunk detach expand permute reshape select slice split split_with_sizes squeeze t transpose"
OTHERS = "unbind unsqueeze _unsafe_view view lift_fresh empty empty_like empty_strided new_empty new_empty_strided"
MOVES_NOTHING = {*VIEWS.split(), *OTHERS.split()}


@dataclass
class Sum:
    """calls, bytes, floating-point operations and seconds of one kind of operation."""

    calls: int = 0
    moved: int = 0
    work: int = 0
    seconds: float = 0.0


class Floors(TorchDispatchMode):
    """Adds up the floors of all operations while it is on.

    Args:
        bandwidth: bytes per second; peak: operations per second.
    """

    def __init__(self, bandwidth: float, peak: float):
        super().__init__()
        self.bandwidth, self.peak, self.part = bandwidth, peak, "forward"
        self.sums: dict[tuple[str, str, str], Sum] = collections.defaultdict(Sum)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        results = [one for one in tree_leaves(out) if isinstance(one, torch.Tensor)]
        if name in MOVES_NOTHING or not results:
            return out
        tensors = [*results, *(one for one in tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor))]
        moved = sum(one.numel() * one.element_size() for one in tensors)
        counter = flop_registry.get(func.overloadpacket)
        work = counter(*args, **(kwargs or {}), out_val=out) if counter else 0
        shape = f"{str(results[0].dtype).removeprefix('torch.')} {tuple(results[0].shape)}"
        own = self.sums[self.part, name, shape]
        own.calls, own.moved, own.work = own.calls + 1, own.moved + moved, own.work + work
        own.seconds += max(moved / self.bandwidth, work / self.peak)
        return out


def step(spec: str, batch: int, floors: Floors) -> None:
    """Forward pass, loss and backward pass of a method in bf16, as the harness calls them."""
    with torch.device("meta"):
        method = registry.build(spec, CLASSES, TISSUES).train()
    method.set_tune(method.phases(False)[0].tune)
    crop = SCALES["paper"].crop
    side = method.input_side(crop)
    with FakeTensorMode(allow_non_fake_inputs=True):
        method = method.to_empty(device="cpu")
        images = torch.rand(batch, 3, side, side)
        with floors:
            with autocast("bf16", torch.device("cpu")):
                outputs = method(images)
            outputs = {name: values.float() for name, values in outputs.items()}
            floors.part = "loss"
            loss = sum(method.loss(outputs, targets(batch, crop)).values())
            floors.part = "backward"
            loss.backward()


def targets(batch: int, crop: int) -> dict[str, torch.Tensor]:
    """Targets of the representation hv, of a batch."""
    return {
        "np": torch.zeros(batch, crop, crop, dtype=torch.long),
        "hv": torch.zeros(batch, 2, crop, crop),
        "tp": torch.zeros(batch, crop, crop, dtype=torch.long),
        "typed": torch.ones(batch, dtype=torch.bool),
        "tissue": torch.zeros(batch, dtype=torch.long),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--method", default="cellvta@matched", help="of the representation hv (default cellvta@matched)"
    )
    parser.add_argument("--batch", type=int, default=8, help="images (default 8)")
    parser.add_argument("--bandwidth", type=float, default=2.9e12, help="bytes per second (default an H100's, copied)")
    parser.add_argument("--peak", type=float, default=6e14, help="operations per second in bf16 (default 6e14)")
    parser.add_argument("--lines", type=int, default=30, help="kinds of operations to print (default 30)")
    options = parser.parse_args()
    floors = Floors(options.bandwidth, options.peak)
    step(options.method, options.batch, floors)
    for part in ("forward", "loss", "backward"):
        report(part, [one for (where, *_), one in floors.sums.items() if where == part])
    everything = list(floors.sums.values())
    report("step", everything)
    arithmetic = sum(one.work for one in everything) / options.peak
    print(f"its arithmetic alone: {1e3 * arithmetic:.1f} ms, {options.batch / arithmetic:.0f} images/s\n")
    ranked = sorted(floors.sums.items(), key=lambda item: -item[1].seconds)
    for (part, name, shape), one in ranked[: options.lines]:
        print(f"{1e3 * one.seconds:7.2f} ms {one.calls:4} x {part:8} {name} {shape}")
    total = sum(one.seconds for one in everything)
    print(f"\nat most {options.batch / total:.0f} images/s, unfused")


def report(part: str, sums: list[Sum]) -> None:
    calls, moved, work = (sum(getattr(one, name) for one in sums) for name in ("calls", "moved", "work"))
    seconds = sum(one.seconds for one in sums)
    print(f"{part:8} {1e3 * seconds:7.1f} ms {calls:6} operations {moved / 1e9:7.1f} GB {work / 1e12:6.2f} TFLOP")


if __name__ == "__main__":
    main()
