"""Arguments of methods by name: configs of several arguments, and arguments added after results were stored."""

from dataclasses import dataclass, fields, is_dataclass

import pytest
from torch import nn

from benchmark.experiment.cell import Cell
from benchmark.experiment.setup import Setup
from benchmark.layers.adapter import AdapterConfig
from benchmark.methods import registry
from benchmark.methods.base import Method
from benchmark.runtime.errors import InputError


@dataclass(frozen=True)
class Inner:
    """Two arguments that travel together."""

    depth: int = 2
    smooth: bool = False


@dataclass(frozen=True)
class GrownInner(Inner):
    """The same, grown by one."""

    ratio: float = 0.5


class Probe(Method):
    """A method as it was when its first results were stored."""

    presets = {"debug": {}, "small": {"depth": 3}, "paper": {"smooth": True}}

    def __init__(self, classes, tissues, *, width: float = 1.0, inner: Inner = Inner(), weights=None):
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.settings = (classes, tissues, width, inner, weights)


class Grown(Probe):
    """The same method with an argument of its own and one in its config more."""

    neutral = {"bias": True, "ratio": 0.5}

    def __init__(self, classes, tissues, *, width=1.0, inner: Inner = GrownInner(), bias: bool = True, weights=None):
        super().__init__(classes, tissues, width=width, inner=inner, weights=weights)
        self.bias = bias


@pytest.fixture
def register(monkeypatch):
    """Put a class in place of the method called "probe"."""
    registry.method_names()  # the real ones are imported first
    return lambda cls: monkeypatch.setitem(registry.METHODS.module_dict, "probe", cls)


def identity(tmp_path, name: str) -> dict:
    setup = Setup("synthetic@patches=6", None, "debug", "main", tmp_path, tmp_path)
    cell = Cell(setup, registry.parse(name, "debug"), 1, 0)
    return {"key": cell.key, "folder": cell.folder, "parts": cell.identity}


def test_fields_of_a_config_are_arguments_by_name(register):
    register(Probe)
    assert Probe.arguments() == {"width": 1.0, "depth": 2, "smooth": False}
    spec = registry.parse("probe@small,smooth=true")
    assert str(spec) == "probe@small,smooth=true"
    assert spec.arguments == {"width": 1.0, "depth": 3, "smooth": True}
    assert registry.build(spec, 5, 3, weights="x").settings == (5, 3, 1.0, Inner(3, True), "x")
    assert Probe.from_arguments(5, 3, depth=7).settings == (5, 3, 1.0, Inner(7), None)
    with pytest.raises(InputError, match="Did you mean 'depth'"):
        registry.parse("probe@debug,dept=3")
    with pytest.raises(TypeError, match="dept"):
        Probe.from_arguments(5, 3, dept=3)


def test_an_argument_at_its_neutral_value_is_no_part_of_the_identity(register, tmp_path):
    names = ("probe@debug", "probe@small", "probe@paper", "probe@debug,depth=4,width=0.5")
    register(Probe)
    before = [identity(tmp_path, name) for name in names]
    register(Grown)
    assert {"bias", "ratio"} <= set(Grown.arguments())
    assert [identity(tmp_path, name) for name in names] == before
    for name in ("probe@debug,bias=true", "probe@debug,ratio=0.5"):
        assert identity(tmp_path, name) == before[0], "the neutral value, spelt out"


@pytest.mark.parametrize(("word", "entry"), [("bias=false", {"bias": False}), ("ratio=0.25", {"ratio": 0.25})])
def test_any_other_value_of_it_is_another_result(register, tmp_path, word, entry):
    register(Grown)
    plain, other = (identity(tmp_path, name) for name in ("probe@debug", f"probe@debug,{word}"))
    assert other["key"] != plain["key"] and other["folder"] != plain["folder"]
    assert other["parts"]["arguments"] == plain["parts"]["arguments"] | entry


def test_a_row_with_another_value_is_another_result(register, tmp_path, monkeypatch):
    register(Probe)
    before = identity(tmp_path, "probe@debug")
    monkeypatch.setattr(Grown, "presets", Probe.presets | {"debug": {"bias": False}})
    register(Grown)
    after = identity(tmp_path, "probe@debug")
    assert after["folder"] == before["folder"] and after["key"] != before["key"]


@pytest.mark.parametrize("name", registry.method_names())
def test_declarations_fit_the_arguments(name):
    cls = registry.method_class(name)
    assert set(cls.neutral) <= set(cls.arguments())
    flat = []
    for argument, default in cls._defaults().items():
        flat += [field.name for field in fields(default)] if is_dataclass(default) else [argument]
    assert len(flat) == len(set(flat)), "one name, one argument"


def test_the_adapter_is_built_from_its_config():
    method = registry.build("cellvta@debug,points=8,interactions=2,injector=false", 5, 3)
    exchanges = method.adapter.interactions
    assert len(exchanges) == 2 and all(exchange.injector is None for exchange in exchanges)
    assert exchanges[0].extractor.attn.points == 8
    assert {field.name for field in fields(AdapterConfig)} < set(registry.method_class("cellvta").arguments())


@pytest.mark.parametrize("words", ("points=8,points=4", "points=4,points=8", "points=8,points=8"))
def test_an_argument_that_is_named_twice_is_refused(words):
    """points=8,points=4 was points=8, since 4 is the row's own; the other way round it was 8 too."""
    with pytest.raises(InputError, match=f"'cellvta@debug,{words}': expected points once, found it twice; keep one"):
        registry.parse(f"cellvta@debug,{words}")
