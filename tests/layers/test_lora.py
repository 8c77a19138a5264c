"""Low-rank updates: nothing changes at the start, only they train, and base keys stay what they were."""

import pytest
import timm
import torch
from torch import nn

from benchmark.layers.lora import LoRALinear, add_lora, is_lora
from benchmark.layers.vit import build_backbone, features


def plain() -> nn.Module:
    return build_backbone("nano")


def sam() -> nn.Module:
    return timm.create_model(
        "samvit_base_patch16",
        pretrained=False,
        num_classes=0,
        img_size=64,
        embed_dim=32,
        depth=2,
        num_heads=2,
        global_attn_indexes=(1,),
    )


def run(vit: nn.Module, images: torch.Tensor) -> torch.Tensor:
    return features(vit, images, [4])[0][0] if hasattr(vit, "cls_token") else vit.forward_features(images)


@pytest.mark.parametrize("make", [plain, sam])
def test_output_is_unchanged_until_b_moves(make):
    torch.manual_seed(0)
    vit, images = make().eval(), torch.rand(2, 3, 64, 64)
    keys, state = list(vit.state_dict()), {k: v.clone() for k, v in vit.state_dict().items()}
    with torch.no_grad():
        before = run(vit, images)
        add_lora(vit, rank=2, alpha=4.0)
        assert torch.equal(run(vit, images), before)
        for name, parameter in vit.named_parameters():
            if name.endswith("lora_b"):
                parameter.normal_()
        assert not torch.allclose(run(vit, images), before, atol=1e-3)
    after = vit.state_dict()
    assert set(keys) <= set(after) and all(is_lora(k) for k in set(after) - set(keys))
    assert all(torch.equal(after[k], v) for k, v in state.items())


@pytest.mark.parametrize("make", [plain, sam])
def test_only_the_updates_train_and_all_of_them_do(make):
    vit = make().train()
    add_lora(vit, rank=2, alpha=4.0)
    nn.init.normal_(vit.blocks[0].attn.qkv.lora_b)  # a zero B hides A's gradient
    run(vit, torch.rand(2, 3, 64, 64)).square().mean().backward()
    for name, parameter in vit.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None) == is_lora(name), name
    assert vit.blocks[0].attn.qkv.lora_a.grad.abs().sum() > 0
    assert vit.blocks[0].attn.qkv.lora_b.grad.abs().sum() > 0


def test_equals_the_merged_weight_with_a_pair_for_each_of_q_k_v():
    torch.manual_seed(0)
    base = nn.Linear(6, 12).double()
    layer = LoRALinear(base, rank=2, alpha=3.0, parts=3)
    nn.init.normal_(layer.lora_b)
    merged = base.weight + 1.5 * torch.cat([layer.lora_b[k] @ layer.lora_a[k] for k in range(3)])
    x = torch.randn(4, 5, 6, dtype=torch.float64)
    torch.testing.assert_close(layer(x), x @ merged.T + base.bias)


def test_size_at_published_scale():
    with torch.device("meta"):
        vit = build_backbone("uni")
        add_lora(vit, rank=8, alpha=16.0)
    added = sum(p.numel() for p in vit.parameters() if p.requires_grad)
    assert added == 24 * 8 * (3 * (1024 + 1024) + (1024 + 1024))


def test_refuses():
    vit = plain()
    with pytest.raises(ValueError, match="rank is 0"):
        add_lora(vit, 0, 1.0)
    with pytest.raises(ValueError, match="alpha 0"):
        add_lora(vit, 1, 0)
    add_lora(vit, 1, 1.0)
    with pytest.raises(ValueError, match="already"):
        add_lora(vit, 1, 1.0)
    with pytest.raises(ValueError, match="no attention"):
        add_lora(nn.Linear(2, 2), 1, 1.0)
