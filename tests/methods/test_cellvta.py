"""CellVTA and CellViT: parity with the official model, what trains, and what the switches do."""

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.layers import adapter
from benchmark.layers.adapter import DWConv, reference_points
from benchmark.methods import registry
from benchmark.methods.cellvta import CellVTA, official_key
from benchmark.runtime.errors import InputError
from tests.support import parity
from tests.support.golden_weights import fill
from tests.support.shared import GOLDEN, shared

HEADS = {"tissue": "tissue_types", "np": "nuclei_binary_map", "hv": "hv_map", "tp": "nuclei_type_map"}
EXTRACT = GOLDEN / "cellvta_pannuke_256x256.npz"
with np.load(EXTRACT) as extract:
    OFFICIAL = parity.shapes_of(extract)


def paper(classes: int = 5, tissues: int = 19, **changes) -> CellVTA:
    """The published model without memory."""
    with torch.device("meta"):
        return CellVTA(classes, tissues, **(CellVTA.presets["paper"] | changes))


@pytest.fixture(scope="module")
def official() -> CellVTA:
    """The published model for PanNuke with the goldens' weights; filling it takes seconds."""
    return parity.fill(paper(), OFFICIAL)


def compare(method: CellVTA, case: str, size: str, stored, heads=HEADS) -> dict[str, float]:
    adapter = method.adapter
    modules = {f"spm_c{n}": getattr(adapter.spm, f"fc{n}") for n in range(1, 5)}
    modules |= {"tokens_after_pos_embed": method.vit.norm_pre}
    for n, exchange in enumerate(adapter.interactions):
        last = exchange.extra_extractors[-1] if exchange.extra_extractors else exchange.extractor
        modules |= {f"interaction{n}_injector_out": exchange.injector, f"interaction{n}_c": last}
    modules |= {f"encoder_f{n}": getattr(adapter, f"norm{n}") for n in range(1, 5)}
    modules |= {f"decoder{n}": getattr(method.decoder, f"skip{n}") for n in range(4)}
    with np.load(stored) as golden:
        found = parity.forward(method, parity.golden_input(*map(int, size.split("x"))), golden, heads, modules)
    return parity.check("cellvta", case, found, stored)


def test_published_model_has_the_published_keys_and_sizes():
    method = paper()
    ours = {official_key(k): tuple(v.shape) for k, v in method.state_dict().items()}
    assert ours == OFFICIAL
    trainable = [p for p in method.parameters() if p.requires_grad]
    frozen = [p for p in method.parameters() if not p.requires_grad]
    assert (len(trainable), len(frozen)) == (405, 340)
    assert sum(p.numel() for p in trainable) == 84_420_701
    assert sum(p.numel() for p in method.parameters()) == 387_769_437
    conic = paper(6, 1)
    assert sum(p.numel() for p in conic.parameters()) == 387_751_052
    assert sum(p.numel() for p in conic.parameters() if p.requires_grad) == 84_402_316
    method.set_tune("full")
    assert all(p.requires_grad for p in method.parameters())


def test_attributes_that_outputs_do_not_show():
    method = paper()
    assert {m.eps for m in method.modules() if isinstance(m, nn.LayerNorm)} == {1e-6}
    assert {m.eps for m in method.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-5}
    rates = [b.drop_path1.drop_prob for b in list(method.vit.blocks)[1:]]
    np.testing.assert_allclose(rates, np.linspace(0, 0.4, 24)[1:], atol=1e-6)
    extractors = [i.extractor for i in method.adapter.interactions]
    extractors += method.adapter.interactions[-1].extra_extractors
    assert [e.drop_path.drop_prob for e in extractors] == [0.4] * 6
    assert (method.losses.double_softmax, method.losses.cross_msge, method.adapter.cls_in_vit) == (True, True, False)


def test_forward_equals_official_extract(official):
    worst = compare(official, "PanNuke forward 256x256 extract", "256x256", EXTRACT)
    assert worst["tissue_types"] < 2e-5, "LayerNorm's eps shows only here"


@pytest.mark.parity
@pytest.mark.parametrize("size", ["256x256", "224x224", "224x320"])
def test_forward_equals_official(official, size):
    stored = shared(f"golden/models/cellvta_pannuke_{size}.npz")
    worst = compare(official, f"PanNuke forward {size} whole", size, stored)
    assert worst["head/tissue_types"] < 2e-5, "LayerNorm's eps shows only here"


@pytest.mark.parity
def test_backward_equals_official(official):
    stored = shared("golden/models/cellvta_pannuke_256x256_backward.npz")
    sum(v.square().mean() for v in official(parity.golden_input(256, 256)).values()).backward()
    found = {official_key(k): p.grad for k, p in official.named_parameters()}
    parity.check_gradients("cellvta", "PanNuke backward 256x256", found, stored)
    official.zero_grad(set_to_none=True)


@pytest.mark.parity
def test_forward_equals_official_on_conic():
    stored = shared("golden/models/cellvta_conic_256x256.npz")
    method = parity.fill(paper(6, 1), parity.shapes_of(parity.official_keys("cellvta_conic")))
    # a single tissue logit has no spread to be measured against
    spread = {ours: name for ours, name in HEADS.items() if ours != "tissue"}
    compare(method, "CoNIC forward 256x256 whole", "256x256", stored, spread)
    with torch.no_grad(), np.load(stored) as golden:
        tissue = method(parity.golden_input(64, 64))["tissue"]  # the head is blind: the same for every image
        assert abs(tissue.item() - golden["head/tissue_types/values"].item()) < 1e-4


def test_initialisation_is_the_published_one():
    torch.manual_seed(0)
    published = registry.build("cellvta@debug,offset_grid=false", 5, 3).adapter
    attention = published.interactions[0].injector.attn
    assert (published.interactions[0].injector.gamma == 1e-5).all()
    assert (attention.sampling_offsets.bias == 0).all() and (attention.attention_weights.bias == 0).all()
    for layer in (
        attention.sampling_offsets,
        attention.value_proj,
        published.interactions[1].extractor.ffn.fc1,
    ):
        assert 0.01 < layer.weight.std() < 0.03 and layer.weight.abs().max() < 0.2
    assert 0.7 < published.level_embed.std() < 1.3
    directed = registry.build("cellvta@debug", 5, 3).adapter.interactions[0].injector.attn
    assert (directed.sampling_offsets.bias != 0).any()


def test_tissue_head_is_blind_as_published_and_sees_where_the_switch_says():
    for text, blind in (("cellvta@debug,cls_in_vit=false", True), ("cellvta@debug", False)):
        method = registry.build(text, 5, 3).eval()
        with torch.no_grad():
            a, b = (method(torch.rand(1, 3, 64, 64))["tissue"] for _ in range(2))
        assert torch.equal(a, b) is blind, text


VARIANTS = """
interactions=1 interactions=2 points=4 heads=4 deform_ratio=1.0 extra_extractors=0 tune=adapter+full
injector=false extractor=false vit_features=false cls_in_vit=false
"""


@pytest.mark.parametrize("change", VARIANTS.split())
def test_variants_train(change):
    method = registry.build(f"cellvta@debug,{change}", 5, 3).train()
    sum(v.square().mean() for v in method(torch.rand(2, 3, 64, 64)).values()).backward()
    for name, parameter in method.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("cellvta@debug,interactions=3", "divide the depth"),
        ("cellvta@debug,heads=5", "multiple of heads"),
        ("cellvta@debug,tune=decoder", "method decoder_only"),
        ("cellvit@debug,tune=adapter", "no tune 'adapter'"),
        ("cellvit@debug,backbone=vit_tiny", "Unknown backbone"),
    ],
)
def test_refuses(text, match):
    with pytest.raises(InputError, match=match):
        registry.build(text, 5, 3)


def test_units_of_the_adapter():
    units = np.load(shared("golden/models/units.npz"))
    grids = [tuple(s) for s in units["deform_inputs_224x320/inj_shapes"].tolist()]
    np.testing.assert_allclose(reference_points(grids[-1:]), units["deform_inputs_224x320/inj_ref_points"], atol=1e-7)
    np.testing.assert_allclose(
        reference_points(grids)[0, ::37, 0], units["deform_inputs_224x320/ext_ref_points_stride37"], atol=1e-7
    )
    layer = DWConv(6)
    layer.dwconv.weight.data = torch.tensor(units["dwconv/w"])
    layer.dwconv.bias.data = torch.tensor(units["dwconv/b"])
    tokens = torch.tensor(units["dwconv/x"])
    out = layer(tokens, [(8, 12), (4, 6), (2, 3)]).detach()
    np.testing.assert_allclose(out, units["dwconv/y"], atol=1e-5)


def test_arms_differ_only_in_what_trains():
    built = {}
    for name in ("decoder_only", "full_finetune", "cellvit"):
        torch.manual_seed(0)
        built[name] = registry.build(f"{name}@debug", 5, 3)
    states = [m.state_dict() for m in built.values()]
    assert all(torch.equal(s[k], states[0][k]) for s in states for k in states[0])
    assert not any(p.requires_grad for p in built["decoder_only"].vit.parameters())
    assert all(p.requires_grad for p in built["full_finetune"].parameters())
    assert [(p.start, p.tune) for p in built["cellvit"].phases(True)] == [
        (0.0, "decoder"),
        (25 / 130, "full"),
    ]
    for name, tune in (("decoder_only", "decoder"), ("full_finetune", "full")):
        assert [(p.start, p.tune) for p in built[name].phases(False)] == [(0.0, tune)]


def test_golden_rule_fills_by_key():
    assert not torch.equal(fill("a.weight", (4, 4)), fill("b.weight", (4, 4)))


@pytest.mark.parametrize("name", ["cellvta", "cellvit", "decoder_only", "full_finetune"])
def test_matched_rows_have_no_quirk(name):
    for row in ("matched", "small", "debug"):
        arguments = registry.parse(f"{name}@{row}").arguments
        assert not (arguments["double_softmax"] or arguments["cross_msge"] or arguments["drop_path"])
        assert arguments.get("cls_in_vit", True) and arguments.get("offset_grid", True)


@pytest.mark.parametrize(("name", "length"), [("cellvta", (100, 8)), ("cellvit", (130, 16))])
def test_published_recipes(name, length):
    recipe = registry.method_class(name).published["paper"]
    assert (recipe["epochs"], recipe["batch"]) == length
    assert recipe["schedule"]["gamma"] == 0.95, "the decay that really ran"
    assert recipe["optimiser"]["lr"] == 3e-4 and recipe["optimiser"]["betas"] == (0.85, 0.95)


@pytest.mark.parametrize(("preset", "wide"), [("debug", False), ("small", False), ("small", True)])
def test_only_wide_maps_are_laid_out_anew_before_they_grow(preset, wide, monkeypatch):
    """The bits of the small scales stay; those of `paper` differ by rounding."""
    torch.manual_seed(0)
    side = {"debug": 64, "small": 128}[preset]  # at which positions are not resampled
    method, images = registry.build(f"cellvta@{preset}", 3, 2).eval(), torch.rand(1, 3, side, side)
    contiguous, grow = [], adapter.F.interpolate

    def seen(maps, **options):
        contiguous.append(maps.is_contiguous())
        return grow(maps, **options)

    monkeypatch.setattr(adapter.F, "interpolate", seen)
    width = method.vit.embed_dim
    assert width < adapter.WIDE <= 1024
    with torch.no_grad():
        monkeypatch.setattr(adapter, "WIDE", 10**9)
        before = method(images)
        monkeypatch.undo()
        monkeypatch.setattr(adapter.F, "interpolate", seen)
        if wide:
            monkeypatch.setattr(adapter, "WIDE", width)
        after = method(images)
    assert contiguous == [False] * 3 + [wide, False, False]
    for name, values in before.items():
        assert torch.equal(values, after[name]) or (wide and torch.allclose(values, after[name], atol=1e-5))
