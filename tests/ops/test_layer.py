"""The deformable-attention layer, and the choice of the op's backend."""

import pytest
import torch

from benchmark.ops import MSDeformAttn, ms_deform_attn
from benchmark.ops.constants import constant

S = [(3, 4), (2, 2)]


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


def test_locations_and_weights_by_hand(monkeypatch):
    """Offsets count in pixels of their level, x before y; weights sum to 1 over all levels and points of a head."""
    seen = {}

    def spy(value, shapes, locations, weights, backend=None):
        seen.update(locations=locations, weights=weights)
        return ms_deform_attn(value, shapes, locations, weights, backend=backend)

    monkeypatch.setattr("benchmark.ops.layer.ms_deform_attn", spy)
    layer = MSDeformAttn(8, heads=8, levels=2, points=2)
    with torch.no_grad():
        layer.attention_weights.bias.copy_(torch.tensor([0.0, 0, 0, 3]).log1p().repeat(8))  # 1 : 1 : 1 : 4
    layer(torch.zeros(1, 1, 8), torch.tensor([0.5, 0.25]).view(1, 1, 1, 2), torch.zeros(1, 16, 8), S)
    # eight directions, from the right on in steps of 45 degrees, as far as the edge of a square
    ways = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)]
    for head, (right, down) in enumerate(ways):
        for level, (height, width) in enumerate(S):
            for k in (1, 2):
                place = torch.tensor([0.5 + k * right / width, 0.25 + k * down / height])
                torch.testing.assert_close(seen["locations"][0, 0, head, level, k - 1], place)
    torch.testing.assert_close(seen["weights"][0, 0], torch.tensor([[1 / 7, 1 / 7], [1 / 7, 4 / 7]]).expand(8, 2, 2))


def test_locations_stay_float32_under_autocast(monkeypatch):
    seen = {}

    def spy(value, shapes, locations, weights, backend=None):
        seen.update(value=value.dtype, locations=locations.dtype, weights=weights.dtype)
        return ms_deform_attn(value, shapes, locations, weights, backend=backend)

    monkeypatch.setattr("benchmark.ops.layer.ms_deform_attn", spy)
    layer = MSDeformAttn(16, heads=4, levels=2)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(torch.randn(2, 6, 16), torch.rand(1, 6, 1, 2), torch.randn(2, 16, 16), S)
    assert out.dtype == torch.bfloat16
    assert seen == {"value": torch.bfloat16, "locations": torch.float32, "weights": torch.float32}


def test_a_constant_stays_where_it_is_however_many_follow():
    """A captured graph reads it at its address."""
    like = torch.zeros(1)
    first = constant((0.25, 7.0), like)
    for k in range(300):
        constant((float(k), -1.0), like)
    assert constant((0.25, 7.0), like) is first
