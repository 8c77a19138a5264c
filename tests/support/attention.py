"""Inputs of deformable attention, and the official op's cases among them."""

import numpy as np
import torch

from benchmark.ops import backends, ms_deform_attn
from tests.support.shared import GOLDEN

BACKENDS = [name for name, (works, _) in backends().items() if works and name != "cuda"]
COMMITTED = sorted({k.split("/")[0] for k in np.load(GOLDEN / "op_cases.npz").files})
# relative to the norm of the reference; half precision is for values only, locations stay float32
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 6e-3, torch.float16: 1e-3}


def committed(name: str) -> dict:
    """Arrays of one official case, inputs and results."""
    file = np.load(GOLDEN / "op_cases.npz")
    return {k.split("/")[1]: file[k] for k in file.files if k.startswith(name + "/")}


def arguments(batch=2, heads=2, channels=4, queries=5, shapes=((3, 4), (2, 2)), points=2, dtype=torch.float64):
    """value, shapes, locations and weights, seeded; some locations outside."""
    rng = torch.Generator().manual_seed(0)
    length = sum(h * w for h, w in shapes)
    value = torch.randn(batch, length, heads, channels, generator=rng, dtype=dtype)
    size = (batch, queries, heads, len(shapes), points)
    locations = torch.rand(*size, 2, generator=rng, dtype=dtype) * 1.4 - 0.2
    weights = torch.rand(*size, generator=rng, dtype=dtype)
    return value, list(shapes), locations, weights


def results(backend, value, shapes, locations, weights):
    """Output and gradients of half its squared sum."""
    inputs = [t.detach().requires_grad_() for t in (value, locations, weights)]
    out = ms_deform_attn(inputs[0], shapes, *inputs[1:], backend=backend)
    out.backward(out.detach())
    return [out.detach(), *(t.grad for t in inputs)]


def problem(channels=8, shapes=((3, 4), (2, 2)), queries=5, points=2, batch=2, heads=2, dtype=torch.float32):
    """Gradient of the output, then inputs as `arguments` has them, drawn by the number of channels."""
    rng = torch.Generator().manual_seed(channels)
    length = sum(h * w for h, w in shapes)
    value = torch.randn(batch, length, heads, channels, generator=rng).to(dtype)
    size = (batch, queries, heads, len(shapes), points)
    exact = torch.promote_types(dtype, torch.float32)
    locations = (torch.rand(*size, 2, generator=rng) * 1.4 - 0.2).to(exact)
    weights = (torch.rand(*size, generator=rng) - 0.3).to(exact)
    grad_output = torch.randn(batch, queries, heads * channels, generator=rng).to(dtype)
    return grad_output, value, list(shapes), locations, weights
