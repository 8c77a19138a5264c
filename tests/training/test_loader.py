"""Schedules, the order of draws, and splits: what a recipe promises."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmark.data import registry as datasets
from benchmark.data.nuclei import Nuclei, Sample
from benchmark.data.source import Part, Split
from benchmark.data.store.prepare import SIDES, prepare
from benchmark.methods import registry
from benchmark.runtime import precision
from benchmark.runtime.errors import InputError
from benchmark.training import loader, optim
from benchmark.training.loader import Crops, Draws, image_weights
from benchmark.training.recipe import Optimiser, Recipe, Sampling, Schedule
from tests.support.tiny_data import TINY


def test_exponential_schedule_is_the_one_that_ran():
    factors = [optim.lr_factor(Schedule("exponential", 0.1, 0.95, 0.01), e, 100, 3, 10) for e in (0, 1, 99)]
    assert factors == pytest.approx([1.0, 0.95, 0.95**99])


def test_cosine_schedule_warms_up_and_ends_low():
    schedule = Schedule("cosine", 0.1, 0.95, 0.01)
    factors = [optim.lr_factor(schedule, e, 10, s, 10) for e in range(10) for s in range(10)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[9] == pytest.approx(1.0) and max(factors) == pytest.approx(1.0)
    assert factors[-1] < 0.02 and sorted(factors[10:], reverse=True) == factors[10:]


def test_step_schedule_is_hovernets():
    schedule = Schedule("step", gamma=0.1)
    assert [optim.lr_factor(schedule, e, 50, 0, 1) for e in (0, 24, 25, 49)] == pytest.approx([1, 1, 0.1, 0.1])


def test_unknown_schedule_and_optimiser_are_refused():
    with pytest.raises(InputError, match="expected one of cosine"):
        Schedule("linear")
    with pytest.raises(InputError, match="expected one of adamw"):
        Optimiser("lion")


def test_automatic_precision_is_fp32_on_a_cpu():
    assert precision.precision_on("auto", torch.device("cpu")) == "fp32"
    assert precision.precision_on("fp16", torch.device("cpu")) == "fp32", "where half precision takes minutes an image"
    assert (
        precision.precision_on("bf16", torch.device("cpu")) == "bf16"
        and precision.precision_on("fp16", torch.device("cuda")) == "fp16"
    )
    assert precision.precision_on("bf16", torch.device("cpu")) == "bf16"


def test_ranks_share_each_batch_and_together_draw_what_one_process_draws():
    weights = np.arange(1.0, 11.0)
    alone = Draws(weights, 24, 8, seed=3)
    pair = [Draws(weights, 24, 8, seed=3, rank=r, world=2) for r in range(2)]
    for draws in (alone, *pair):
        draws.epoch = 5
    for whole, left, right in zip(alone, *pair, strict=True):
        assert whole == left + right and len(left) == len(right) == 4
    other = Draws(weights, 24, 8, seed=3)
    assert list(other) != list(alone), "every epoch has its own draws"


def test_crops_depend_on_seed_epoch_and_position_only(cache):
    data = prepare(datasets.dataset(TINY), cache, split=1)
    method = registry.build("hovernet@debug", 5, 6)
    recipe = Recipe(crop=64, crop_at="random", augment="matched")

    def item(key, seed=0):
        return Crops(data.subset(1, "train"), method, recipe, data.tissues, seed)[key]

    first = item((0, 1, 2))
    assert all(torch.equal(v, item((0, 1, 2))[k]) for k, v in first.items())
    for other in (item((1, 1, 2)), item((0, 2, 2)), item((0, 1, 2), seed=1)):
        assert not torch.equal(first["image"], other["image"])
    side = method.input_side(64)
    assert first["image"].shape == (3, side, side) and side >= 64 + 2 * method.margin
    assert first["np"].shape == (64, 64)


@pytest.mark.parametrize("k", [1, 2, 3])
def test_sides_of_a_split_share_no_image_and_no_slide(cache, k):
    data = prepare(datasets.dataset(TINY), cache, split=k)
    subsets = {side: data.subset(k, side) for side in SIDES}
    for a, b in [("train", "val"), ("train", "test"), ("val", "test")]:
        assert not set(subsets[a].image_ids) & set(subsets[b].image_ids)
        assert not set(subsets[a].sources) & set(subsets[b].sources)


def test_an_image_on_two_sides_is_refused(cache):
    data = prepare(datasets.dataset(TINY), cache, split=1)
    data._source.split = lambda k, sources: Split([Part(1)], [Part(3)], [Part(3, np.array([2]))])
    with pytest.raises(InputError, match="image 2 of fold 3 on the sides val and test"):
        data.subset(1, "test")


def test_an_incomplete_last_batch_is_not_drawn():
    draws = Draws(10, 10, 4, seed=0)
    assert len(draws) == 2 and [len(batch) for batch in draws] == [4, 4]


def test_images_of_unknown_types_are_drawn_like_the_average():
    class Subset:
        tissues = ["Colon"] * 4
        counts = np.array([[1, 0], [1, 0], [1, 1], [0, 0]])
        typed = np.array([True, True, True, False])

    # gamma 1: class 1 occurs in three images of four counted, class 2 in one: 4/3 and 4
    found = image_weights(Subset, Sampling("cell", 1.0, "counted"), "pannuke")
    known = [4 / 3, 4 / 3, 4 / 3 + 4]
    np.testing.assert_allclose(found, [*known, np.mean(known)])
    settings = Sampling("cell", 1.0, "pannuke")  # PanNuke's constants do not hold elsewhere
    np.testing.assert_allclose(image_weights(Subset, settings, "conic"), found)


@pytest.mark.filterwarnings("ignore:This DataLoader will create")
@pytest.mark.parametrize(("processes", "expected"), [(1, 8), (2, 7), (4, 3), (16, 1), (32, 1)])
def test_processes_of_a_machine_share_its_cores_for_loading(monkeypatch, processes, expected):
    monkeypatch.setattr(loader, "usable_cores", lambda: 16)
    subset = [0] * 8
    world = SimpleNamespace(rank=0, size=processes, local=processes, device=torch.device("cuda"))
    recipe, data = Recipe(crop=64, sampling=Sampling("random")), SimpleNamespace(tissues=(), name="any")
    method = registry.build("hovernet@debug", 5, 6)
    feed = loader.training_loader(subset, method, recipe, data, 0, world, 32)
    assert feed.num_workers == expected
    assert loader.training_loader(subset, method, replace(recipe, workers=5), data, 0, world, 32).num_workers == 5


def test_an_item_of_training():
    class Method:
        patch_targets = False
        representation = SimpleNamespace(targets=lambda nuclei: {"np": nuclei.instances})

        @staticmethod
        def input_side(side):
            return side + 3

    image = np.arange(32 * 32 * 3).astype(np.uint8).reshape(32, 32, 3)
    nuclei = Nuclei.from_labels(np.arange(32 * 32).reshape(32, 32), None, 0.25, tissue="Skin", typed=False)
    recipe = Recipe(crop=16, crop_at="centre", augment=[])
    known, other = (Crops([Sample(image, nuclei)], Method(), recipe, names, 0)[0, 0, 0] for names in (["Skin"], []))
    assert (int(known["tissue"]), int(other["tissue"]), bool(known["typed"])) == (0, -1, False)
    assert known["image"].shape == (3, 19, 19), "one pixel before the crop of 16, two after it"
    np.testing.assert_allclose(known["image"].permute(1, 2, 0), image[7:26, 7:26] / 255, rtol=1e-6)
    assert np.array_equal(known["np"] > 0, np.ones((16, 16)))
