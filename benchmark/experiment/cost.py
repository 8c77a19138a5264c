"""What a run cost: trainable parameters, FLOPs, memory, and the backend of the op that it used."""

import torch

from benchmark.evaluation import tiled
from benchmark.experiment import flops
from benchmark.experiment.cell import Cell
from benchmark.methods import registry
from benchmark.ops import MSDeformAttn, default_backend
from benchmark.runtime import memory


def trainable(method, phases) -> int:
    """Parameters that are trainable in at least one phase."""
    seen = set()
    for phase in phases:
        method.set_tune(phase.tune)
        seen |= {name for name, p in method.named_parameters() if p.requires_grad}
    return sum(p.numel() for name, p in method.named_parameters() if name in seen)


def gflops(cell: Cell, data, size: tuple[int, int], say) -> float | None:
    """GFLOPs per test image of `size`, see `flops`; None for a method without network, or when torch cannot count."""
    try:
        one = flops.per_image(cell.spec, *cell.heads(data), *size)
        return one and one * tiled.inputs(registry.method_class(cell.spec.name), cell.recipe)
    except Exception as error:  # a by-product: whatever a method's forward raises on shapes alone costs no finished run
        say(f"no FLOPs: torch cannot count them ({type(error).__name__}: {error})")
        return None


def op_backend(method, device) -> str:
    """Backend of the deformable attention that runs on `device`, or "none" for a method without the op."""
    layers = [m for m in method.modules() if isinstance(m, MSDeformAttn)]
    return ", ".join(sorted({m.backend or default_backend(device) for m in layers})) or "none"


def peak_memory(world) -> tuple[int, str]:
    """(bytes, "cuda" or "rss"): the largest over all processes."""
    if world.device.type == "cuda":
        return max(world.gather(torch.cuda.max_memory_allocated(world.device))), "cuda"
    return max(world.gather(memory.peak_resident())), "rss"
