"""CellViT: rows and their recipes, what trains, SAM's encoder at any size, foundation ViTs."""

import pytest
import torch
from torch import nn

from benchmark.layers import sam
from benchmark.layers.backbones import BACKBONES, GATED
from benchmark.layers.lora import is_lora
from benchmark.methods import registry
from benchmark.methods.base import Phase
from benchmark.methods.cellvit import FOUNDATION, PUBLISHED, CellViT
from benchmark.runtime.errors import InputError
from tests.support import method_checks as checks

SAM_DEBUG = "cellvit@debug,backbone=sam_nano"


def on_meta(text: str, classes: int = 5, tissues: int = 19) -> CellViT:
    with torch.device("meta"):
        return registry.build(text, classes, tissues)


def images(*sides: int) -> torch.Tensor:
    return torch.rand(2, 3, *sides, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("row", "heads", "depth", "taps"),
    [
        ("vit256", 6, 12, [3, 6, 9, 12]),
        ("sam_b", 12, 12, [3, 6, 9, 12]),
        ("sam_l", 16, 24, [6, 12, 18, 24]),
        ("sam_h", 16, 32, [8, 16, 24, 32]),
        ("uni", 16, 24, [6, 12, 18, 24]),
    ],
)
def test_encoders_are_the_published_ones(row, heads, depth, taps):
    method = on_meta(f"cellvit@{row}")
    blocks = method.vit.blocks
    assert (blocks[0].attn.num_heads, len(blocks), method.taps) == (heads, depth, taps)
    # invisible to outputs or nearly so
    norms = [m for m in method.vit.modules() if isinstance(m, nn.LayerNorm)]
    assert {m.eps for m in norms} == {1e-6} and len(norms) >= 2 * depth
    assert {m.eps for m in method.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-5}
    assert not any(m.p for m in method.modules() if isinstance(m, nn.Dropout))
    assert not any(getattr(b.drop_path1, "drop_prob", 0.0) for b in blocks)
    assert all(isinstance(b.mlp.act, nn.GELU) and b.mlp.act.approximate == "none" for b in blocks)
    assert (method.losses.double_softmax, method.losses.cross_msge) == (True, True)
    assert (method.mean, method.std) == ((0.5,) * 3, (0.5,) * 3)


@pytest.mark.parametrize(
    ("row", "whole"), [("sam_b", [2, 5, 8, 11]), ("sam_l", [5, 11, 17, 23]), ("sam_h", [7, 15, 23, 31])]
)
def test_windows_of_sam(row, whole):
    method = on_meta(f"cellvit@{row}")
    assert {i: b.window_size for i, b in enumerate(method.vit.blocks) if i in whole} == dict.fromkeys(whole, 0)
    assert {b.window_size for i, b in enumerate(method.vit.blocks) if i not in whole} == {14}
    tables = {b.window_size: b.attn.rel_pos_h.shape[0] for b in method.vit.blocks}
    assert tables == {0: 127, 14: 27}
    assert method.tile == sam.side(method.vit) == 1024


def test_rows_and_recipes():
    assert registry.parse("cellvit@uni").arguments == registry.parse("cellvit@paper").arguments
    for row in (*PUBLISHED, *FOUNDATION):
        assert registry.parse(f"cellvit@{row}").arguments["backbone"] == row
        assert registry.parse(f"decoder_only@{row}").arguments["tune"] == "decoder"
        assert registry.parse(f"full_finetune@{row}").arguments["tune"] == "full"
    for row in PUBLISHED:
        recipe = CellViT.published[row]
        assert (recipe["epochs"], recipe["batch"], recipe["precision"]) == (130, 16, "fp16")
        assert (recipe["optimiser"]["lr"], recipe["optimiser"]["betas"]) == (3e-4, (0.85, 0.95))
        assert recipe["optimiser"]["weight_decay"] == 1e-4
        assert recipe["schedule"] == {"name": "exponential", "warmup": 0.0, "gamma": 0.95}
        assert (recipe["augment"], recipe["sampling"]["strategy"]) == ("cellvit", "cell+tissue")
        phases = on_meta(f"cellvit@{row}").phases(published=True)
        assert phases == [Phase(0.0, "decoder"), Phase(25 / 130, "full")]


CHECKS = [
    (checks.builds_quickly, {}),
    (checks.forward_shapes, {"n": 3}),
    (checks.predict_covers_every_pixel, {"tiled": False, "height": 250, "width": 300}),
    (checks.predict_covers_every_pixel, {"tiled": True, "height": 250, "width": 300}),
    (checks.prediction_of_an_image_does_not_depend_on_its_batch, {}),
    (checks.gradient_reaches_what_is_trainable_and_nothing_else, {"tune": "decoder"}),
    (checks.gradient_reaches_what_is_trainable_and_nothing_else, {"tune": "full"}),
    (checks.learns_one_batch, {}),
    (checks.without_nuclei, {"classes": 0}),
    (checks.without_types, {}),
    (checks.bfloat16_agrees_loosely, {}),
    (checks.state_dict_carries_everything, {}),
]


@pytest.mark.parametrize(("check", "arguments"), CHECKS, ids=lambda v: getattr(v, "__name__", None))
def test_sam_does_what_every_method_must(check, arguments):
    check(SAM_DEBUG, **arguments)


def test_sam_takes_any_shape_up_to_its_positions():
    """The official encoder raises for images that are not square; positions are cut to rows and columns here."""
    method = registry.build(SAM_DEBUG, 5, 3).eval()
    nn.init.normal_(method.vit.pos_embed)
    seen = {}
    method.vit.norm_pre.register_forward_hook(lambda _, inputs, output: seen.update(tokens=output))
    with torch.no_grad():
        out = method(images(64, 96))
        assert out["np"].shape == (2, 2, 64, 96)
        patches = method.vit.patch_embed(method.normalise(images(64, 96)))
        torch.testing.assert_close(seen["tokens"] - patches, method.vit.pos_embed[:, :4, :6].expand(2, -1, -1, -1))
        with pytest.raises(InputError, match="528 x 64 pixels; expected sides of at most 512"):
            method(images(528, 64))
        assert method.predict(images(528, 64))["np"].shape == (2, 2, 528, 64)
    with pytest.raises(InputError, match="encoder of SAM; expected a plain ViT"):
        registry.build("cellvta@debug,backbone=sam_nano", 5, 3)


@pytest.mark.parametrize("backbone", ["nano", "sam_nano"])
def test_skip_convolutions_run_once_per_forward(backbone):
    method, calls = registry.build(f"cellvit@debug,backbone={backbone}", 5, 3), []
    for number in range(4):
        skip = getattr(method.decoder, f"skip{number}")
        skip.register_forward_hook(lambda *_, number=number: calls.append(number))
    method(images(64, 64))
    assert sorted(calls) == [0, 1, 2, 3]


@pytest.mark.parametrize("backbone", ["nano", "sam_nano"])
def test_lora_starts_as_the_frozen_encoder_and_trains_updates_alone(backbone):
    built = []
    for tune in ("decoder", "lora"):
        torch.manual_seed(0)
        built.append(registry.build(f"cellvit@debug,backbone={backbone},tune={tune}", 5, 3).train())
    plain, lora = built
    with torch.no_grad():
        a, b = plain.eval()(images(64, 64)), lora.eval()(images(64, 64))
        assert all(torch.equal(a[k], b[k]) for k in a)
    in_vit = {k for k, p in lora.vit.named_parameters() if p.requires_grad}
    assert in_vit == {k for k, _ in lora.vit.named_parameters() if is_lora(k)}
    # two matrices of q, k, v and two of the projection in each of four blocks
    assert len(in_vit) == 4 * 4
    assert all(p.requires_grad for k, p in lora.named_parameters() if not k.startswith("vit."))
    assert lora.phases(True) == [Phase(0.0, "lora")]
    sum(v.square().mean() for v in lora.train()(images(64, 64)).values()).backward()
    assert {k for k, p in lora.named_parameters() if p.grad is not None} == {
        k for k, p in lora.named_parameters() if p.requires_grad
    }
    smaller = registry.build(f"cellvit@debug,backbone={backbone},tune=lora,lora_rank=2", 5, 3)
    assert smaller.vit.blocks[0].attn.proj.lora_a.shape[1] == 2
    with pytest.raises(InputError, match="rank is 0"):
        registry.build(f"cellvit@debug,backbone={backbone},tune=lora,lora_rank=0", 5, 3)
    with pytest.raises(InputError, match="without low-rank updates"):
        plain.set_tune("lora")


# millions of parameters as their publishers say, patch, prefix tokens, depth
FACTS = {
    "uni": (303, 16, 1, 24),
    "uni2": (681, 14, 9, 24),
    "virchow": (631, 14, 1, 32),
    "virchow2": (631, 14, 5, 32),
    "h_optimus_0": (1135, 14, 5, 40),
    "dinov2_l": (304, 14, 1, 24),
}


@pytest.mark.parametrize("row", FOUNDATION)
def test_foundation_vits(row):
    method = on_meta(f"cellvit@{row}")
    size, patch, prefix, depth = FACTS[row]
    vit = method.vit
    assert round(sum(p.numel() for p in vit.parameters()) / 1e6) == size
    assert (vit.patch_embed.patch_size, vit.num_prefix_tokens, len(vit.blocks)) == ((patch, patch), prefix, depth)
    assert {m.eps for m in vit.modules() if isinstance(m, nn.LayerNorm)} == {1e-6}
    assert {"hub", "licence"} <= set(BACKBONES[row]) and (row in GATED) is (row != "dinov2_l")
    seen = {}
    vit.patch_embed.register_forward_hook(lambda _, inputs, output: seen.update(side=inputs[0].shape[-2:]))
    out = method(torch.empty(1, 3, 256, 320, device="meta"))
    assert out["np"].shape == (1, 2, 256, 320) and out["tissue"].shape == (1, 19)
    assert seen["side"] == (16 * patch, 20 * patch), "a token stands for 16 x 16 pixels whatever the patch"
    if row == "uni":
        assert method.mean == (0.5,) * 3, "as the published segmentation model on it is fed"
    else:
        assert method.mean != (0.5,) * 3 and max(method.std) < 0.25


@pytest.mark.parametrize(
    "name",
    [
        "vit_small_patch14_reg4_dinov2",
        "vit_small_patch8_224.dino",
        "vit_so150m_patch16_reg4_gap_256",  # mean of the patch tokens, 18 blocks
        "vit_base_patch16_siglip_224",  # no class token, attention pooling
        "vit_base_patch16_clip_224",  # a norm before the first block
        "deit3_small_patch16_224",
        "samvit_base_patch16",
    ],
)
@pytest.mark.parametrize("tissues", [3, 0])
def test_any_vit_of_timm(name, tissues):
    method = on_meta(f"cellvit@paper,backbone={name},tune=full,width=0.125", 5, tissues)
    out = method(torch.empty(2, 3, 64, 96, device="meta"))
    assert out["hv"].shape == (2, 2, 64, 96)
    sum(v.sum() for v in out.values()).backward()
    for key, parameter in method.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), key
    assert len(set(method.taps)) == 4 and method.taps[-1] == len(method.vit.blocks)
    assert method.mean == tuple(method.vit.pretrained_cfg["mean"])


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("vit_base_patch16_dinov3", "is a Eva; expected a plain ViT"),
        ("vit_base_r50_s16_224", "no plain patch and position embedding"),
        ("samvit_base_patch16_224", "no plain patch and position embedding"),
        ("levit_128", "timm cannot build 'levit_128' as a plain ViT"),
        ("test_vit2x", "Unknown backbone"),
    ],
)
def test_other_architectures_are_refused(name, match):
    with pytest.raises(InputError, match=match):
        on_meta(f"cellvit@paper,backbone={name}")


@pytest.mark.parametrize("text", ["full_finetune@debug", SAM_DEBUG])
def test_a_vit_begins_with_the_encoder_of_another_training_and_refuses_its_whole_network(text, tmp_path):
    """docs/folder.md: the entries below `vit.` of a run's weights."""
    donor, ends = registry.build(text, 2, 1), (tmp_path / "whole.pth", tmp_path / "vit.pth")
    state = donor.state_dict()
    torch.save(state, ends[0])
    torch.save({key.removeprefix("vit."): v for key, v in state.items() if key.startswith("vit.")}, ends[1])
    with pytest.raises(InputError, match="do not fit backbone"):
        registry.build(text, 3, 1, weights=ends[0])
    taker = registry.build(text, 3, 1, weights=ends[1])
    assert all(torch.equal(value, donor.vit.state_dict()[key]) for key, value in taker.vit.state_dict().items())
