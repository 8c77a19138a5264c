"""What every registered method must do. A method added as a new file is tested here without being named."""

import inspect
import pickle
import pkgutil
import time

import numpy as np
import pytest
import torch
from mmengine.registry import Registry

import benchmark.methods
from benchmark.methods import registry
from benchmark.methods.base import Method
from benchmark.runtime import plugins
from benchmark.runtime.errors import InputError
from tests.support.scenes import batch_of, crowd, disks, panoptic_quality

NAMES = registry.method_names()
TRAINED = [n for n in NAMES if registry.method_class(n).trainable]
CLASSES, TISSUES, SIDE = 5, 3, 64
every = pytest.mark.parametrize("name", NAMES)
trained = pytest.mark.parametrize("name", TRAINED)


def build(name: str, classes: int = CLASSES, tissues: int = TISSUES, seed: int = 0) -> Method:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return registry.build(f"{name}@debug", classes, tissues)


def images(n: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(n))


def train_batch(method: Method, n: int = 2, nuclei: bool = True) -> tuple[torch.Tensor, dict]:
    """Images of input_side(SIDE) and the batch of targets for their central SIDE × SIDE."""
    scenes = [disks(SIDE, diameter=18, gap=6, shift=3 * k, empty=not nuclei) for k in range(n)]
    return batch_of(type(method), scenes, method.input_side(SIDE), TISSUES)


def total(method: Method, inputs: torch.Tensor, batch: dict) -> torch.Tensor:
    return sum(method.loss(method(inputs), batch).values())


def test_every_file_registers_a_method():
    files = {m.name for m in pkgutil.iter_modules(benchmark.methods.__path__)} - {"base", "registry"}
    classes = [registry.method_class(n) for n in NAMES]
    assert files == {c.__module__.rpartition(".")[2] for c in classes}


@every
def test_declares_itself(name):
    cls = registry.method_class(name)
    assert {"debug", "small", "paper"} <= set(cls.presets)
    arguments = cls.arguments()
    assert inspect.Parameter.empty not in arguments.values(), "every argument has a default"
    for row, values in cls.presets.items():
        assert set(values) <= set(arguments), row
        known, reason = cls.supports(arguments | values | {"weights": None})
        assert known or reason
    assert set(cls.published) <= set(cls.presets)
    assert cls.reference and cls.licence
    for function in (cls.targets, cls.decode):
        assert pickle.loads(pickle.dumps(function)), "runs in worker processes"


@every
def test_builds_quickly(name):
    begun = time.process_time()
    build(name)
    assert time.process_time() - begun < 4


@trained
@pytest.mark.parametrize("n", [1, 3])
def test_forward_shapes(name, n):
    method = build(name)
    side = method.input_side(SIDE)
    out = method(images(n, side, side))
    covered = side - 2 * method.margin
    assert covered >= SIDE
    assert {"np", "hv", "tp"} <= set(out)
    for key, channels in (("np", 2), ("hv", 2), ("tp", CLASSES + 1)):
        assert out[key].shape == (n, channels, covered, covered), key
    assert "tissue" not in out or out["tissue"].shape == (n, TISSUES)


@every
@pytest.mark.parametrize("tiled", [False, True], ids=["whole", "tiled"])
@pytest.mark.parametrize(("height", "width"), [(256, 256), (250, 300), (33, 50)])
def test_predict_covers_every_pixel(name, height, width, tiled):
    method = build(name).eval()
    if tiled:
        method.tile = method.input_side(100)
    with torch.no_grad():
        out = method.predict(images(1, height, width))
    maps = {k: v for k, v in out.items() if v.ndim == 4}
    assert maps and all(v.shape[-2:] == (height, width) for v in maps.values())
    assert all(torch.isfinite(v).all() for v in out.values())
    decoded = registry.method_class(name).decode({k: v[0].numpy() for k, v in out.items()}, 0.25)
    assert decoded.instances.shape == (height, width) and decoded.instances.max(initial=0) == len(decoded)


@trained
def test_prediction_of_an_image_does_not_depend_on_its_batch(name):
    method = build(name).eval()
    batch = images(3, SIDE, SIDE)
    with torch.no_grad():
        together, alone = method.predict(batch), method.predict(batch[1:2])
    for key, value in together.items():
        torch.testing.assert_close(value[1:2], alone[key], rtol=1e-3, atol=1e-4)


def tunes(name: str) -> list[str]:
    method = build(name)
    return sorted({p.tune for published in (False, True) for p in method.phases(published)})


@pytest.mark.parametrize(("name", "tune"), [(n, t) for n in TRAINED for t in tunes(n)])
def test_gradient_reaches_what_is_trainable_and_nothing_else(name, tune):
    method = build(name).train()
    method.set_tune(tune)
    loss = total(method, *train_batch(method))
    assert torch.isfinite(loss)
    loss.backward()
    trainable = {k for k, p in method.named_parameters() if p.requires_grad}
    reached = {k: p.grad for k, p in method.named_parameters() if p.grad is not None}
    assert trainable == set(reached), sorted(trainable ^ set(reached))[:8]
    assert all(torch.isfinite(g).all() for g in reached.values())
    assert np.mean([bool(g.abs().max() > 0) for g in reached.values()]) > 0.9
    handed = {id(p) for group in method.groups(1e-3, 1e-4) for p in group["params"]}
    assert handed == {id(p) for p in method.parameters()}


@trained
def test_learns_one_batch(name):
    method = build(name).train()
    inputs, batch = train_batch(method)
    optimiser = torch.optim.AdamW(method.groups(2e-3, 0.0))
    curve = []
    for _ in range(16):
        loss = total(method, inputs, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        curve.append(loss.item())
    told = f"16 steps at 2e-3 on one batch lower {name}@debug's loss from {curve[0]:.3g} to {curve[-1]:.3g} only"
    assert np.mean(curve[-3:]) < 0.85 * np.mean(curve[:2]), f"{told}; does each head get a gradient, is it wide enough?"


@trained
@pytest.mark.parametrize("classes", [CLASSES, 0])
def test_without_nuclei(name, classes):
    method = build(name, classes=classes).train()
    loss = total(method, *train_batch(method, nuclei=False))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)
    cls = type(method)
    assert len(cls.decode(cls.ideal(cls.targets(disks(SIDE, 18, 6, empty=True)), classes), 0.25)) == 0


@trained
def test_without_types(name):
    method = build(name, classes=0, tissues=0).train()
    inputs, batch = train_batch(method)
    out = method(inputs)
    assert not {"tp", "tissue"} & set(out)
    terms = method.loss(out, batch)
    assert terms and not [k for k in terms if k.startswith(("tp", "tissue"))]
    cls = type(method)
    decoded = cls.decode(cls.ideal(cls.targets(disks(SIDE, 18, 6)), 0), 0.25)
    assert len(decoded) and not decoded.types.any()


@trained
def test_untyped_images_take_no_part_in_type_losses(name):
    method = build(name).eval()
    inputs, batch = train_batch(method, n=3)
    with torch.no_grad():
        out = method(inputs)
    other = batch | {"tp": batch["tp"].clone()}
    other["tp"][1] = (other["tp"][1] + 1) % (CLASSES + 1)
    for typed, same in (([True, False, True], True), ([True, True, True], False)):
        mask = {"typed": torch.tensor(typed)}
        a, b = (sum(method.loss(out, x | mask).values()).item() for x in (batch, other))
        assert (a == b) is same
    unknown = {"typed": torch.zeros(3, dtype=torch.bool), "tissue": torch.full((3,), -1)}
    terms = method.loss(out, batch | unknown)
    assert all(v == 0 for k, v in terms.items() if k.startswith(("tp", "tissue")))


@trained
def test_bfloat16_agrees_loosely(name):
    method = build(name).eval()
    inputs = images(2, method.input_side(SIDE), method.input_side(SIDE))
    with torch.no_grad():
        exact = method(inputs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = method(inputs)
            loss = method.loss(rough, train_batch(method)[1])
    for key, value in exact.items():
        error = (rough[key].float() - value).abs().mean() / value.std().clamp(min=1e-3)
        assert error < 0.1, key
    assert all(torch.isfinite(v) and v.dtype == torch.float32 for v in loss.values())


@trained
def test_state_dict_carries_everything(name):
    first, second = build(name, seed=0).eval(), build(name, seed=1).eval()
    inputs = images(1, SIDE, SIDE)
    with torch.no_grad():
        want = first.predict(inputs)
        assert any(not torch.equal(v, second.predict(inputs)[k]) for k, v in want.items())
        second.load_state_dict(first.state_dict(), strict=True)
        got = second.predict(inputs)
    assert all(torch.equal(want[k], got[k]) for k in want)


@trained
@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_perfect_maps_decode_to_the_truth(name, mpp):
    """Separated nuclei of more than 12 µm."""
    truth = disks(round(64 / mpp), diameter=13 / mpp, gap=4, mpp=mpp)
    assert len(truth) >= 9
    cls = registry.method_class(name)
    decoded = cls.decode(cls.ideal(cls.targets(truth), CLASSES), mpp)
    assert panoptic_quality(truth, decoded) > 0.95
    assert sorted(decoded.types) == sorted(truth.types)


@trained
def test_ceiling_on_small_and_crowded_nuclei(name, record_property):
    """What decoding alone loses, measured; the bounds are what holds for every method here."""
    cls = registry.method_class(name)

    def ceiling(truth):
        return panoptic_quality(truth, cls.decode(cls.ideal(cls.targets(truth), CLASSES), 0.25))

    found = {f"separated {d} µm": ceiling(disks(256, diameter=4 * d, gap=4)) for d in (2, 3, 4, 6, 9)}
    found |= {f"touching {d} µm": ceiling(crowd(256, diameter=4 * d)) for d in (4, 6, 9)}
    for key, value in found.items():
        record_property(key, round(value, 3))
        print(f"{name}: {key}: PQ {value:.3f}")
    assert all(0 <= v <= 1 for v in found.values())
    assert found["separated 9 µm"] > 0.9


@every
def test_names_are_canonical(name):
    assert str(registry.parse(f"{name}@debug")) == f"{name}@debug"
    assert str(registry.parse(name, preset="debug")) == f"{name}@debug"
    cls = registry.method_class(name)
    own = cls.arguments() | cls.presets["debug"]
    for key, value in own.items():
        if isinstance(value, bool | int | float | str) and "," not in str(value) and key not in cls.fixed:
            text = str(value).lower() if isinstance(value, bool) else value
            assert str(registry.parse(f"{name}@debug,{key}={text}")) == f"{name}@debug", "its own value is no override"
    changed = [f"{k}={not v}" for k, v in own.items() if isinstance(v, bool)]
    if len(changed) > 1:
        there, back = (str(registry.parse(",".join([f"{name}@debug", *words]))) for words in (changed, changed[::-1]))
        assert there == back != f"{name}@debug"


@every
def test_misspelt_names_are_refused_with_a_hint(name):
    with pytest.raises(InputError, match=f"Did you mean '{name}'"):
        registry.parse(f"{name}x@debug")
    with pytest.raises(InputError, match="Did you mean 'debug'"):
        registry.parse(f"{name}@debgu")
    with pytest.raises(InputError, match="has no argument 'no_such_thing'"):
        registry.parse(f"{name}@debug,no_such_thing=1")
    for argument in registry.method_class(name).arguments():
        with pytest.raises(InputError, match=f"Did you mean '{argument}'"):
            registry.parse(f"{name}@debug,{argument}x=1")
    with pytest.raises(InputError, match="no value"):
        registry.parse(f"{name}@debug,word")


def test_a_broken_file_is_reported_as_itself_each_time(tmp_path, monkeypatch):
    source = "from benchmark.methods.registry import METHODS\n@METHODS.register_module()\nclass Half: pass\n"
    source += "import nowhere"
    (tmp_path / "broken_method.py").write_text(source)
    (tmp_path / "few_methods.py").write_text(f"__path__ = [{str(tmp_path)!r}]")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "METHODS", Registry("test"))
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="nowhere"):
            plugins.import_all("few_methods")
