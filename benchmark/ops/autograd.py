"""The op's derivative: an `autograd.Function` for eager mode, a registered operator while torch.compile traces.

The operator `benchmark::ms_deform_attn(value, shapes, locations, weights, backend)` is also what tensors without
data (meta, fake) go through, so that shapes, memory and FLOPs can be counted: register a formula for that name.
The Function is kept because a call of it costs half the time of a registered operator's.
"""

import torch

from benchmark.ops.selection import default_backend, implementation

Shapes = tuple[tuple[int, int], ...]
Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def attend(value: torch.Tensor, shapes: Shapes, locations: torch.Tensor, weights: torch.Tensor, backend: str | None):
    """`ms_deform_attn` with checked arguments; backend None takes the default."""
    plain = (torch.Tensor, torch.nn.Parameter)
    traced = (
        torch.compiler.is_compiling() or value.is_meta or any(type(t) not in plain for t in (value, locations, weights))
    )
    if traced and backend == "reference":  # its gradients are autograd's, which an operator cannot ask for
        return implementation(backend).forward(value, shapes, locations, weights)
    if traced:
        flat = [side for shape in shapes for side in shape]
        return torch.ops.benchmark.ms_deform_attn(value, flat, locations, weights, backend or "")
    return _Attention.apply(value, locations, weights, shapes, backend or default_backend(value.device))


def _forward(name: str, value, shapes: Shapes, locations, weights) -> torch.Tensor:
    if value.numel() == 0 or locations.numel() == 0:
        return value.new_zeros(value.shape[0], locations.shape[1], value.shape[2] * value.shape[3])
    return implementation(name).forward(value, shapes, locations, weights)


def _backward(name: str, grad_output, value, shapes: Shapes, locations, weights) -> Tensors:
    if value.numel() == 0 or locations.numel() == 0:
        return tuple(torch.zeros_like(t, memory_format=torch.contiguous_format) for t in (value, locations, weights))
    deterministic = torch.are_deterministic_algorithms_enabled()
    grads = implementation(name).backward(grad_output, value, shapes, locations, weights, deterministic)
    return tuple(grad.contiguous() for grad in grads)


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, value, locations, weights, shapes, name):
        ctx.save_for_backward(value, locations, weights)
        ctx.shapes, ctx.name = shapes, name
        return _forward(name, value, shapes, locations, weights)

    @staticmethod
    def backward(ctx, grad_output):
        value, locations, weights = ctx.saved_tensors
        graph = torch.is_grad_enabled()  # only when the caller wants derivatives of the gradients
        with torch.no_grad():
            grads = _backward(ctx.name, grad_output, value, ctx.shapes, locations, weights)
        if graph:
            grads = _Last.apply(*(grad.requires_grad_() for grad in grads))
        return (*(grad if need else None for grad, need in zip(grads, ctx.needs_input_grad)), None, None)


class _Last(torch.autograd.Function):
    """Gradients as they are; deriving them again raises instead of silently giving zeros."""

    @staticmethod
    def forward(ctx, *grads):
        return tuple(grad.view_as(grad) for grad in grads)

    @staticmethod
    def backward(ctx, *_):
        _refuse()


def _refuse(*_):
    raise RuntimeError("ms_deform_attn has no second derivative: double backward is not supported")


def _pairs(flat: list[int]) -> Shapes:
    return tuple(zip(flat[::2], flat[1::2]))


_library = torch.library.Library("benchmark", "FRAGMENT")
_library.define(
    "ms_deform_attn(Tensor value, int[] shapes, Tensor locations, Tensor weights, str backend) -> Tensor",
    tags=torch.Tag.pt2_compliant_tag,
)
_library.define(
    "ms_deform_attn_backward(Tensor grad_output, Tensor value, int[] shapes, Tensor locations, Tensor weights, "
    "str backend) -> (Tensor, Tensor, Tensor)",
    tags=torch.Tag.pt2_compliant_tag,
)


@torch.library.impl(_library, "ms_deform_attn", "CompositeExplicitAutograd")
def _operator(value, shapes, locations, weights, backend):
    return _forward(backend or default_backend(value.device), value, _pairs(shapes), locations, weights)


@torch.library.impl(_library, "ms_deform_attn_backward", "CompositeExplicitAutograd")
def _operator_backward(grad_output, value, shapes, locations, weights, backend):
    name = backend or default_backend(value.device)
    if name == "reference":
        raise RuntimeError("the reference backend has gradients under torch.compile only as backend='reference'")
    return _backward(name, grad_output, value, _pairs(shapes), locations, weights)


@torch.library.register_fake("benchmark::ms_deform_attn", lib=_library)
def _shape(value, shapes, locations, weights, backend):
    return value.new_empty(value.shape[0], locations.shape[1], value.shape[2] * value.shape[3])


@torch.library.register_fake("benchmark::ms_deform_attn_backward", lib=_library)
def _shapes_backward(grad_output, value, shapes, locations, weights, backend):
    return tuple(t.new_empty(t.shape) for t in (value, locations, weights))


def _remember(ctx, inputs, output):
    value, ctx.shapes, locations, weights, ctx.backend = inputs
    ctx.save_for_backward(value, locations, weights)


def _derivative(ctx, grad_output):
    value, locations, weights = ctx.saved_tensors
    operator = torch.ops.benchmark.ms_deform_attn_backward
    grads = operator(grad_output, value, ctx.shapes, locations, weights, ctx.backend)
    return grads[0], None, grads[1], grads[2], None


torch.library.register_autograd("benchmark::ms_deform_attn", _derivative, setup_context=_remember, lib=_library)
torch.library.register_autograd("benchmark::ms_deform_attn_backward", _refuse, lib=_library)
