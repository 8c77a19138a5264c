"""`Representation.condensed` maps decode to the same nuclei as the raw maps that they come from."""

import numpy as np
import pytest
import torch

from benchmark.data.sources.synthetic import TISSUES, draw
from benchmark.evaluation.prediction import check_finite
from benchmark.postproc.watershed import HVSettings
from benchmark.representations.hv import HV, HoVerNetHV
from benchmark.representations.named import REPRESENTATIONS
from benchmark.runtime.errors import InputError

CLASSES = 5


def raw(way, number: int, noise: float) -> dict[str, np.ndarray]:
    """Ideal maps of a drawn image, with noise, in steps as coarse as bfloat16's, so that logits are equal in places."""
    nuclei = draw(TISSUES[number % len(TISSUES)], number, number).nuclei
    rng = np.random.default_rng(number)
    coarse = {}
    for name, values in way.ideal(way.targets(nuclei), CLASSES).items():
        spread = noise / (20 if name in ("hv", "flow") else 1)
        noisy = torch.from_numpy(values + spread * rng.standard_normal(values.shape)).to(torch.bfloat16)
        coarse[name] = noisy.float().numpy()
    return coarse


def condensed(way, maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k: v[0].numpy() for k, v in way.condensed({k: torch.from_numpy(v)[None] for k, v in maps.items()}).items()}


@pytest.mark.parametrize("way", [HoVerNetHV(), *(kind() for kind in REPRESENTATIONS.values())], ids=str)
@pytest.mark.parametrize("types", [True, False])
def test_nuclei_are_the_same(way, types):
    for number, noise in enumerate((0.0, 0.5, 2.0)):
        maps = raw(way, number, noise)
        if not types:
            del maps["tp"]
        expected, found = (way.decode(each, 0.25) for each in (maps, condensed(way, maps)))
        assert len(expected) > 10
        assert np.array_equal(expected.instances, found.instances)
        assert np.array_equal(expected.types, found.types) and np.array_equal(expected.scores, found.scores)


@pytest.mark.parametrize("threshold", ["argmax", "half"])
def test_equal_logits_are_on_the_same_side_of_either_threshold(threshold):
    maps = raw(HV(), 0, 0.5)
    maps["np"][0, 40:90, 40:90] = maps["np"][1, 40:90, 40:90]
    settings = HVSettings(threshold=threshold)
    expected, found = (HV().decode(each, 0.25, settings) for each in (maps, condensed(HV(), maps)))
    assert np.array_equal(expected.instances, found.instances)
    other = HVSettings(threshold={"argmax": "half", "half": "argmax"}[threshold])
    assert not np.array_equal(expected.instances, HV().decode(maps, 0.25, other).instances)


def test_types_on_a_tie_are_the_first_of_the_largest():
    maps = raw(HV(), 0, 0.0)
    maps["tp"][2:5] = maps["tp"].max(0)
    assert set(np.unique(condensed(HV(), maps)["tp"])) <= {0, 1, 2}
    assert np.array_equal(condensed(HV(), maps)["tp"], maps["tp"].argmax(0))


def test_fewer_bytes():
    maps = raw(HV(), 0, 0.5)
    whole, less = (sum(values.nbytes for values in each.values()) for each in (maps, condensed(HV(), maps)))
    assert less * 3 < whole


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("name", "channel"), [("np", 0), ("np", 1), ("hv", 1), ("tp", 0), ("tp", 3)])
def test_what_is_not_finite_is_still_refused(name, channel, value):
    maps = raw(HV(), 0, 0.5)
    check_finite(condensed(HV(), maps), "image 3")
    maps[name][channel, 7, 9] = value
    with pytest.raises(InputError, match=f"^image 3: .*'{name}'"):
        check_finite(condensed(HV(), maps), "image 3")


def test_a_decoding_of_its_own_gets_the_maps_as_they_are():
    class Own(HV):
        def decode(self, maps, mpp, settings=None):
            return super().decode(maps, mpp, settings)

    maps = {"np": torch.zeros(1, 2, 4, 4), "hv": torch.zeros(1, 2, 4, 4), "mine": torch.zeros(1, 3, 4, 4)}
    assert Own().condensed(maps) is maps
    assert [*HV().condensed(maps)] == ["np", "hv"]
