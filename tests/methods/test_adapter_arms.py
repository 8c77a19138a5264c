"""CellVTA's arms: every one of `experiments/adapter.py` builds at full scale, trains a step, and is what it says."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from benchmark.experiment import flops
from benchmark.experiment.cost import trainable
from benchmark.experiment.grid import cells
from benchmark.experiment.setup import Setup
from benchmark.layers.adapter import PatchPrior
from benchmark.layers.global_attention import GlobalAttention, reference_points, sine_positions
from benchmark.layers.lora import is_lora
from benchmark.methods import registry
from benchmark.ops import MSDeformAttn
from benchmark.runtime.errors import InputError


def arms(preset: str, experiment: str = "adapter") -> dict[str, registry.Spec]:
    setup = Setup("synthetic", None, preset, experiment, Path("results"), Path("cache"))
    return {str(cell.spec): cell.spec for cell in cells(setup)}


PAPER, DEBUG = arms("paper"), arms("debug") | arms("debug", "quirks")


def size(name: str) -> tuple[int, int]:
    method = flops.on_meta(PAPER.get(name, name), 5, 19)
    return sum(p.numel() for p in method.parameters()), trainable(method, method.phases(False))


BASE, TRAINED = 387_769_437, 84_420_701
INJECTOR = 5 * 1024 + (1024 + 1) * (192 + 96 + 512) + 513 * 1024  # gamma, two norms, offsets, weights, value, output
FFN = 1025 * 256 + 10 * 256 + 257 * 1024
EXTRACTOR = 6 * 1024 + 1025 * (64 + 32 + 512) + 513 * 1024 + FFN
# arm at full scale -> (parameters, trainable) relative to CellVTA's
RELATIVE = {
    "cellvta@matched": (0, 0),
    "cellvta@matched,injector=false": (-4 * INJECTOR, -4 * INJECTOR),
    "cellvta@matched,extractor=false": (-6 * EXTRACTOR, -6 * EXTRACTOR),
    "cellvta@matched,extra_extractors=0": (-2 * EXTRACTOR, -2 * EXTRACTOR),
    "cellvta@matched,vit_features=false": (0, 0),
    "cellvta@matched,interactions=2": (-2 * (INJECTOR + EXTRACTOR), -2 * (INJECTOR + EXTRACTOR)),
    "cellvta@matched,interactions=1": (-3 * (INJECTOR + EXTRACTOR), -3 * (INJECTOR + EXTRACTOR)),
    "cellvta@matched,tune=adapter+full": (0, BASE - TRAINED),
    "cellvta@matched,tune=lora": (24 * 8 * 8 * 1024, 24 * 8 * 8 * 1024),
    "cellvta@matched,points=8": (1025 * 12 * (4 * 24 + 6 * 8),) * 2,
    "cellvta@matched,points=2": (-1025 * 6 * (4 * 24 + 6 * 8),) * 2,
    "cellvta@matched,points=1": (-1025 * 9 * (4 * 24 + 6 * 8),) * 2,
    "cellvta@matched,heads=4": (-1025 * 48 * 4 * 3 - 1025 * 48 * 6,) * 2,
    "cellvta@matched,deform_ratio=1.0": (10 * (1025 * 512 + 512 * 1024),) * 2,
}


def test_the_grid_has_every_arm_once_at_each_scale():
    for scale in ("debug", "small", "paper"):
        names = [name.partition("@")[2].partition(",")[2] for name in arms(scale) if name.startswith("cellvta@")]
        assert len(names) == len(set(names)) and "" in names
        changed = {name.partition("=")[0] for name in names if name}
        assert changed == {
            *("tune", "injector", "extractor", "spatial_prior", "vit_features", "attention", "interactions"),
            *("extra_extractors", "points", "heads", "deform_ratio", "adapter_width"),
        }
    assert {"decoder_only@matched", "full_finetune@matched", "cellvit@matched,tune=lora"} <= set(PAPER)
    assert {"cellvta@matched", *RELATIVE} <= set(PAPER)


@pytest.mark.parametrize("name", RELATIVE)
def test_sizes_at_full_scale(name):
    total, trained = size(name)
    assert (total - BASE, trained - TRAINED) == RELATIVE[name]


@pytest.mark.parametrize("name", sorted(set(PAPER) - set(RELATIVE)))
def test_other_arms_build_at_full_scale(name):
    total, trained = size(name)
    wider = {"adapter_width=2.0": 1, "adapter_width=0.5": -1, "spatial_prior=false": -1, "deform_ratio=0.25": -1}
    sign = wider.get(name.partition(",")[2])
    if sign:
        assert total - BASE == trained - TRAINED and (total - BASE) * sign > 0
    elif name.startswith("cellvta"):
        assert name == "cellvta@matched,attention=global" and 0 < trained <= total != BASE
    else:  # the decoder-only family has the decoder of CellViT and no adapter
        frozen = total - trained
        added = 24 * 8 * 8 * 1024 if "lora" in name else 0
        assert total == 362_934_749 + added
        assert frozen == (0 if name.startswith("full") else 303_350_784)


@pytest.mark.parametrize("name", sorted(DEBUG))
def test_trains_a_step(name):
    torch.manual_seed(0)
    method = registry.build(DEBUG[name], 5, 3).train()
    optimiser = torch.optim.AdamW(method.groups(1e-2, 0.0))
    before = {k: v.clone() for k, v in method.named_parameters()}
    for _ in range(2):  # B of a low-rank update moves first, A after it
        loss = sum(v.square().mean() for v in method(torch.rand(2, 3, 64, 64)).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert torch.isfinite(loss)
    for key, parameter in method.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), key
        # softmax sees neither the key's bias, which shifts all scores alike, nor a weight that is the only one
        alone = name.endswith("points=1") and "extractor" in key and ".attention_weights." in key
        if not (alone or key.endswith((".key_proj.bias", "qkv.bias"))):
            assert parameter.requires_grad != torch.equal(parameter, before[key]), key


def test_lora_trains_adapter_and_updates_and_no_backbone_weight():
    method = registry.build("cellvta@debug,tune=lora,lora_rank=3", 5, 3)
    plain = registry.build("cellvta@debug", 5, 3)
    names = {n for n, p in method.named_parameters() if p.requires_grad}
    added = {n for n in names if is_lora(n)}
    assert added and all(n.startswith("vit.blocks.") for n in added)
    assert names - added == {n for n, p in plain.named_parameters() if p.requires_grad}
    assert set(plain.state_dict()) <= set(method.state_dict())
    assert method.vit.blocks[0].attn.qkv.lora_a.shape == (3, 3, 32)


def test_arms_start_from_the_same_weights():
    built = []
    for change in ("", ",tune=lora", ",vit_features=false", ",tune=adapter+full"):
        torch.manual_seed(0)
        built.append(registry.build(f"cellvta@debug{change}", 5, 3).state_dict())
    assert all(torch.equal(b[k], v) for b in built[1:] for k, v in built[0].items())


def test_without_spatial_prior_only_patches_reach_the_pyramid():
    torch.manual_seed(0)
    method = registry.build("cellvta@debug,spatial_prior=false", 5, 3).eval()
    assert isinstance(method.adapter.spm, PatchPrior) and not any(
        n.startswith("adapter.spm") for n in dict(method.named_parameters())
    )
    tokens = torch.rand(2, 6, 32)
    fine, middle, coarse = method.adapter.spm(tokens, (2, 3))
    assert fine.shape == (2, 32, 8, 12) and middle.shape == (2, 32, 4, 6)
    assert torch.equal(coarse.flatten(2).transpose(1, 2), tokens)
    torch.testing.assert_close(F.adaptive_avg_pool2d(fine, 1), F.adaptive_avg_pool2d(middle, 1), atol=0.05, rtol=0)
    # blind to all but the patch embedding: with that at zero, two images give the same pyramid
    nn.init.zeros_(method.vit.patch_embed.proj.weight)
    normal = [torch.rand(1, 3, 64, 64) for _ in range(2)]
    with torch.no_grad():
        (a, _), (b, _) = (method.adapter(method.vit, x) for x in normal)
        assert all(torch.equal(x, y) for x, y in zip(a, b))


def test_global_attention_is_softmax_over_all_tokens():
    torch.manual_seed(0)
    layer = GlobalAttention(8, heads=2, ratio=0.5).double()
    grids = [(4, 6), (2, 3)]
    query, features = torch.randn(1, 6, 8).double(), torch.randn(1, 30, 8).double()
    reference = reference_points([(2, 3)])
    found = layer(query, reference, features, grids)
    where = sine_positions(reference[:, :, 0], (2, 3), 8)
    there = sine_positions(reference_points(grids)[:, :, 0], (2, 3), 8)
    q, k, v = layer.query_proj(query + where), layer.key_proj(features + there), layer.value_proj(features)
    heads = []
    for h in (slice(0, 2), slice(2, 4)):
        scores = (q[..., h] @ k[..., h].mT / 2**0.5).softmax(-1)
        heads.append(scores @ v[..., h])
    torch.testing.assert_close(found, layer.output_proj(torch.cat(heads, -1)))
    with pytest.raises(ValueError, match="multiple of heads"):
        GlobalAttention(8, heads=3)


def test_positions_tell_places_apart_and_agree_across_levels():
    fine, coarse = (sine_positions(reference_points([g])[:, :, 0], (4, 4), 32)[0] for g in ((8, 8), (4, 4)))
    near = (fine @ coarse.T).argmax(1).view(8, 8)
    expected = torch.arange(16).view(4, 4).repeat_interleave(2, 0).repeat_interleave(2, 1)
    assert torch.equal(near, expected)


def test_which_attention_an_arm_has():
    for change, kind, other in (
        ("global", GlobalAttention, MSDeformAttn),
        ("deformable", MSDeformAttn, GlobalAttention),
    ):
        modules = list(registry.build(f"cellvta@debug,attention={change}", 5, 3).modules())
        assert sum(isinstance(m, kind) for m in modules) == 10 and not any(isinstance(m, other) for m in modules)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("attention=local", "expected deformable or global"),
        ("extra_extractors=-1", "at least 0"),
        ("adapter_width=0.0", "above 0"),
        ("tune=lora,lora_rank=0", "rank is 0"),
        ("tune=decoder", "is the method decoder_only"),
        ("attention=global,heads=5", "multiple of heads"),
    ],
)
def test_refuses(text, match):
    with pytest.raises(InputError, match=match):
        registry.build(f"cellvta@debug,{text}", 5, 3)


def test_lora_cannot_be_switched_on_later():
    with pytest.raises(InputError, match="built without low-rank updates"):
        registry.build("cellvta@debug", 5, 3).set_tune("lora")
