"""Deformable attention inside PyTorch: double backward, registered operator, fake tensors, torch.compile, autocast."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from benchmark.ops import MSDeformAttn, ms_deform_attn
from tests.support.attention import BACKENDS, arguments, results

S = [(3, 4), (2, 2)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_double_backward_raises(backend, which):
    value, shapes, locations, weights = arguments()
    inputs = [t.requires_grad_() for t in (value, locations, weights)]
    out = ms_deform_attn(inputs[0], shapes, *inputs[1:], backend=backend)
    # the incoming gradient is constant, which once_differentiable would take for a derivative of zero
    (grad,) = torch.autograd.grad(out.sum(), inputs[which], create_graph=True)
    assert torch.isfinite(grad).all()
    with pytest.raises(RuntimeError, match="double backward"):
        (grad.square().sum() + inputs[0].sum()).backward()


def operator(*inputs, backend):
    value, shapes, locations, weights = inputs
    return torch.ops.benchmark.ms_deform_attn(value, [s for pair in shapes for s in pair], locations, weights, backend)


def test_double_backward_of_the_operator_raises():
    value, shapes, locations, weights = arguments()
    locations.requires_grad_()
    out = operator(value, shapes, locations, weights, backend="torch")
    (grad,) = torch.autograd.grad(out.sum(), locations, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        grad.square().sum().backward()


@pytest.mark.parametrize("backend", [b for b in BACKENDS if b != "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_operator_keeps_the_rules(backend, dtype):
    value, shapes, locations, weights = arguments(dtype=torch.float32)
    flat = [side for shape in shapes for side in shape]
    value = value.to(dtype).transpose(1, 2).contiguous().transpose(1, 2)
    tensors = [t.requires_grad_() for t in (value, locations, weights)]
    given = (tensors[0], flat, tensors[1], tensors[2], backend)
    torch.library.opcheck(torch.ops.benchmark.ms_deform_attn.default, given)
    grad = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    plain = [t.detach() for t in tensors]
    given = (grad, plain[0], flat, plain[1], plain[2], backend)
    torch.library.opcheck(torch.ops.benchmark.ms_deform_attn_backward.default, given)


@pytest.mark.parametrize("backend", [None, *BACKENDS])
def test_meta_and_fake_tensors_have_shapes(backend):
    value, shapes, locations, weights = arguments(dtype=torch.float32)
    given = [t.to("meta").requires_grad_() for t in (value.bfloat16(), locations, weights)]
    with FakeTensorMode():
        fakes = [torch.empty(t.shape, dtype=t.dtype, requires_grad=True) for t in given]
    for tensors in (given, fakes):
        out = ms_deform_attn(tensors[0], shapes, *tensors[1:], backend=backend)
        assert out.shape == (2, 5, 8) and out.dtype == torch.bfloat16
        out.sum().backward()
        assert all(t.grad.shape == t.shape and t.grad.dtype == t.dtype for t in tensors)


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_flops_can_be_counted(device):
    value, shapes, locations, weights = (t.to(device) if torch.is_tensor(t) else t for t in arguments())

    def count(value_shape, *_, out_shape=None, **__):
        return value_shape[-1]

    counter = FlopCounterMode(display=False, custom_mapping={torch.ops.benchmark.ms_deform_attn: count})
    with counter:
        ms_deform_attn(value, shapes, locations, weights)
    assert counter.get_total_flops() == 4


@pytest.mark.parametrize("backend", [None, *BACKENDS])
def test_recorded_graph_computes_the_op(backend):
    """make_fx and non-strict tracing record what PyTorch sees; a kernel that ran behind its back would be missing."""
    value, shapes, locations, weights = arguments(dtype=torch.float32)
    graph = make_fx(lambda v, p, w: ms_deform_attn(v, shapes, p, w, backend=backend))(value, locations, weights)
    other = value * 2, locations.flip(1), weights.flip(1)
    torch.testing.assert_close(graph(*other), ms_deform_attn(other[0], shapes, *other[1:], backend=backend))


def test_plain_tensors_in_a_fake_world_are_not_read():
    value, shapes, locations, weights = arguments(dtype=torch.float32)
    with FakeTensorMode(allow_non_fake_inputs=True):
        out = ms_deform_attn(value, shapes, locations, weights)
    assert isinstance(out, FakeTensor) and out.shape == (2, 5, 8)


@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled_autograd_of_an_eager_forward(backend):
    value, shapes, locations, weights = arguments(dtype=torch.float32)
    inputs = [t.requires_grad_() for t in (value, locations, weights)]
    out = ms_deform_attn(inputs[0], shapes, *inputs[1:], backend=backend)
    torch._dynamo.reset()
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="aot_eager")):
        (out.square().sum() / 2).backward()
    for found, expected in zip(inputs, results(backend, value, shapes, locations, weights)[1:]):
        torch.testing.assert_close(found.grad, expected)


@pytest.mark.parametrize("backend", BACKENDS)
def test_several_gradients_at_once(backend):
    value, shapes, locations, weights = arguments()
    inputs = [t.requires_grad_() for t in (value, locations, weights)]
    out = ms_deform_attn(inputs[0], shapes, *inputs[1:], backend=backend)
    several = torch.stack([torch.ones_like(out), out.detach()])
    together = torch.autograd.grad(out, inputs, several, is_grads_batched=True, retain_graph=True)
    for k, grad in enumerate(several):
        for found, expected in zip(together, torch.autograd.grad(out, inputs, grad, retain_graph=True)):
            torch.testing.assert_close(found[k], expected)


class Subclass(torch.Tensor):
    pass


def test_unsupported_transforms_raise_instead_of_giving_zeros():
    value, shapes, locations, weights = arguments()

    def call(v):
        return ms_deform_attn(v, shapes, locations, weights)

    with pytest.raises(NotImplementedError, match="transformed by"):
        torch.func.grad(lambda v: call(v).sum())(value)
    with pytest.raises(NotImplementedError, match="transformed by"):
        torch.func.vmap(call)(value[None])
    with pytest.raises(NotImplementedError, match="transformed by"):
        torch.func.jvp(call, (value,), (value,))
    with torch.autograd.forward_ad.dual_level():
        for tensor in (value, value.as_subclass(Subclass)):
            with pytest.raises(NotImplementedError, match="forward-mode"):
                call(torch.autograd.forward_ad.make_dual(tensor, tensor))


def test_compiled_call_refuses_backends_that_cannot_run():
    value, _, locations, weights = arguments()

    def compiled(backend, **options):
        torch._dynamo.reset()
        call = torch.compile(
            lambda v, p, w: ms_deform_attn(v, S, p, w, backend=backend), backend="aot_eager", **options
        )
        return call(value, locations, weights)

    for unknown in ("fast", ""):
        with pytest.raises(ValueError, match="expected one of"):
            compiled(unknown)
    with pytest.raises(ValueError, match="backend is 'cuda', which cannot run on cpu"):
        compiled("cuda", fullgraph=True)


@pytest.mark.parametrize("backend", [None, *BACKENDS])
def test_compiles_whole(backend):
    def loss(value, locations, weights):
        return ms_deform_attn(value, S, locations, weights, backend=backend).square().sum() / 2

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    value, _, locations, weights = arguments(dtype=torch.float32)
    inputs = [t.requires_grad_() for t in (value, locations, weights)]
    compiled(*inputs).backward()
    for found, expected in zip(inputs, results(backend, value, S, locations, weights)[1:]):
        torch.testing.assert_close(found.grad, expected)


def test_compiles_once_for_any_batch_and_number_of_queries():
    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")

    def loss(value, locations, weights):
        return ms_deform_attn(value, S, locations, weights).square().sum() / 2

    compiled = torch.compile(loss, fullgraph=True, backend=counter, dynamic=True)
    # the first sizes differ from all others: equal ones are taken for the same unknown
    for batch, queries in ((3, 5), (7, 8), (4, 11), (9, 6)):
        value, _, locations, weights = arguments(batch=batch, queries=queries, dtype=torch.float32)
        inputs = [t.requires_grad_() for t in (value, locations, weights)]
        compiled(*inputs).backward()
        for found, expected in zip(inputs, results(None, value, S, locations, weights)[1:]):
            torch.testing.assert_close(found.grad, expected)
    assert counter.frame_count == 1


def test_layer_compiles_whole():
    torch._dynamo.reset()
    torch.manual_seed(0)
    layer = MSDeformAttn(16, heads=4, levels=2)
    given = torch.randn(2, 6, 16), torch.rand(1, 6, 1, 2), torch.randn(2, 16, 16), S
    expected = layer(*given)
    found = torch.compile(layer, fullgraph=True, backend="aot_eager")(*given)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
def test_autocast_rounds_values_only(backend, dtype):
    torch.manual_seed(0)
    layer = MSDeformAttn(32, heads=4, levels=2, backend=backend)
    torch.nn.init.normal_(layer.sampling_offsets.weight)
    query, reference, features = torch.randn(2, 6, 32), torch.rand(1, 6, 1, 2), torch.randn(2, 16, 32)
    value = torch.randn(2, 16, 4, 8, requires_grad=True)
    with torch.autocast("cpu", dtype):
        out = layer(query, reference, features, S)
        inner = value.to(dtype)
        locations, weights = torch.rand(2, 5, 4, 2, 3, 2), torch.rand(2, 5, 4, 2, 3)
        direct = ms_deform_attn(inner, S, locations, weights, backend=backend)
    direct.float().square().sum().backward()
    assert out.dtype == direct.dtype == dtype and value.grad.dtype == torch.float32
    exact = ms_deform_attn(inner.detach().double(), S, locations.double(), weights.double(), backend="reference")
    error = (direct.double() - exact).norm() / exact.norm()
    assert error < (4e-3 if dtype == torch.bfloat16 else 5e-4), "no more than the rounding of the result"


def test_training_after_inference_mode():
    layer = MSDeformAttn(16, heads=4, levels=2)
    given = torch.randn(2, 6, 16), torch.rand(1, 6, 1, 2), torch.randn(2, 16, 16), S
    with torch.inference_mode():
        layer(*given)
    layer(*given).sum().backward()
    assert layer.sampling_offsets.weight.grad is not None


def test_checkpointed_layer_has_the_same_gradients():
    torch.manual_seed(0)
    layer = MSDeformAttn(16, heads=4, levels=2)
    given = torch.randn(2, 6, 16), torch.rand(1, 6, 1, 2), torch.randn(2, 16, 16), S

    def gradients(call):
        layer.zero_grad()
        call().square().sum().backward()
        return [p.grad.clone() for p in layer.parameters()]

    whole = gradients(lambda: layer(*given))
    again = gradients(lambda: checkpoint(layer, *given, use_reentrant=False))
    assert all(torch.equal(a, b) for a, b in zip(whole, again))
