"""What every registered method must do. A method added as a new file is tested here without being named."""

import inspect
import pickle
import pkgutil

import pytest
import torch
from mmengine.registry import Registry

import benchmark.methods
from benchmark.methods import registry
from benchmark.runtime import plugins
from benchmark.runtime.errors import InputError
from tests.support import method_checks as checks
from tests.support.scenes import crowd, disks, panoptic_quality

NAMES = registry.method_names()
TRAINED = [n for n in NAMES if registry.method_class(n).trainable]
every = pytest.mark.parametrize("name", NAMES)
trained = pytest.mark.parametrize("name", TRAINED)


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
    way = cls.representation_of(arguments)
    assert pickle.loads(pickle.dumps(way)).channels() == way.channels(), "runs in worker processes"


@every
def test_builds_quickly(name):
    checks.builds_quickly(f"{name}@debug")


@trained
@pytest.mark.parametrize("n", [1, 3])
def test_forward_shapes(name, n):
    checks.forward_shapes(f"{name}@debug", n)


@every
@pytest.mark.parametrize("tiled", [False, True], ids=["whole", "tiled"])
@pytest.mark.parametrize(("height", "width"), [(256, 256), (250, 300), (33, 50)])
def test_predict_covers_every_pixel(name, height, width, tiled):
    checks.predict_covers_every_pixel(f"{name}@debug", height, width, tiled)


@trained
def test_prediction_of_an_image_does_not_depend_on_its_batch(name):
    checks.prediction_of_an_image_does_not_depend_on_its_batch(f"{name}@debug")


def representation(name: str):
    cls = registry.method_class(name)
    return cls.representation_of(cls.arguments())


def tunes(name: str) -> list[str]:
    method = checks.build(f"{name}@debug")
    return sorted({p.tune for published in (False, True) for p in method.phases(published)})


@pytest.mark.parametrize(("name", "tune"), [(n, t) for n in TRAINED for t in tunes(n)])
def test_gradient_reaches_what_is_trainable_and_nothing_else(name, tune):
    checks.gradient_reaches_what_is_trainable_and_nothing_else(f"{name}@debug", tune)


@trained
def test_learns_one_batch(name):
    checks.learns_one_batch(f"{name}@debug")


@trained
@pytest.mark.parametrize("classes", [checks.CLASSES, 0])
def test_without_nuclei(name, classes):
    checks.without_nuclei(f"{name}@debug", classes)


@trained
def test_without_types(name):
    checks.without_types(f"{name}@debug")


@trained
def test_untyped_images_take_no_part_in_type_losses(name):
    method = checks.build(f"{name}@debug").eval()
    inputs, batch = checks.train_batch(method, n=3)
    with torch.no_grad():
        out = method(inputs)
    other = batch | {"tp": batch["tp"].clone()}
    other["tp"][1] = (other["tp"][1] + 1) % (checks.CLASSES + 1)
    for typed, same in (([True, False, True], True), ([True, True, True], False)):
        mask = {"typed": torch.tensor(typed)}
        a, b = (sum(method.loss(out, x | mask).values()).item() for x in (batch, other))
        assert (a == b) is same
    unknown = {"typed": torch.zeros(3, dtype=torch.bool), "tissue": torch.full((3,), -1)}
    terms = method.loss(out, batch | unknown)
    assert all(v == 0 for k, v in terms.items() if k.startswith(("tp", "tissue")))


@trained
def test_bfloat16_agrees_loosely(name):
    checks.bfloat16_agrees_loosely(f"{name}@debug")


@trained
def test_state_dict_carries_everything(name):
    checks.state_dict_carries_everything(f"{name}@debug")


@trained
@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_perfect_maps_decode_to_the_truth(name, mpp):
    """Separated nuclei of more than 12 µm."""
    truth = disks(round(64 / mpp), diameter=13 / mpp, gap=4, mpp=mpp)
    assert len(truth) >= 9
    decoded = checks.perfect(representation(name), truth)
    assert panoptic_quality(truth, decoded) > 0.95
    assert sorted(decoded.types) == sorted(truth.types)


@trained
def test_ceiling_on_small_and_crowded_nuclei(name, record_property):
    """What decoding alone loses, measured; the bounds are what holds for every method here."""

    def ceiling(truth):
        return panoptic_quality(truth, checks.perfect(representation(name), truth))

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
