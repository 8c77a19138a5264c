"""The op's share of a CellVTA training step (forward, loss, backward, AdamW), for each backend that runs here, and
the share of the softmax and the sampling locations beside it.

    python perf/op_share.py                     # CPU: debug preset, 4 images; GPU: paper, 16 images, bfloat16

On a GPU the times lie between events in the stream: where the host is late, its launches count into the op's share.
"""

import argparse
import time
from pathlib import Path

import torch
from bench_ops import GRIDS, hardware
from csv_rows import Rows

from benchmark.data.sources.synthetic import CLASSES, TISSUES, draw
from benchmark.methods import registry
from benchmark.ops import autograd, backends
from benchmark.runtime.placing import placed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU (default 1)")
    parser.add_argument("--preset", help="default: debug on a CPU, paper on a GPU")
    parser.add_argument("--rounds", type=int, default=3, help="steps after the first; the fastest counts (default 3)")
    parser.add_argument("--csv", type=Path, help="a row for each backend is written here, too")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    device = torch.device(chosen.device)
    gpu = device.type == "cuda"
    preset, images = chosen.preset or ("paper" if gpu else "debug"), 16 if gpu else 4
    print(f"{hardware(device)}: cellvta@{preset}, {images} images of 256 x 256, {chosen.threads} CPU thread(s)")
    method, step = training_step(preset, images, device)
    facts = {"hardware": hardware(device), "method": f"cellvta@{preset}", "batch": images}
    rows = Rows(chosen.csv, ("backend", "ms_per_step", "of_step"), **facts)
    took = None
    for name in ("torch", device.type):
        works, why = backends()[name]
        if not works:
            print(f"  backend {name}: cannot run here: {why}")
            continue
        for module in attentions(method):
            module.backend = name
        shares = [share_of(step, device) for _ in range(1 + chosen.rounds)][1:]
        took, share = min(shares)
        print(f"  backend {name}: step {1e3 * took:.0f} ms, of which the op {100 * share:.1f} %")
        rows.add(name, 1e3 * took, share)
    alone = min(around_the_op(method, images, device) for _ in range(1 + chosen.rounds))
    print(f"  softmax and sampling locations by themselves, forward+backward: {100 * alone / took:.1f} % of that step")


def training_step(preset: str, images: int, device: torch.device):
    """(the method with random weights, a function that does one step)."""
    torch.manual_seed(0)
    extra = {"weights": "random"} if preset == "paper" else {}
    method = placed(registry.build(f"cellvta@{preset}", len(CLASSES), len(TISSUES), **extra), device).train()
    samples = [draw(TISSUES[k % len(TISSUES)], k, 0) for k in range(images)]
    targets = [method.representation.targets(s.nuclei) for s in samples]
    batch = {k: torch.stack([torch.as_tensor(t[k]) for t in targets]).to(device) for k in targets[0]}
    batch |= {"typed": torch.ones(images, dtype=torch.bool, device=device)}
    batch |= {"tissue": torch.arange(images, device=device) % len(TISSUES)}
    pictures = torch.stack([torch.as_tensor(s.image).permute(2, 0, 1) for s in samples]).to(device) / 255
    optimiser = torch.optim.AdamW((p for p in method.parameters() if p.requires_grad), 1e-4, fused=True)

    def step():
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            loss = sum(method.loss(method(pictures), batch).values())
        loss.backward()
        optimiser.step()
        optimiser.zero_grad()

    return method, step


def attentions(method: torch.nn.Module) -> list[torch.nn.Module]:
    return [module for module in method.modules() if hasattr(module, "sampling_offsets")]


def share_of(step, device: torch.device) -> tuple[float, float]:
    """(seconds of a step, the part of it between the beginning and the end of the op's calls)."""
    clocks, plain = [], (autograd._forward, autograd._backward)

    def clocked(call):
        def run(*arguments):
            clocks.append(Clock(device))
            out = call(*arguments)
            clocks[-1].stop()
            return out

        return run

    autograd._forward, autograd._backward = (clocked(call) for call in plain)
    try:
        whole = Clock(device)
        step()
        whole.stop()
    finally:
        autograd._forward, autograd._backward = plain
    took = whole.seconds()
    return took, sum(clock.seconds() for clock in clocks) / took


class Clock:
    """Process time on a CPU; on a GPU the time between two events, read only once all is done."""

    def __init__(self, device: torch.device):
        self.gpu = device.type == "cuda"
        self.start = self._mark()

    def stop(self) -> None:
        self.end = self._mark()

    def seconds(self) -> float:
        if not self.gpu:
            return self.end - self.start
        self.end.synchronize()
        return self.start.elapsed_time(self.end) / 1e3

    def _mark(self):
        if not self.gpu:
            return time.process_time()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def around_the_op(method: torch.nn.Module, images: int, device: torch.device) -> float:
    """Seconds that one step spends on what a fused operator would take over: softmax, reference points plus offsets."""
    parts = []
    queries = [sum(h * w for h, w in grids) for grids in (GRIDS[-1:], GRIDS)]
    for module in attentions(method):
        injector = module.levels > 1
        grids, asking = (GRIDS, queries[0]) if injector else (GRIDS[-1:], queries[1])
        size = (images, asking, module.heads, module.levels, module.points)
        logits = torch.randn(*size[:3], size[3] * size[4], device=device, requires_grad=True)
        offsets = torch.randn(*size, 2, device=device, requires_grad=True)
        sides = torch.tensor([(w, h) for h, w in grids], dtype=torch.float32, device=device)[:, None]
        points = torch.rand(1, asking, 1, 1, 1, 2, device=device)
        parts.append((logits, offsets, sides, points))
    clock = Clock(device)
    for logits, offsets, sides, points in parts:
        weights, locations = logits.softmax(-1), points + offsets / sides
        torch.autograd.backward([weights, locations], [weights.detach(), locations.detach()])
    clock.stop()
    return clock.seconds()


if __name__ == "__main__":
    main()
