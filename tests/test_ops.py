"""Deformable attention: equal to the official op, in every form, and strict about its arguments."""

import numpy as np
import pytest
import torch

from benchmark.ops import MSDeformAttn, backends, ms_deform_attn
from benchmark.ops.fallback import gather_sum, grid_sample_sum
from tests.shared import GOLDEN, SHARED, shared

FORMS = {"gather": gather_sum, "grid_sample": grid_sample_sum}
COMMITTED = sorted({k.split("/")[0] for k in np.load(GOLDEN / "op_cases.npz").files})
ALL = sorted(p.stem for p in (SHARED / "golden/op").glob("*.npz"))
# relative to the norm of the reference; half precision is for values only, locations stay float32
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 6e-3, torch.float16: 1e-3}


def committed(name: str) -> dict:
    file = np.load(GOLDEN / "op_cases.npz")
    return {k.split("/")[1]: file[k] for k in file.files if k.startswith(name + "/")}


def distance(found: torch.Tensor, expected: np.ndarray) -> float:
    found = found.detach().double().numpy()
    norm = np.linalg.norm(expected)
    return float(np.linalg.norm(found - expected) / norm) if norm else float(np.abs(found).max(initial=0))


def check(case: dict, form, dtype: torch.dtype) -> None:
    exact = torch.promote_types(dtype, torch.float32)
    value = torch.tensor(case["value"]).to(dtype).requires_grad_()
    locations = torch.tensor(case["loc"]).to(exact).requires_grad_()
    weights = torch.tensor(case["weights"]).to(exact).requires_grad_()
    out = form(value, [tuple(s) for s in case["shapes"].tolist()], locations, weights)
    assert out.dtype == dtype
    out.backward(torch.tensor(case["grad_out"]).to(dtype))
    limit = TOLERANCE[dtype]
    assert distance(out, case["out"]) <= limit
    assert distance(value.grad, case["grad_value"]) <= limit
    accepted = [case[k] for k in ("grad_loc", "grad_loc_cuda") if k in case]
    assert min(distance(locations.grad, g) for g in accepted) <= limit
    assert distance(weights.grad, case["grad_weights"]) <= limit


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", COMMITTED)
def test_equals_official_op(name, form, dtype):
    check(committed(name), FORMS[form], dtype)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", ALL)
def test_equals_official_op_in_all_cases(name, form):
    case = dict(np.load(shared(f"golden/op/{name}.npz")))
    check(case, FORMS[form], torch.float64)
    check(case, FORMS[form], torch.float32)


def arguments(batch=2, heads=2, channels=4, queries=5, shapes=((3, 4), (2, 2)), points=2, dtype=torch.float64):
    rng = torch.Generator().manual_seed(0)
    length = sum(h * w for h, w in shapes)
    value = torch.randn(batch, length, heads, channels, generator=rng, dtype=dtype)
    size = (batch, queries, heads, len(shapes), points)
    locations = torch.rand(*size, 2, generator=rng, dtype=dtype) * 1.4 - 0.2
    weights = torch.rand(*size, generator=rng, dtype=dtype)
    return value, list(shapes), locations, weights


@pytest.mark.parametrize("form", FORMS)
def test_gradients_by_finite_differences(form):
    value, shapes, locations, weights = arguments()
    swapped = value.transpose(1, 2).contiguous().transpose(1, 2)  # not contiguous
    inputs = [t.requires_grad_() for t in (swapped, locations, weights)]
    assert torch.autograd.gradcheck(lambda v, l, w: FORMS[form](v, shapes, l, w), inputs)
    for k in range(3):  # each gradient alone
        alone = [t.detach().requires_grad_(i == k) for i, t in enumerate(inputs)]
        assert torch.autograd.gradcheck(lambda v, l, w: FORMS[form](v, shapes, l, w), alone)


@pytest.mark.parametrize("form", FORMS)
def test_samples_outside_are_zero(form):
    value, shapes, locations, weights = arguments(dtype=torch.float32)
    locations[0, 0] = float("nan")
    locations[0, 1] = 1e30
    locations[0, 2] = -float("inf")
    locations.requires_grad_()
    value.requires_grad_()
    out = FORMS[form](value, shapes, locations, weights)
    out.square().sum().backward()
    assert (out[0, :3] == 0).all() and (out[0, 3:] != 0).any()
    assert (locations.grad[0, :3] == 0).all() and torch.isfinite(locations.grad).all()
    assert torch.isfinite(value.grad).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("batch", "queries"), [(0, 5), (2, 0)])
def test_nothing_to_do(form, batch, queries):
    value, shapes, locations, weights = arguments(batch=batch, queries=queries)
    out = FORMS[form](value.requires_grad_(), shapes, locations, weights)
    assert out.shape == (batch, queries, 8)
    out.sum().backward()
    assert (value.grad == 0).all()


@pytest.mark.parametrize("channels", [1, 7, 32, 64])
def test_backends_agree_and_repeat(channels):
    value, shapes, locations, weights = arguments(batch=3, channels=channels, dtype=torch.float32)

    def run(backend):
        inputs = [t.clone().requires_grad_() for t in (value, locations, weights)]
        out = ms_deform_attn(inputs[0], torch.tensor(shapes), *inputs[1:], backend=backend)
        out.square().sum().backward()
        return [out.detach(), *(t.grad for t in inputs)]

    first = run(None)
    assert all(torch.equal(a, b) for a, b in zip(first, run(None))), "bit-equal when repeated"
    for backend, (works, why) in backends().items():
        if works:
            for found, expected in zip(run(backend), first):
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
        else:
            assert why
            with pytest.raises(ValueError, match=backend):
                run(backend)


V, S, L, W = arguments()
BAD = {
    "value is a list": ((V.tolist(), S, L, W), TypeError, "value"),
    "integer value": ((V.long(), S, L, W), TypeError, "value"),
    "flat value": ((V.flatten(2), S, L, W), ValueError, "value"),
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


def test_layer():
    torch.manual_seed(0)
    layer = MSDeformAttn(16, heads=4, levels=2, points=3, ratio=0.5)
    assert layer.value_proj.out_features == 8 and layer.output_proj.in_features == 8
    query, features = torch.randn(2, 6, 16), torch.randn(2, 16, 16)
    reference = torch.rand(1, 6, 1, 2)
    out = layer(query, reference, features, S)
    assert out.shape == query.shape
    # at the start every head looks along its own direction, whatever the query: point k lies k pixels away
    offsets = layer.sampling_offsets(query).view(2, 6, 4, 2, 3, 2)
    assert torch.equal(offsets[0, 0], offsets[1, 5])
    torch.testing.assert_close(offsets[0, 0].abs().amax(-1), torch.tensor([1.0, 2, 3]).expand(4, 2, 3))
    assert len({tuple(o.tolist()) for o in offsets[0, 0, :, 0, 0].round(decimals=3)}) == 4
    with pytest.raises(ValueError, match="heads"):
        MSDeformAttn(16, heads=3)


def test_locations_stay_float32_under_autocast(monkeypatch):
    seen = {}

    def spy(value, shapes, locations, weights, backend=None):
        seen.update(value=value.dtype, locations=locations.dtype, weights=weights.dtype)
        return ms_deform_attn(value, shapes, locations, weights, backend=backend)

    monkeypatch.setattr("benchmark.ops.deform_attn.ms_deform_attn", spy)
    layer = MSDeformAttn(16, heads=4, levels=2)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(torch.randn(2, 6, 16), torch.rand(1, 6, 1, 2), torch.randn(2, 16, 16), S)
    assert out.dtype == torch.bfloat16
    assert seen == {"value": torch.bfloat16, "locations": torch.float32, "weights": torch.float32}
