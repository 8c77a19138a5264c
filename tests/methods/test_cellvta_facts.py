"""Facts of the published CellVTA that no output in evaluation mode shows: what trains, what drops, how it starts."""

import numpy as np
import pytest
import torch
from timm.layers import DropPath
from torch import nn

from benchmark.experiment import flops
from benchmark.methods import registry
from benchmark.methods.cellvta import official_key
from benchmark.ops import MSDeformAttn
from benchmark.training import optim
from benchmark.training.recipe import Optimiser, Schedule


@pytest.fixture(scope="module")
def paper():
    return flops.on_meta("cellvta@paper", 5, 19).train()


def count(parameters) -> int:
    return sum(p.numel() for p in parameters)


def test_trainable_set_module_by_module(paper):
    """Published freeze_encoder(): patch embedding, tokens, positions and blocks are frozen, all else trains."""
    trained = {official_key(n): p for n, p in paper.named_parameters() if p.requires_grad}
    frozen = {official_key(n): p for n, p in paper.named_parameters() if not p.requires_grad}
    assert (len(trained), len(frozen)) == (405, 340)
    encoder = {n: p for n, p in trained.items() if n.startswith("encoder.")}
    assert count(encoder.values()) == 22_299_027
    assert count(p for n, p in trained.items() if n not in encoder) == 62_121_674
    assert count(trained.values()) == 84_420_701 and count(frozen.values()) == 303_348_736
    assert {n.split(".")[1] for n in encoder} == {
        *("head", "spm", "interactions", "up", "norm1", "norm2", "norm3", "norm4", "level_embed", "norm")
    }
    assert {n.split(".")[1] for n in frozen} == {"patch_embed", "cls_token", "pos_embed", "blocks"}
    assert sum(n.endswith(("ls1.gamma", "ls2.gamma")) for n in frozen) == 48, "layer scale is frozen too"


def test_conic_counts():
    conic = flops.on_meta("cellvta@paper", 6, 1)
    assert count(conic.parameters()) == 387_751_052
    assert count(p for p in conic.parameters() if p.requires_grad) == 84_402_316


def test_normalisation_constants(paper):
    layer_norms = [m for m in paper.modules() if isinstance(m, nn.LayerNorm)]
    # two a block and the last; two an injector; three an extractor
    assert len(layer_norms) == 2 * 24 + 1 + 2 * 4 + 3 * 6 and {m.eps for m in layer_norms} == {1e-6}
    batch_norms = [m for m in paper.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {(type(m), m.eps, m.momentum, m.affine) for m in batch_norms} == {(nn.BatchNorm2d, 1e-5, 0.1, True)}


def test_attention_sizes(paper):
    attentions = [m for m in paper.adapter.modules() if isinstance(m, MSDeformAttn)]
    assert [(m.heads, m.points, m.value_proj.out_features) for m in attentions] == [(8, 4, 512)] * 10
    assert sorted(m.levels for m in attentions) == [1] * 6 + [3] * 4
    assert [i.extractor.ffn.fc1.out_features for i in paper.adapter.interactions] == [256] * 4
    assert [len(i.extra_extractors or []) for i in paper.adapter.interactions] == [0, 0, 0, 2]


def test_stem_ends_without_normalisation_or_pooling(paper):
    kinds = [type(m) for m in paper.adapter.spm.stem]
    assert kinds == 3 * [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] + [nn.Conv2d]
    convolutions = [m for m in paper.adapter.spm.stem if isinstance(m, nn.Conv2d)]
    assert [m.stride for m in convolutions] == [(1, 1)] * 3 + [(2, 2)] and all(m.bias is None for m in convolutions)


def test_drop_path_schedule(paper):
    for number, block in enumerate(paper.vit.blocks):
        rate = np.linspace(0, 0.4, 24)[number]
        for drop in (block.drop_path1, block.drop_path2):
            assert (drop.drop_prob == pytest.approx(rate)) if rate else isinstance(drop, nn.Identity)
    places = {n: m.drop_prob for n, m in paper.adapter.named_modules() if isinstance(m, DropPath)}
    assert len(places) == 6 and set(places.values()) == {0.4}
    assert all(".extractor.drop_path" in n or ".extra_extractors." in n for n in places), "none in injectors"


def test_frozen_blocks_drop_paths_in_training_mode():
    """model.train() reaches the frozen ViT: two passes of the same image differ, and no gradient reaches a block."""
    torch.manual_seed(0)
    method = registry.build("cellvta@debug,drop_path=0.4,extractor=false", 5, 3).train()
    images = torch.rand(1, 3, 64, 64)
    for module in method.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()  # leaves stochastic depth as the only thing that varies
    a, b, *_ = (method(images)["np"] for _ in range(4))
    assert not torch.equal(a, b)
    method.eval()
    assert torch.equal(method(images)["np"], method(images)["np"])
    method.train()
    method(images)["np"].sum().backward()
    assert all(p.grad is None for p in method.vit.blocks.parameters())


def test_batch_norm_of_the_trained_parts_follows_the_data():
    method = registry.build("cellvta@debug", 5, 3).train()
    before = {n: m.running_mean.clone() for n, m in method.named_modules() if isinstance(m, nn.BatchNorm2d)}
    method(torch.rand(2, 3, 64, 64))
    moved = {n: m.running_mean for n, m in method.named_modules() if isinstance(m, nn.BatchNorm2d)}
    assert all(not torch.equal(moved[n], before[n]) for n in before)


def test_initialisation():
    """Every linear layer of the adapter ends at truncated normal 0.02 with bias 0: the offsets' directions are lost."""
    torch.manual_seed(0)
    method = registry.build("cellvta@small,offset_grid=false", 5, 19)
    for name, module in method.adapter.named_modules():
        if isinstance(module, nn.Linear):
            assert (module.bias == 0).all(), name
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.25)
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            fan_out = module.kernel_size[0] ** 2 * module.out_channels / module.groups
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.3), name
        elif isinstance(module, nn.LayerNorm | nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all(), name
    for exchange in method.adapter.interactions:
        assert (exchange.injector.gamma == 1e-5).all()
        assert (exchange.injector.attn.sampling_offsets.bias == 0).all()
        assert exchange.injector.attn.sampling_offsets.weight.std() > 0.01, "not zero as in Deformable DETR"
    assert method.adapter.level_embed.std().item() == pytest.approx(1.0, abs=0.15)
    assert method.tissue_head.weight.std().item() == pytest.approx(0.02, rel=0.25)
    assert (method.tissue_head.bias == 0).all()


def test_tissue_loss_trains_the_last_norm_and_the_head_alone():
    method = registry.build("cellvta@debug,cls_in_vit=false", 5, 3).train()
    method(torch.rand(2, 3, 64, 64))["tissue"].square().sum().backward()
    reached = {n for n, p in method.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert reached == {"vit.norm.weight", "vit.norm.bias", "tissue_head.weight", "tissue_head.bias"}


def test_segmentation_heads_do_not_see_the_last_norm():
    method = registry.build("cellvta@debug", 5, 3).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = method(images)
        method.vit.norm.weight.mul_(3)
        after = method(images)
    assert not torch.equal(before["tissue"], after["tissue"])
    assert all(torch.equal(before[k], after[k]) for k in ("np", "hv", "tp"))


def test_optimiser_has_all_parameters_in_one_group_and_spares_the_frozen():
    method = registry.build("cellvta@debug", 5, 3).train()
    recipe = registry.method_class("cellvta").published["paper"]
    made = optim.optimiser(method, Optimiser(**recipe["optimiser"]))
    (group,) = made.param_groups
    assert len(group["params"]) == len(list(method.parameters()))
    assert (group["lr"], group["betas"], group["weight_decay"]) == (3e-4, (0.85, 0.95), 1e-4)
    before = {n: p.clone() for n, p in method.named_parameters()}
    sum(v.square().mean() for v in method(torch.rand(2, 3, 64, 64)).values()).backward()
    made.step()
    for name, parameter in method.named_parameters():
        assert parameter.requires_grad or torch.equal(parameter, before[name]), "no decay without a gradient"


def test_effective_learning_rate_is_that_of_the_published_logs():
    """gamma .85 stands in the published configuration and is never read: the rate falls by .95 an epoch."""
    recipe = registry.method_class("cellvta").published["paper"]
    schedule = Schedule(**recipe["schedule"])
    factors = [optim.lr_factor(schedule, e, 100, s, 331) for e in (0, 1, 10, 99) for s in (0, 330)]
    np.testing.assert_allclose(factors, [0.95**e for e in (0, 0, 1, 1, 10, 10, 99, 99)])
    assert recipe["clip"] == 0 and recipe["precision"] == "fp32" and recipe["schedule"]["warmup"] == 0
