"""Backbones: the architecture that is asked for, weights that fit or one clear sentence."""

import argparse

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark.layers.vit import BACKBONES, GATED, available, build_backbone, build_encoder, features, quarters
from benchmark.methods.registry import method_class
from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import ROOT
from benchmark.runtime.timm_alone import relative_positions, vision_transformer_sam
from tests.support.shared import shared


def test_uni_is_vit_large_with_layer_scale():
    with torch.device("meta"):
        vit = build_backbone("uni", drop_path=0.4)
    assert (vit.embed_dim, len(vit.blocks), vit.blocks[0].attn.num_heads) == (1024, 24, 16)
    assert vit.pos_embed.shape == (1, 197, 1024) and vit.blocks[0].ls1.gamma.shape == (1024,)
    assert isinstance(vit.head, nn.Identity)
    # invisible to golden figures: LayerNorm's eps and the drop-path schedule
    assert {m.eps for m in vit.modules() if isinstance(m, nn.LayerNorm)} == {1e-6}
    rates = [getattr(b.drop_path1, "drop_prob", 0.0) for b in vit.blocks]
    np.testing.assert_allclose(rates, np.linspace(0, 0.4, 24), atol=1e-6)


@pytest.mark.parametrize("size", [(64, 64), (96, 160)])
def test_features(size):
    torch.manual_seed(0)
    vit = build_backbone("nano").eval()
    maps, summary = features(vit, torch.rand(2, 3, *size), quarters(vit))
    assert [tuple(m.shape) for m in maps] == [(2, 32, size[0] // 16, size[1] // 16)] * 4
    assert summary.shape == (2, 32)
    whole = vit.forward_features(torch.zeros(2, 3, *size))
    _, summary = features(vit, torch.zeros(2, 3, *size), [])
    torch.testing.assert_close(summary, whole[:, 0])


def test_patches_of_14_pixels_keep_one_token_per_16():
    vit = build_backbone("vit_small_patch14_dinov2").eval()
    maps, _ = features(vit, torch.rand(1, 3, 64, 96), [12])
    assert maps[0].shape == (1, 384, 4, 6)


def test_position_embedding_is_resampled_as_published():
    units = np.load(shared("golden/models/units.npz"))
    vit = build_backbone("nano")
    vit.pos_embed = nn.Parameter(torch.tensor(units["timm_pos_embed/in"]))
    vit.cls_token = nn.Parameter(torch.zeros(1, 1, 8))
    vit.patch_embed.grid_size = (14, 14)
    for name in ("16x16", "14x20", "14x14", "32x32"):
        h, w = map(int, name.split("x"))
        out = vit._pos_embed(torch.zeros(1, h, w, 8)).detach().numpy()
        np.testing.assert_allclose(out, units[f"timm_pos_embed/out_{name}"], atol=2e-6)


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "bin"])
def test_weights_from_a_file(tmp_path, suffix):
    torch.manual_seed(1)
    source = build_backbone("nano").state_dict()
    path = tmp_path / f"nano.{suffix}"
    head = {"head.weight": torch.zeros(3, 32), "head.bias": torch.zeros(3)}  # a classifier is dropped
    if suffix == "safetensors":
        save_file(source | head, path)
    else:
        torch.save({"state_dict": source | head} if suffix == "pth" else source | head, path)
    loaded = build_backbone("nano", path).state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in source.items())
    with pytest.raises(InputError, match=r"do not fit backbone 'tiny'.*expected"):
        build_backbone("tiny", path)


class Evil:
    def __reduce__(self):
        return (print, ("executed",))


def test_weights_that_cannot_be_had(tmp_path, monkeypatch, capsys):
    def refused(weights, match, name="nano"):
        with pytest.raises(InputError, match=match):
            build_backbone(name, weights)

    refused(tmp_path / "absent.pth", "does not exist")
    state = build_backbone("nano").state_dict()
    broken = {k: v for k, v in state.items() if k != "cls_token"} | {"more": torch.zeros(1)}
    torch.save(broken, tmp_path / "broken.pth")
    refused(tmp_path / "broken.pth", "cls_token is missing; more is not part of it")
    for number in (float("nan"), float("inf")):
        damaged = state | {"norm.bias": torch.cat([torch.tensor([number]), state["norm.bias"][1:]])}
        torch.save(damaged, tmp_path / "damaged.pth")
        refused(tmp_path / "damaged.pth", "norm.bias holds values that are not finite")
    torch.save([1, 2], tmp_path / "list.pth")
    refused(tmp_path / "list.pth", "no state dict")
    (tmp_path / "text.safetensors").write_text("not tensors")
    refused(tmp_path / "text.safetensors", "that does not load")
    torch.save({"a": Evil()}, tmp_path / "evil.pth")
    refused(tmp_path / "evil.pth", "without executing anything")
    assert "executed" not in capsys.readouterr().out
    refused("hub", "the hub has no weights of 'nano'")

    def offline(*args, pretrained=False, **kwargs):
        raise ConnectionError("no network")

    build = build_backbone.__globals__["timm"].create_model
    monkeypatch.setattr("timm.create_model", lambda *a, **k: offline(**k) if k.get("pretrained") else build(*a, **k))
    refused("hub", "cannot be had from the hub.*no network", name="vit_tiny_patch16_224")


def test_unknown_names():
    with pytest.raises(InputError, match="Did you mean 'tiny'"):
        build_backbone("tinyy")
    with pytest.raises(InputError, match="plain ViT"):
        build_backbone("resnet18")


def test_licences_of_published_weights_by_the_methods_arguments():
    licence = method_class("cellvta").weights_licence
    assert licence({"backbone": "uni"}) == "CC BY-NC-ND 4.0, gated" and licence({"backbone": "tiny"}) is None
    assert method_class("classical").weights_licence({}) is None


def test_backbones_with_published_weights_are_not_run_at_random_unasked(tmp_path):
    assert {"uni", "virchow2"} <= GATED <= set(BACKBONES)
    for name, row in BACKBONES.items():
        usable, reason = available(name, None)
        assert usable is ("licence" not in row) and ("gated" in reason) is (name in GATED)
        assert ("BACKBONE=hub" in reason) is ("hub" in row)
        assert available(name, "random") == (True, "")
    assert "choose BACKBONE=<file> or" in available("vit256", None)[1]
    assert available("uni", tmp_path / "absent.bin")[0] is False
    (tmp_path / "uni.bin").touch()
    assert available("uni", tmp_path / "uni.bin")[0]


def test_published_files_of_the_encoders_load(tmp_path):
    """Segment Anything's whole model, and DINO's teacher beside its options, as HIPT published it."""
    source = build_encoder("sam_nano").state_dict()
    published = {f"image_encoder.{k.replace('.mlp.fc', '.mlp.lin')}": v for k, v in source.items()}
    torch.save(published | {"mask_decoder.iou_token.weight": torch.zeros(1, 4)}, tmp_path / "sam.pth")
    loaded = build_encoder("sam_nano", tmp_path / "sam.pth").state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in source.items())

    source = build_backbone("nano").state_dict()
    teacher = {f"module.backbone.{k}": v for k, v in source.items()} | {"module.head.mlp.0.weight": torch.zeros(2, 32)}
    state = {"student": {}, "teacher": teacher, "epoch": 3, "args": argparse.Namespace(arch="vit_small")}
    torch.save(state, tmp_path / "dino.pth")
    loaded = build_backbone("nano", tmp_path / "dino.pth").state_dict()
    assert all(torch.equal(loaded[k], v) for k, v in source.items())


@pytest.mark.parametrize("sizes", [(5, 5), (4, 4), (14, 14), (9, 4), (4, 9), (3, 7), (7, 3), (1, 6)])
@pytest.mark.parametrize("length", [9, 27])
def test_relative_positions_are_timm_s(sizes, length):
    assert vision_transformer_sam.get_rel_pos is relative_positions
    table = torch.randn(length, 3, generator=torch.Generator().manual_seed(0))
    out, expected = (f(*sizes, table) for f in (relative_positions, relative_positions.__wrapped__))
    assert out.shape == (*sizes, 3) and torch.equal(out, expected)


class Devices(TorchDispatchMode):
    """The devices of all tensors that operators return."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        out = function(*arguments, **(named or {}))
        several = out if isinstance(out, tuple | list) else [out]
        self.seen |= {one.device.type for one in several if torch.is_tensor(one)}
        return out


@pytest.mark.parametrize("name", ["sam_nano", "nano"])
def test_nothing_is_made_on_the_cpu_for_an_encoder_elsewhere(name):
    """A copy from there waits for a GPU, and cannot be part of a CUDA graph."""
    with torch.device("meta"):
        vit = build_encoder(name)
    with Devices() as devices:
        features(vit, torch.empty(2, 3, 96, 64, device="meta"), [2, 4])
    assert devices.seen == {"meta"}


def test_depth_in_quarters():
    vit = build_backbone("nano")
    assert quarters(vit) == [1, 2, 3, 4]
    vit.blocks = nn.Sequential(*[nn.Identity()] * 27)
    assert quarters(vit) == [7, 14, 21, 27], "blocks with which each quarter is reached"
    vit.blocks = vit.blocks[:3]
    with pytest.raises(InputError, match="depth of the backbone is 3 blocks; expected at least 4"):
        quarters(vit)


def test_the_page_on_backbones_names_all_of_them():
    rows = [line for line in (ROOT / "docs" / "backbones.md").read_text().splitlines() if line.startswith("| `")]
    for name, row in BACKBONES.items():
        (line,) = (text for text in rows if f"`{name}`" in text.split("|")[1])
        assert row.get("licence", "").removesuffix(", gated") in line and ("gated" in line) is (name in GATED)
        half = "mean" not in row
        assert ("0.5 / 0.5" in line) is half, "normalisation"
