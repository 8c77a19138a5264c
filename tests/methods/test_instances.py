"""Methods whose decoder learns another representation of the instances than HV maps: `instances=…`."""

import pickle

import pytest

from benchmark.methods import registry
from benchmark.representations.named import REPRESENTATIONS, representation
from benchmark.runtime.errors import InputError
from tests.support import method_checks as checks
from tests.support.scenes import disks, panoptic_quality

TAKERS = [n for n in registry.method_names() if "instances" in registry.method_class(n).arguments()]
OTHERS = [name for name in REPRESENTATIONS if name != "hv"]
each = pytest.mark.parametrize("name", OTHERS)


def test_who_takes_the_argument():
    assert TAKERS == ["cellvit", "cellvta", "decoder_only", "full_finetune"]


@pytest.mark.parametrize("method", TAKERS)
def test_hv_is_the_neutral_value(method):
    plain, named = (registry.parse(f"{method}@debug{more}") for more in ("", ",instances=hv"))
    assert str(plain) == str(named)
    assert "instances" not in registry.identity_arguments(plain), "results stored before the argument stay done"
    other = registry.parse(f"{method}@debug,instances=stardist")
    assert registry.identity_arguments(other)["instances"] == "stardist" and "instances=stardist" in str(other)


@pytest.mark.parametrize("method", registry.method_names())
def test_a_run_stored_before_an_argument_existed_is_represented_as_it_was(method):
    cls = registry.method_class(method)
    arguments = registry.parse(f"{method}@debug").arguments
    older = {name: value for name, value in arguments.items() if name not in cls.neutral}
    way = registry.stored_representation({"name": method, "arguments": older})
    assert way == registry.stored_representation({"name": method, "arguments": arguments})
    assert way == cls.representation_of(arguments) and (way.name == "hv" or method not in TAKERS)


@pytest.mark.parametrize("method", TAKERS)
def test_a_stored_run_has_the_representation_that_it_names(method):
    arguments = registry.parse(f"{method}@debug,instances=flows").arguments
    assert registry.stored_representation({"name": method, "arguments": arguments}).name == "flows"


@pytest.mark.parametrize("method", TAKERS)
def test_an_unknown_representation_is_refused_with_a_hint(method):
    with pytest.raises(InputError, match=r"instances is 'stardits'; expected one of hv, .*Did you mean 'stardist'"):
        registry.parse(f"{method}@debug,instances=stardits")  # before anything is trained
    arguments = registry.parse(f"{method}@debug").arguments | {"instances": "stardits"}
    with pytest.raises(InputError, match="instances is 'stardits'"):
        registry.method_class(method).from_arguments(5, 3, **arguments)


@pytest.mark.parametrize("method", TAKERS)
@each
def test_it_is_made_without_the_network_and_is_the_network_s(method, name):
    spec = registry.parse(f"{method}@debug,instances={name}")
    way = registry.method_class(method).representation_of(spec.arguments)
    assert way == registry.build(spec, 5, 3).representation == pickle.loads(pickle.dumps(way))
    assert way.name == name and len(pickle.dumps(way)) < 200


@pytest.mark.parametrize("method", ["cellvta", "decoder_only"])
@each
def test_maps(method, name):
    checks.forward_shapes(f"{method}@debug,instances={name}", 2)
    checks.without_types(f"{method}@debug,instances={name}")


@each
def test_training(name):
    text = f"cellvta@debug,instances={name}"
    checks.gradient_reaches_what_is_trainable_and_nothing_else(text, "adapter")
    checks.learns_one_batch(text, classes=0, tissues=0)  # types and tissue have the larger part of the loss here
    for classes in (5, 0):
        checks.without_nuclei(text, classes)


@each
def test_prediction(name):
    text = f"cellvta@debug,instances={name}"
    for height, width, tiled in ((96, 80, False), (33, 50, False), (130, 96, True)):
        checks.predict_covers_every_pixel(text, height, width, tiled)
    checks.prediction_of_an_image_does_not_depend_on_its_batch(text)
    checks.bfloat16_agrees_loosely(text)


@each
@pytest.mark.parametrize("mpp", [0.25, 0.5])
def test_perfect_maps_decode_to_the_truth(name, mpp):
    """Separated nuclei of more than 12 µm."""
    truth = disks(round(64 / mpp), diameter=13 / mpp, gap=4, mpp=mpp)
    decoded = checks.perfect(representation(name), truth)
    assert panoptic_quality(truth, decoded) > 0.95
    assert sorted(decoded.types) == sorted(truth.types)


@each
def test_raw_maps_have_the_representation_s_own_names(name):
    way = representation(name)
    truth = disks(64, 18, 6)
    assert way.ideal(way.targets(truth), 5).keys() == way.heads(5).keys()
    for key, values in way.ideal(way.targets(truth), 5).items():
        assert values.shape == (way.heads(5)[key], 64, 64) and values.dtype == "float32", key


def test_the_published_weights_decoder_keeps_its_branches_in_order():
    method = registry.build("cellvta@debug", 5, 3)
    assert list(method.decoder.branches) == ["np", "hv", "tp"], "the order in which random weights are drawn"
