"""What perf/train_step.py changes about a training: as the published code trains, and each lever alone."""

import contextlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from unittest import mock

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmark.ops import layer
from benchmark.training import compiled, loop, optim, state

sys.path.insert(0, str(Path(__file__).parent))
from bench_ops import grid_sample_form


@dataclass(frozen=True)
class Variant:
    """One way to train.

    Attributes:
        what: its name in the table.
        recipe: values that differ from the scale's recipe.
        around: contexts that the training runs in, called with the method.
        feed: "loader", or "kept": one batch that lies on the device, so that the step alone is timed.
        share: of the steps, for a slow one.
        gpu: has no meaning, or takes minutes to compile, on a CPU.
    """

    what: str
    recipe: dict = field(default_factory=dict)
    around: tuple = ()
    feed: str = "loader"
    share: float = 1.0
    gpu: bool = False


FASTEST = {"deterministic": False, "compile": True, "graph": True}


def tf32(matmul: bool):
    """TF32 in matrix products or not; PyTorch's default, TF32 in convolutions, stays."""

    @contextlib.contextmanager
    def chosen(method) -> Iterator[None]:
        before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = matmul
        try:
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32 = before

    return chosen


def default_kernels(method):
    """As a plain PyTorch script with cudnn.deterministic has it: all other kernels may add in an open order."""

    def choose(deterministic: bool) -> None:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic, torch.backends.cudnn.benchmark = True, False

    return mock.patch.object(loop, "choose_kernels", choose)


def by_grid_sample(method):
    """Deformable attention in its common PyTorch form, without a kernel of ours."""

    def attend(value, shapes, locations, weights, backend=None):
        return grid_sample_form(value, shapes, locations, weights)

    return mock.patch.object(layer, "ms_deform_attn", attend)


def skips_of_each_branch(method):
    """The skip convolutions once for each branch, as published, not once for all."""
    decoder = method.decoder

    def forward(images, maps):
        out = {}
        for name, branch in decoder.branches.items():
            skips = [skip(x) for skip, x in zip(_skips(decoder), (images, *maps[:3]))]
            out[name] = branch(skips, maps[3])
        return out

    return mock.patch.object(decoder, "forward", forward)


def _skips(decoder) -> list:
    return [decoder.skip0, decoder.skip1, decoder.skip2, decoder.skip3]


def channels_first(method):
    """Images and weights as PyTorch lays them out by default, and the maps that are made of them."""
    method.to(memory_format=torch.contiguous_format)
    plain = method.normalise
    return mock.patch.object(method, "normalise", lambda images: plain(images).contiguous())


def unfused(method):
    """torch.optim's default AdamW instead of the fused one."""
    plain = torch.optim.AdamW
    return mock.patch.object(optim.torch.optim, "AdamW", lambda groups, fused, **more: plain(groups, **more))


def ema_by_tensor(method):
    """The moving average one tensor at a time, not by foreach."""
    plain = state.ModelEmaV3
    return mock.patch.object(state, "ModelEmaV3", lambda *words, **more: plain(*words, foreach=False, **more))


def other_layout(method):
    """Weights of all two-dimensional convolutions with the channels last where they are first, and the reverse."""
    on_gpu = next(method.parameters()).is_cuda
    method.to(memory_format=torch.contiguous_format if on_gpu else torch.channels_last)
    return contextlib.nullcontext()


def without_flash(method):
    """Attention as matrix products with the scores in memory."""
    return sdpa_kernel(SDPBackend.MATH)


@contextlib.contextmanager
def compiled_in_evaluation(method) -> Iterator[None]:
    """Blocks compiled for the shapes of an evaluation, which `recipe.compile` leaves as they are."""

    def of(block: torch.nn.Module):
        def whole(*words, **more):
            return block._call_impl(*words, **more)

        return torch.compile(whole, backend=compiled.BACKEND, fullgraph=True, dynamic=False)

    limits = dict.fromkeys(("recompile_limit", "accumulated_recompile_limit"), compiled.GRAPHS)
    with torch._dynamo.config.patch(limits):
        for block in method.blocks():
            block._compiled_call_impl = of(block)
        try:
            yield
        finally:
            for block in method.blocks():
                block._compiled_call_impl = None


def look_each_update(method):
    """Wait for the device at every update, as a loop does that looks at its loss."""
    return mock.patch.dict(loop.LOOK_EVERY, {"cuda": 1})


def pageable(method):
    """Batches copied from pageable memory: each copy waits."""
    plain, unpinned = loop.loader.DataLoader, {"pin_memory": False}
    return mock.patch.object(loop.loader, "DataLoader", lambda *words, **more: plain(*words, **more | unpinned))


PUBLISHED = (default_kernels, skips_of_each_branch, unfused, channels_first)
HARNESS = Variant("as the harness trains")
FAST = Variant("deterministic=false compile=true graph=true", FASTEST, gpu=True)
# the first three answer most; a network takes a minute or more to compile, once
GOAL = (
    FAST,
    Variant("as published, grid_sample", {"precision": "fp32"}, (*PUBLISHED, by_grid_sample, tf32(False)), share=0.25),
    Variant("deterministic=false", {"deterministic": False}, gpu=True),
    Variant("as published, our op", {"precision": "fp32"}, (*PUBLISHED, tf32(False)), share=0.25),
    Variant(
        "as published, grid_sample, TF32 everywhere",
        {"precision": "fp32"},
        (*PUBLISHED, by_grid_sample, tf32(True)),
        share=0.25,
        gpu=True,
    ),
    Variant(
        "as published, our op, TF32 everywhere", {"precision": "fp32"}, (*PUBLISHED, tf32(True)), share=0.25, gpu=True
    ),
    HARNESS,
    Variant("deterministic=false graph=true", {"deterministic": False, "graph": True}, gpu=True),
)
LEVERS = (
    HARNESS,
    Variant("deterministic=false", {"deterministic": False}),
    Variant("compile=true", {"compile": True}, gpu=True),
    Variant("graph=true", {"graph": True}, gpu=True),
    Variant("one batch on the device, no loader", feed="kept"),
    Variant("channels first", around=(channels_first,), gpu=True),
    Variant("weights of convolutions in the other layout", around=(other_layout,)),
    Variant("AdamW not fused", around=(unfused,)),
    Variant("no flash attention", around=(without_flash,)),
    Variant("waits at every update", around=(look_each_update,), gpu=True),
    Variant("copies from pageable memory", around=(pageable,), gpu=True),
    Variant("ema=0.999", {"ema": 0.999}),
    Variant("ema=0.999 by tensor", {"ema": 0.999}, (ema_by_tensor,)),
    Variant("precision=fp32", {"precision": "fp32"}, (tf32(False),), gpu=True),
    Variant("precision=bf16", {"precision": "bf16"}),
    Variant(f"{FAST.what}, no loader", FASTEST, feed="kept", gpu=True),
)
