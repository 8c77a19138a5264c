"""Cost of a run: parameters, FLOPs, time, memory, and the backend of the op."""

from dataclasses import dataclass

import torch

from benchmark.evaluation import tiled
from benchmark.experiment import flops
from benchmark.experiment.cell import Cell
from benchmark.ops import MSDeformAttn, default_backend
from benchmark.runtime import memory


@dataclass(frozen=True)
class Cost:
    """The contents of cost.json.

    Attributes:
        params, trainable: numbers of parameters; trainable in at least one phase.
        gflops: per test image, see `flops`; None for a method without network, or when torch cannot count.
        train_seconds, epochs: of the training, over all attempts.
        images_per_second: of the test images, forward and decoding together: the classical baseline has all its work
            in the decoding.
        forward_ms, decode_ms: per test image and process.
        peak_memory_bytes, peak_memory_kind: the largest over all processes, None where the system does not say; "cuda"
            or "rss".
        pretrain_seconds: of a small ViT's pretext, where it was made for this run.
        precision: number format of forward passes.
        processes: how many shared the work.
    """

    params: int
    trainable: int
    gflops: float | None
    train_seconds: float
    epochs: int
    images_per_second: float
    forward_ms: float
    decode_ms: float
    peak_memory_bytes: int | None
    peak_memory_kind: str
    pretrain_seconds: float
    precision: str
    processes: int


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
        return one and one * tiled.inputs(cell.cls, cell.recipe.tiling)
    except Exception as error:  # a by-product: whatever a method's forward raises on shapes alone costs no finished run
        say(f"no FLOPs: torch cannot count them ({type(error).__name__}: {error})")
        return None


def op_backend(method, device) -> str:
    """Backend of the deformable attention that runs on `device`, or "none" for a method without the op."""
    layers = [m for m in method.modules() if isinstance(m, MSDeformAttn)]
    return ", ".join(sorted({m.backend or default_backend(device) for m in layers})) or "none"


def peak_memory(world) -> tuple[int | None, str]:
    """(bytes, "cuda" or "rss"): the largest over all processes, None where the system does not say."""
    if world.device.type == "cuda":
        return max(world.gather(torch.cuda.max_memory_allocated(world.device))), "cuda"
    peaks = world.gather(memory.peak_resident())
    return None if None in peaks else max(peaks), "rss"


def speed(evaluation, processes: int) -> dict:
    """The speeds of a `Cost`, from a `test_set.Evaluation` whose seconds are added over all processes."""
    forward, decode, images = evaluation.forward_seconds, evaluation.decode_seconds, evaluation.images
    return {
        "images_per_second": round(processes * images / max(forward + decode, 1e-9), 3),
        "forward_ms": round(1000 * forward / max(1, images), 3),
        "decode_ms": round(1000 * decode / max(1, images), 3),
    }
