"""HoVer-Net: parity with the official network, geometry of valid convolutions, its published first phase."""

import numpy as np
import pytest
import torch

from benchmark.data.nuclei import Nuclei
from benchmark.layers.hovernet_encoder import same_pad
from benchmark.methods import registry
from benchmark.methods.base import Phase
from benchmark.runtime.errors import InputError
from tests.support import parity
from tests.support.golden_weights import fill_state
from tests.support.shared import GOLDEN, shared

SIDES = {"fast": 256, "original": 270}
PARAMETERS = {
    ("fast", 5): 37_639_626,
    ("fast", 0): 33_625_412,
    ("original", 5): 54_744_522,
    ("original", 0): 45_028_676,
}


def official(mode: str, shapes: dict, classes: int = 5):
    """The method filled by rule from official keys and shapes, in eval mode."""
    method = registry.build(f"hovernet@{mode}", classes=classes, tissues=0)
    assert sum(p.numel() for p in method.parameters()) == PARAMETERS[mode, classes]
    state = {f"module.{k}": v for k, v in fill_state(shapes.items()).items()}
    assert "module.upsample2x.unpool_mat" in state
    method.load_state_dict(method.adapt({"desc": state}), strict=True)
    return method.eval()


def compare(method, mode: str, classes: int, stored, source: str) -> None:
    side = SIDES[mode]
    modules = {f"d{n}": stage for n, stage in enumerate(method.encoder.stages)}
    modules["conv_bot"] = method.encoder.bottleneck
    for name, branch in method.branches.items():
        modules |= {f"{name}_u3": branch.fit3, f"{name}_u2": branch.fit2, f"{name}_u1": branch.up1}
    heads = {name: name for name in (("tp", "np", "hv") if classes else ("np", "hv"))}
    with np.load(stored, allow_pickle=False) as golden:
        found = parity.forward(method, parity.golden_input(side, side), golden, heads, modules)
    types = "typed" if classes else "untyped"
    parity.check(f"hovernet@{mode}", f"{types} forward {side}x{side} {source}", found, stored)


@pytest.mark.parametrize("mode", SIDES)
def test_forward_equals_official_extract(mode):
    stored = GOLDEN / f"hovernet_{mode}.npz"
    with np.load(stored, allow_pickle=False) as data:
        method = official(mode, parity.shapes_of(data))
    compare(method, mode, 5, stored, "extract")


@pytest.mark.parity
@pytest.mark.parametrize("classes", [5, 0])
@pytest.mark.parametrize("mode", SIDES)
def test_forward_equals_official(mode, classes):
    name = f"hovernet_{mode}_nt{classes + 1 if classes else None}"
    stored = shared(f"golden/models/{name}_{SIDES[mode]}x{SIDES[mode]}.npz")
    method = official(mode, parity.shapes_of(parity.official_keys(name)), classes)
    compare(method, mode, classes, stored, "whole")


@pytest.mark.parity
@pytest.mark.parametrize("mode", SIDES)
def test_gradients_equal_official(mode):
    side, name = SIDES[mode], f"hovernet_{mode}_nt6"
    stored = shared(f"golden/models/{name}_{side}x{side}_backward.npz")
    method = official(mode, parity.shapes_of(parity.official_keys(name)))
    sum(v.square().mean() for v in method(parity.golden_input(side, side)).values()).backward()
    own = dict(method.named_parameters())
    with np.load(stored, allow_pickle=False) as golden:
        ours = {name: next(iter(method.adapt({name: 0}))) for name in golden["param_names"].tolist()}
    assert sorted(ours.values()) == sorted(own)
    # single ReLUs flip by rounding: against our own float64 gradients, where both agree on average to 3e-4, the
    # official float32 ones are off by up to 4.9e-3 and ours by up to 5.7e-3
    found = {name: own[key].grad for name, key in ours.items()}
    parity.check_gradients(f"hovernet@{mode}", f"typed backward {side}x{side}", found, stored, limit=1e-2, mean=5e-4)


@pytest.mark.parametrize(
    ("spec", "margin", "sides"),
    [
        ("hovernet@fast", 46, {164: 256, 1: 96, 128: 224}),
        ("hovernet@original", 95, {80: 270, 1: 198, 81: 278}),
        ("hovernet@small", 16, {128: 160, 256: 288}),
    ],
)
def test_sides(spec, margin, sides):
    with torch.device("meta"):
        method = registry.build(spec, classes=2, tissues=0)
    assert method.margin == margin and method.tile == (method.input_side(method.tile - 2 * margin))
    for side, expected in sides.items():
        assert method.input_side(side) == expected
        out = method(torch.empty(1, 3, expected, expected, device="meta"))
        assert {v.shape[-1] for v in out.values()} == {expected - 2 * margin} and expected - 2 * margin >= side
    with pytest.raises(ValueError, match="input_side"):
        method(torch.empty(1, 3, 257, 257, device="meta"))


def test_border_free_outputs_do_not_depend_on_where_the_tile_lies():
    """Branches see no padding, so moving the window by the encoder's stride moves the outputs with it."""
    method = registry.build("hovernet@original,width=0.125,encoder=resnet14,dense=2", classes=0, tissues=0).eval()
    whole = torch.rand(1, 3, 198 + 8, 198 + 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        a, b = method(whole[..., :198, :198])["np"], method(whole[..., 8:, 8:])["np"]
    # the encoder's own "same" padding at strides 2 to 8 reaches in from the rim: compare well inside
    rim = 40
    moved = a[..., 8 + rim : -rim, 8 + rim : -rim]
    torch.testing.assert_close(moved, b[..., rim : -rim - 8, rim : -rim - 8], rtol=1e-4, atol=1e-5)


def test_same_pad_is_asymmetric_at_stride_two():
    x = torch.ones(1, 1, 6, 7)
    padded = same_pad(x, 3, 2)
    assert padded.shape[-2:] == (7, 9)
    assert padded[0, 0, 0, 1] == 1 and padded[0, 0, -1, 1] == 0  # rows: nothing before, one after
    assert padded[0, 0, 0, 0] == 0 and padded[0, 0, 0, -1] == 0  # columns, odd: one on each side
    assert same_pad(x, 1, 2).shape == x.shape


def test_first_phase_trains_what_the_official_one_trains():
    keys = {"conv0./.weight", "conv0.bn.weight", "conv0.bn.bias", "d0.shortcut.weight"}
    keys |= {"d0.blk_bna.bn.weight", "d0.blk_bna.bn.bias", "conv_bot.weight"}
    method = registry.build("hovernet@debug", classes=3, tissues=0)
    assert method.phases(published=False) == [Phase(0.0, "full")]
    first, second = method.phases(published=True)
    assert (first.tune, second.tune, second.reset, second.start) == ("decoder", "full", True, 0.5)
    assert second.batch_scale * 16 == 4
    method.set_tune("decoder")
    mean = method.encoder.stages[2].out.running_mean.clone()
    side = method.input_side(32)
    out = method(torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)))
    sum(v.square().mean() for v in out.values()).backward()
    trained = {k for k, p in method.named_parameters() if p.grad is not None}
    assert {k for k in trained if k.startswith("encoder.")} == set(method.adapt(dict.fromkeys(keys, 0)))
    assert trained == {k for k, p in method.named_parameters() if p.requires_grad}
    assert not torch.equal(mean, method.encoder.stages[2].out.running_mean), "statistics follow, as published"
    method.set_tune("full")
    assert all(p.requires_grad for p in method.parameters())


def test_every_nucleus_has_distances_and_pieces_have_their_own():
    instances = np.zeros((40, 40), np.int32)
    instances[0:3, 0:5] = 1  # small and at the top left: the published rule would leave it 0
    instances[10:16, 10:16] = instances[25:31, 10:16] = 2  # one nucleus in two pieces
    targets = registry.method_class("hovernet").representation.targets(
        Nuclei(instances, np.array([1, 2], np.uint8), 0.25)
    )
    assert {k: (v.dtype, v.shape) for k, v in targets.items()} == {
        "np": (np.uint8, (40, 40)),
        "hv": (np.float32, (2, 40, 40)),
        "tp": (np.uint8, (40, 40)),
    }
    hv = targets["hv"]
    assert hv[0, 0, :5].min() < 0 < hv[0, 0, :5].max()
    np.testing.assert_array_equal(hv[:, 10:16, 10:16], hv[:, 25:31, 10:16])


def test_a_whole_network_in_place_of_an_encoder_fills_what_has_its_shape(tmp_path):
    """docs/folder.md: how to go on training HoVer-Net on other data."""
    donor = registry.build("hovernet@debug", classes=2, tissues=0)
    torch.save({"desc": donor.state_dict()}, tmp_path / "whole.tar")
    taker = registry.build("hovernet@debug", classes=3, tissues=0, weights=tmp_path / "whole.tar").state_dict()
    begun = [key for key, value in donor.state_dict().items() if not torch.equal(value, taker[key])]
    assert begun and all(key.startswith("branches.tp.head.") for key in begun)


def test_encoder_weights_from_a_file(tmp_path):
    donor = registry.build("hovernet@debug", classes=0, tissues=0)
    path = tmp_path / "encoder.tar"
    state = {k: v for k, v in donor.state_dict().items() if k.startswith("encoder.")}
    torch.save({"desc": state}, path)
    taker = registry.build("hovernet@debug", classes=2, tissues=0, weights=path)
    assert torch.equal(taker.encoder.bottleneck.weight, donor.encoder.bottleneck.weight)
    with pytest.raises(InputError, match="not the encoder"):
        registry.build("hovernet@small", classes=2, tissues=0, weights=path)
    state.pop("encoder.bottleneck.weight")  # a classifier has none
    torch.save({"desc": state}, path)
    taker = registry.build("hovernet@debug", classes=2, tissues=0, weights=path)
    assert torch.equal(taker.encoder.stem.weight, donor.encoder.stem.weight)
    assert not torch.equal(taker.encoder.bottleneck.weight, donor.encoder.bottleneck.weight)
    state.pop("encoder.stem.weight")
    torch.save({"desc": state}, path)
    with pytest.raises(InputError, match=r"not the encoder.*encoder\.stem\.weight"):
        registry.build("hovernet@debug", classes=2, tissues=0, weights=path)
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(InputError, match=r"expected a file of weights written by torch\.save"):
        registry.build("hovernet@debug", classes=2, tissues=0, weights=path)
    with pytest.raises(InputError, match="does not exist"):
        registry.build("hovernet@debug", classes=2, tissues=0, weights=tmp_path / "absent.tar")


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("mode=fats", "Did you mean 'fast'"),
        ("encoder=resnet5", "Did you mean 'resnet50'"),
        ("tune=decodr", "Did you mean 'decoder'"),
        ("width=0.3", "multiple of 8"),
        ("dense=3", "even number"),
        ("tile=100", "multiple of 8"),
    ],
)
def test_bad_arguments(argument, message):
    with pytest.raises(InputError, match=message):
        registry.build(f"hovernet@debug,{argument}", classes=2, tissues=0)
