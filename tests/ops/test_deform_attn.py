"""Deformable attention: equal to the official op on every backend, and strict about its arguments."""

import numpy as np
import pytest
import torch

from benchmark.ops import backends, fallback, ms_deform_attn
from tests.support.attention import BACKENDS, COMMITTED, TOLERANCE, arguments, committed, results
from tests.support.shared import SHARED, shared

ALL = sorted(p.stem for p in (SHARED / "golden/op").glob("*.npz"))


def distance(found: torch.Tensor, expected: np.ndarray) -> float:
    found = found.detach().double().numpy()
    norm = np.linalg.norm(expected)
    return float(np.linalg.norm(found - expected) / norm) if norm else float(np.abs(found).max(initial=0))


def check(case: dict, backend: str, dtype: torch.dtype) -> None:
    exact = torch.promote_types(dtype, torch.float32)
    value = torch.tensor(case["value"]).to(dtype).requires_grad_()
    locations = torch.tensor(case["loc"]).to(exact).requires_grad_()
    weights = torch.tensor(case["weights"]).to(exact).requires_grad_()
    out = ms_deform_attn(value, case["shapes"].tolist(), locations, weights, backend=backend)
    assert out.dtype == dtype
    out.backward(torch.tensor(case["grad_out"]).to(dtype))
    limit = TOLERANCE[dtype]
    assert distance(out, case["out"]) <= limit
    assert distance(value.grad, case["grad_value"]) <= limit
    accepted = [case[k] for k in ("grad_loc", "grad_loc_cuda") if k in case]
    assert min(distance(locations.grad, g) for g in accepted) <= limit
    assert distance(weights.grad, case["grad_weights"]) <= limit
    # what is zero in the reference is zero: far outside, and without weights
    for found, expected in ((out, case["out"]), (value.grad, case["grad_value"]), (weights.grad, case["grad_weights"])):
        assert (found[torch.tensor(expected == 0)] == 0).all()
    assert (locations.grad[torch.tensor(np.all([g == 0 for g in accepted], axis=0))] == 0).all()


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", COMMITTED)
def test_equals_official_op(name, backend, dtype):
    check(committed(name), backend, dtype)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", ALL)
def test_equals_official_op_in_all_cases(name, backend):
    case = dict(np.load(shared(f"golden/op/{name}.npz")))
    for dtype in TOLERANCE:
        check(case, backend, dtype)


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_by_finite_differences(backend):
    value, shapes, locations, weights = arguments()
    swapped = value.transpose(1, 2).contiguous().transpose(1, 2)  # not contiguous
    inputs = [t.requires_grad_() for t in (swapped, locations, weights)]

    def call(v, l, w):
        return ms_deform_attn(v, shapes, l, w, backend=backend)

    assert torch.autograd.gradcheck(call, inputs)
    for k in range(3):  # each gradient alone
        alone = [t.detach().requires_grad_(i == k) for i, t in enumerate(inputs)]
        assert torch.autograd.gradcheck(call, alone)


@pytest.mark.parametrize("backend", BACKENDS)
def test_samples_outside_are_zero(backend):
    value, shapes, locations, weights = arguments(dtype=torch.float32)
    far = [float("nan"), 1e30, -float("inf"), float("inf")]
    for query, place in enumerate(far):
        locations[0, query] = place
    out, grad_value, grad_locations, grad_weights = results(backend, value, shapes, locations, weights)
    assert (out[0, :4] == 0).all() and (out[0, 4] != 0).any()
    assert (grad_locations[0, :4] == 0).all() and (grad_weights[0, :4] == 0).all()
    assert all(torch.isfinite(g).all() for g in (grad_value, grad_locations, grad_weights))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("number", [float("inf"), -float("inf"), float("nan")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_infinite_pixels_stay_where_they_are(backend, seed, number, dtype):
    """Samples and corners that lie outside the image see no pixel, whatever it holds."""
    shapes = ((3, 4), (2, 2), (1, 1))
    value, shapes, _, weights = arguments(queries=40, shapes=shapes, channels=5)
    rng = torch.Generator().manual_seed(seed)
    locations = torch.rand(*weights.shape, 2, generator=rng, dtype=torch.float64) * 2 - 0.5
    locations[0, 0] = float("nan")
    value = value.to(dtype).double()
    for place in [0, *torch.randint(0, value.shape[1], (2,), generator=rng).tolist()]:
        value[0, place, seed % 2, seed % 5] = number
    exact = torch.promote_types(dtype, torch.float32)
    locations, weights = locations.to(exact), weights.to(exact)
    grad = torch.randn(2, 40, 10, generator=rng).to(dtype)

    def outcome(backend, value, *given):
        inputs = [t.detach().requires_grad_() for t in (value, *given)]
        out = ms_deform_attn(inputs[0], shapes, *inputs[1:], backend=backend)
        out.backward(grad.to(out.dtype))
        return [out.detach(), *(t.grad for t in inputs)]

    expected = outcome("reference", value, locations.double(), weights.double())
    assert 0 < expected[0].isfinite().sum() < expected[0].numel()
    assert (~expected[2].isfinite()).any() and (~expected[3].isfinite()).any()
    for result, right in zip(outcome(backend, value.to(dtype), locations, weights), expected, strict=True):
        assert torch.equal(result.isfinite(), right.isfinite())
        finite = right.isfinite()
        assert distance(result[finite], right[finite].numpy()) <= TOLERANCE[dtype]


@pytest.mark.parametrize("backend", BACKENDS)
def test_infinite_gradients_reach_no_pixel_that_was_not_sampled(backend):
    value, shapes, locations, weights = (t.float() if torch.is_tensor(t) else t for t in arguments(queries=8))
    locations[0, :4] = 7  # outside
    locations[0, 4:] = 0.5
    for tensor in (value, locations, weights):
        tensor.requires_grad_()
    out = ms_deform_attn(value, shapes, locations, weights, backend=backend)
    grad = torch.ones_like(out)
    grad[0, :4] = float("inf")
    out.backward(grad)
    assert value.grad.isfinite().all() and value.grad.abs().sum() > 0
    if backend != "reference":  # its factors are multiplied by samples of zero
        assert (locations.grad[0, :4] == 0).all() and (weights.grad[0, :4] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("heads", [1, 2])
@pytest.mark.parametrize("channels", [1, 5, 16])
@pytest.mark.parametrize("backend", BACKENDS)
def test_results_are_contiguous(backend, channels, heads, dtype):
    value, shapes, locations, weights = arguments(channels=channels, heads=heads)
    exact = torch.promote_types(dtype, torch.float32)
    found = results(backend, value.to(dtype), shapes, locations.to(exact), weights.to(exact))
    assert all(t.is_contiguous() for t in found)
    assert found[0].view(-1).shape == (2 * 5 * heads * channels,)


@pytest.mark.parametrize("backend", BACKENDS)
def test_derivative_at_integer_coordinates_is_the_right_hand_one(backend):
    value = torch.tensor([1.0, 10.0, 100.0, 1000.0]).view(1, 4, 1, 1)
    locations = torch.tensor([[0.375, 0.5], [0.875, 0.5]]).view(1, 1, 1, 1, 2, 2)  # x = 1 and x = 3, the last pixel
    grads = results(backend, value, [(1, 4)], locations, torch.tensor([1.0, 0.0]).view(1, 1, 1, 1, 2))
    assert grads[0].item() == 10
    assert grads[2].flatten()[0].item() == 10 * 4 * (100 - 10)
    ends = results(backend, value, [(1, 4)], locations, torch.tensor([0.0, 1.0]).view(1, 1, 1, 1, 2))
    assert ends[2].flatten()[2].item() == 1000 * 4 * (0 - 1000)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("batch", "queries", "points"), [(0, 5, 2), (2, 0, 2), (2, 5, 0)])
def test_nothing_to_do(backend, batch, queries, points):
    found = results(backend, *arguments(batch=batch, queries=queries, points=points))
    assert found[0].shape == (batch, queries, 8)
    assert all((t == 0).all() for t in found)


@pytest.mark.parametrize("channels", [1, 7, 8, 30, 32, 63, 64, 96, 128, 160, 256, 1025])
def test_any_number_of_channels(channels):
    given = arguments(batch=2, channels=channels, dtype=torch.float32)
    expected = results("reference", *given)
    for backend in BACKENDS:
        for found, right in zip(results(backend, *given), expected):
            assert distance(found, right.double().numpy()) < 2e-6


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_batch(backend):
    given = arguments(batch=130, channels=3, queries=3, dtype=torch.float32)
    whole = results(backend, *given)
    for batch in (1, 2, 3, 5, 8, 17, 32, 64, 65, 97, 128):
        value, shapes, locations, weights = given
        for found, right in zip(results(backend, value[:batch], shapes, locations[:batch], weights[:batch]), whole):
            torch.testing.assert_close(found, right[:batch], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("channels", [16, 5])
@pytest.mark.parametrize("backend", BACKENDS)
def test_any_memory_layout(backend, channels, dtype):
    value, shapes, locations, weights = arguments(channels=channels, dtype=torch.float32)
    value = value.to(dtype)
    value, locations, weights = (t[:1].expand(3, *t.shape[1:]) for t in (value, locations, weights))
    expected = results(
        backend, *(t.contiguous() if torch.is_tensor(t) else t for t in (value, shapes, locations, weights))
    )

    def shifted(t):  # one element off every alignment
        store = torch.empty(t.numel() + 1, dtype=t.dtype)
        return store[1:].view(t.shape).copy_(t)

    def turned(t):
        return t.transpose(1, 2).contiguous().transpose(1, 2)

    for change in (lambda t: t, shifted, turned):
        for found, right in zip(results(backend, change(value), shapes, change(locations), change(weights)), expected):
            torch.testing.assert_close(found, right, rtol=0, atol=1e-6 if dtype == torch.float32 else 0.02)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_element_of_the_results_is_written(backend):
    given = arguments(channels=5, dtype=torch.float32)
    given[2][:] = 7  # far outside: nothing is added anywhere
    torch.use_deterministic_algorithms(True)  # fills fresh memory with NaN
    try:
        assert torch.utils.deterministic.fill_uninitialized_memory and torch.empty(3).isnan().all()
        assert all((t == 0).all() for t in results(backend, *given))
    finally:
        torch.use_deterministic_algorithms(False)


def test_torch_backend_copies_no_list_to_the_device(monkeypatch):
    """On a GPU that would wait for all it still has to do, and end the capture of a graph."""
    given = arguments(channels=5, dtype=torch.float32)
    monkeypatch.setattr(torch, "tensor", None)
    assert all(t.isfinite().all() for t in results("torch", *given))


@pytest.mark.parametrize("backend", BACKENDS)
def test_repeats_to_the_bit(backend):
    given = arguments(batch=3, channels=12, queries=300, dtype=torch.float32)
    first = results(backend, *given)
    for _ in range(3):
        assert all(torch.equal(a, b) for a, b in zip(first, results(backend, *given)))


def test_unavailable_backends_say_why():
    for backend, (works, why) in backends().items():
        assert bool(why) != works
        if not works:
            with pytest.raises(ValueError, match=f"'{backend}', which cannot run"):
                ms_deform_attn(V, S, L, W, backend=backend)


V, S, L, W = arguments()
BAD = {
    "value is a list": ((V.tolist(), S, L, W), TypeError, "value"),
    "integer value": ((V.long(), S, L, W), TypeError, "value"),
    "complex value": ((V.to(torch.complex64), S, L, W), TypeError, "value"),
    "integer locations": ((V, S, L.long(), W), TypeError, "sampling_locations"),
    "half-precision locations": ((V.bfloat16(), S, L.bfloat16(), W.bfloat16()), TypeError, "sampling_locations"),
    "double locations of a float value": ((V.float(), S, L, W.float()), TypeError, "sampling_locations"),
    "weights of another precision": ((V.bfloat16(), S, L.float(), W.half()), TypeError, "attention_weights"),
    "flat value": ((V.flatten(2), S, L, W), ValueError, "value"),
    "sparse value": ((V.to_sparse(), S, L, W), TypeError, "value"),
    "sparse locations": ((V, S, L.to_sparse(), W), TypeError, "sampling_locations"),
    "nested weights": ((V, S, L, torch.nested.nested_tensor(list(W), layout=torch.jagged)), TypeError, "attention_w"),
    "shapes without data": ((V, torch.tensor(S, device="meta"), L, W), TypeError, "spatial_shapes"),
    "sparse shapes": ((V, torch.tensor(S).to_sparse(), L, W), TypeError, "spatial_shapes"),
    "logical shapes": ((V, torch.tensor(S) > 0, L, W), TypeError, "spatial_shapes"),
    "shapes of fractional tensors": ((V, [(torch.tensor(3.7), 4), (2, 2)], L, W), TypeError, "spatial_shapes"),
    "shapes of another sum": ((V, [(3, 4), (2, 3)], L, W), ValueError, "spatial_shapes"),
    "float shapes": ((V, torch.tensor(S).float(), L, W), TypeError, "spatial_shapes"),
    "fractional shapes": ((V, [(3.0, 4), (2, 2)], L, W), TypeError, "spatial_shapes"),
    "empty level": ((V, [(3, 4), (2, 2), (0, 5)], L, W), ValueError, "spatial_shapes"),
    "no pairs": ((V, [3, 4], L, W), ValueError, "spatial_shapes"),
    "locations of 3": ((V, S, L[..., :1], W), ValueError, "sampling_locations"),
    "locations of another level count": ((V, S, L[:, :, :, :1], W), ValueError, "sampling_locations"),
    "locations elsewhere": ((V, S, L.to("meta"), W), ValueError, "sampling_locations"),
    "weights of other points": ((V, S, L, W[..., :1]), ValueError, "attention_weights"),
    "weights of other batch": ((V, S, L, W[:1]), ValueError, "attention_weights"),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses(case):
    given, error, name = BAD[case]
    with pytest.raises(error, match=f"{name}.*expected"):
        ms_deform_attn(*given)


def test_unknown_backend():
    with pytest.raises(ValueError, match="expected one of"):
        ms_deform_attn(V, S, L, W, backend="fast")


@pytest.mark.parametrize("spread", [8, 1 << 13])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_corners_outside_do_not_end_in_one_long_sum(monkeypatch, dtype, spread):
    """As on a GPU, where one thread would add them all up; they reach no pixel either, the last one least of all."""
    lengths = []
    bag = torch.nn.functional.embedding_bag

    def watched(indices, table, offsets=None, **options):
        if offsets is not None:
            lengths.extend(torch.diff(offsets, append=torch.tensor([len(indices)])).tolist())
        return bag(indices, table, offsets, **options)

    value, shapes, locations, weights = arguments(queries=50, dtype=dtype)
    locations[:, ::2] = 3  # far outside
    expected = results("reference", value, shapes, locations, weights)
    monkeypatch.setattr(fallback, "_attempts", lambda table: (True,))
    monkeypatch.setattr(fallback, "_SPREAD", spread)
    monkeypatch.setattr(fallback.F, "embedding_bag", watched)
    for found, right in zip(results("torch", value, shapes, locations, weights), expected):
        limit = 1e-5 if dtype == torch.float32 else 1e-12
        torch.testing.assert_close(found, right, rtol=limit, atol=limit)
    bags, corners = 2 * 50 * 2, 4 * 2 * 2
    pixels, outside = lengths[:64], lengths[64:]
    assert len(pixels) == 64 and len(outside) == min(spread, bags) and sum(lengths) == bags * corners
    assert sum(outside) > bags * corners / 2 and max(outside) <= corners * -(-bags // len(outside))
