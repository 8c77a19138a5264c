"""Derivatives of the op: an `autograd.Function` in eager mode, a registered operator under tracing and transforms.

The operator `benchmark::ms_deform_attn(value, shapes, locations, weights, backend)` is what PyTorch sees of the op in
torch.compile and export, under dispatch modes (fake tensors, FLOP counters, `make_fx`), and for tensors without data
of their own: a kernel would read their memory behind PyTorch's back. To count FLOPs, register a formula for that name.
The Function is kept because a call of it costs half the time of a registered operator's.
"""

import torch
from torch.autograd import forward_ad

from benchmark.ops.selection import check_backend, default_backend, implementation

Shapes = tuple[tuple[int, int], ...]
Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
_PLAIN = (torch.Tensor, torch.nn.Parameter)


def attend(value: torch.Tensor, shapes: Shapes, locations: torch.Tensor, weights: torch.Tensor, backend: str | None):
    """`ms_deform_attn` with checked arguments; backend None takes the default."""
    tensors = (value, locations, weights)
    if not torch.compiler.is_compiling():
        _check_transforms(tensors)
    if not _observed(*tensors):
        return _Attention.apply(*tensors, shapes, backend or default_backend(value.device))
    if backend == "reference":  # its gradients are autograd's, which an operator cannot ask for
        return implementation(backend).forward(value, shapes, locations, weights)
    return torch.ops.benchmark.ms_deform_attn(value, _flat(shapes), locations, weights, backend or "")


def _check_transforms(tensors: Tensors) -> None:
    """Refuse transforms for which a registered operator would silently return zeros. Raises NotImplementedError."""
    if torch._C._are_functorch_transforms_active():
        raise NotImplementedError("ms_deform_attn cannot be transformed by torch.func (vmap, grad, jvp and the like)")
    if forward_ad._current_level >= 0 and any(forward_ad.unpack_dual(t).tangent is not None for t in tensors):
        raise NotImplementedError("ms_deform_attn has no forward-mode derivative")


def _observed(*tensors: torch.Tensor) -> bool:
    """Whether a kernel may not read the tensors' memory: they have no data of their own, or a mode traces them."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack():
        return True
    functorch = torch._C._functorch
    return any(
        type(t) not in _PLAIN or t.is_meta or functorch.is_batchedtensor(t) or functorch.is_legacy_batchedtensor(t)
        for t in tensors
    )


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
            if ctx.name != "reference" and _observed(grad_output, value, locations, weights):
                operator = torch.ops.benchmark.ms_deform_attn_backward
                grads = operator(grad_output, value, _flat(ctx.shapes), locations, weights, ctx.name)
            else:
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


def _chosen(backend: str, device: torch.device) -> str:
    """The backend that runs on `device`: `backend` if it can, or the default for an empty name."""
    if backend:
        check_backend(backend, device)  # while tracing nothing was known of the machine
    return backend or default_backend(device)


def _flat(shapes: Shapes) -> list[int]:
    return [side for shape in shapes for side in shape]


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
    return _forward(_chosen(backend, value.device), value, _pairs(shapes), locations, weights)


@torch.library.impl(_library, "ms_deform_attn_backward", "CompositeExplicitAutograd")
def _operator_backward(grad_output, value, shapes, locations, weights, backend):
    name = _chosen(backend, value.device)
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
