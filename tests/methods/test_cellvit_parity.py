"""CellViT with its published encoders against the official models: keys, sizes, outputs, intermediates, gradients."""

import numpy as np
import pytest
import torch

from benchmark.methods import registry
from benchmark.methods.cellvit import CellViT, official_key
from tests.support import parity
from tests.support.shared import GOLDEN, shared

HEADS = {"tissue": "tissue_types", "np": "nuclei_binary_map", "hv": "hv_map", "tp": "nuclei_type_map"}
OFFICIAL = {"vit256": "cellvit256", "sam_b": "cellvit_sam_b", "sam_l": "cellvit_sam_l", "sam_h": "cellvit_sam_h"}
# parameters, and those that train while the encoder is frozen
COUNTS = {
    "vit256": (46_750_349, 25_084_685),
    "sam_b": (146_094_557, 56_423_645),
    "sam_l": (367_847_645, 59_569_373),
    "sam_h": (699_741_149, 62_715_101),
}
EXTRACTS = {row: GOLDEN / f"{OFFICIAL[row]}_256x256.npz" for row in ("vit256", "sam_b")}


def paper(row: str, **changes) -> CellViT:
    """A published model without memory."""
    with torch.device("meta"):
        return CellViT.from_arguments(5, 19, **(CellViT.presets[row] | changes))


def compare(row: str, size: str, stored, method: CellViT, source: str) -> None:
    modules = {"patch_embed": method.vit.patch_embed, "block0_in": method.vit.norm_pre}
    modules |= {"block0_out": method.vit.blocks[0]}
    modules |= {f"encoder_z{n}": method.vit.blocks[tap - 1] for n, tap in enumerate(method.taps, 1)}
    modules |= {f"decoder{n}": getattr(method.decoder, f"skip{n}") for n in range(4)}
    if method.is_sam:
        modules["encoder_out1"] = method.vit.neck
    with np.load(stored) as golden:
        found = parity.forward(method, parity.golden_input(*map(int, size.split("x"))), golden, HEADS, modules)
    worst = parity.check(f"cellvit@{row}", f"forward {size} {source}", found, stored)
    tissue = next(value for name, value in worst.items() if name.endswith("tissue_types"))
    assert tissue < 2e-5, "LayerNorm's eps shows only here"


@pytest.mark.parametrize("row", OFFICIAL)
def test_published_model_has_the_published_sizes(row):
    method = paper(row)
    parameters = list(method.parameters())
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    assert (sum(p.numel() for p in parameters), trainable) == COUNTS[row]
    if row in EXTRACTS:
        with np.load(EXTRACTS[row]) as extract:
            expected = parity.shapes_of(extract)
    else:
        expected = parity.shapes_of(parity.official_keys(OFFICIAL[row]))
    ours = {official_key(k, method.is_sam): tuple(v.shape) for k, v in method.state_dict().items()}
    assert ours == expected
    assert list(method.adapt(dict.fromkeys(expected))) == list(method.state_dict())


@pytest.mark.parametrize("row", OFFICIAL)
def test_what_trains_while_the_encoder_is_frozen(row):
    method = paper(row)
    keys = parity.official_keys(OFFICIAL[row])
    by_module = {True: {}, False: {}}
    for name, parameter in method.named_parameters():
        words = official_key(name, method.is_sam).split(".")
        module = ".".join(words[:2]) if words[0] == "encoder" else words[0]
        counts = by_module[parameter.requires_grad]
        counts[module] = counts.get(module, 0) + parameter.numel()
    assert by_module == {True: keys["trainable_by_module"], False: keys["frozen_by_module"]}
    method.set_tune("full")
    assert all(p.requires_grad for p in method.parameters())


@pytest.mark.parametrize("row", EXTRACTS)
def test_forward_equals_official_extract(row):
    with np.load(EXTRACTS[row]) as extract:
        method = parity.fill(paper(row), parity.shapes_of(extract))
    compare(row, "256x256", EXTRACTS[row], method, "extract")


@pytest.mark.parity
@pytest.mark.parametrize(
    ("row", "size"), [("vit256", "256x256"), ("vit256", "224x320")] + [(f"sam_{k}", "256x256") for k in "blh"]
)
def test_forward_equals_official(row, size):
    stored = shared(f"golden/models/{OFFICIAL[row]}_{size}.npz")
    method = parity.fill(paper(row), parity.shapes_of(parity.official_keys(OFFICIAL[row])))
    compare(row, size, stored, method, "whole")


@pytest.mark.parity
def test_gradients_equal_official():
    stored = shared("golden/models/cellvit256_256x256_backward.npz")
    method = parity.fill(paper("vit256"), parity.shapes_of(parity.official_keys("cellvit256")))
    sum(v.square().mean() for v in method(parity.golden_input(256, 256)).values()).backward()
    found = {official_key(k, False): p.grad for k, p in method.named_parameters()}
    parity.check_gradients("cellvit@vit256", "backward 256x256", found, stored)


def test_units_of_the_encoders():
    """HIPT's positions on three grids, SAM's relative positions at three sizes."""
    from timm.models.vision_transformer_sam import get_rel_pos

    from benchmark.layers.hipt import resample

    units = np.load(shared("golden/models/units.npz"))
    positions = torch.tensor(units["timm_pos_embed/in"])
    for size in ("256x256", "224x320", "224x224"):
        grid = tuple(int(n) // 16 for n in size.split("x"))
        out = resample(positions, (14, 14), grid)
        np.testing.assert_allclose(out, units[f"hipt_pos_embed/out_{size}"], atol=2e-6)
    for size, stride in ((16, 3), (14, 3), (64, 3)):
        out = get_rel_pos(size, size, torch.tensor(units["sam_rel_pos/in"]))
        expected = units[f"sam_rel_pos/out_q{size}"]
        np.testing.assert_allclose(out[:, ::stride], expected, atol=1e-6)


def test_official_input_is_ours():
    """The goldens' image as the official model was fed with it: mean and standard deviation 0.5."""
    method = registry.build("cellvit@debug", 5, 3)
    with np.load(shared("golden/models/cellvit256_256x256.npz")) as golden:
        first = method.normalise(parity.golden_input(256, 256)).ravel()[:16]
        np.testing.assert_allclose(first, golden["input/first16"], atol=1e-7)
