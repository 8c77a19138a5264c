"""Training on several data sets: how often each is drawn, what of the type loss counts, how they are validated."""

import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch

from benchmark.data.registry import dataset
from benchmark.data.store.prepare import prepare
from benchmark.evaluation.resampling import seen_whole
from benchmark.layers.cellvit_loss import LossConfig, cellvit_loss
from benchmark.methods import registry
from benchmark.results import training_log
from benchmark.results.run_folder import RunFolder
from benchmark.runtime import distributed
from benchmark.runtime.errors import InputError
from benchmark.training import loop, validation
from benchmark.training.loader import Draws, draw_weights, image_weights, training_loader
from benchmark.training.outputs import named_only
from benchmark.training.recipe import Recipe, Sampling
from tests.support import joint_sets

RECIPE = Recipe(batch=2, samples=8, crop=64, workers=0)
EPOCH = replace(RECIPE, epochs=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Four training images of one set, two of the other."""
    root = tmp_path_factory.mktemp("joint")
    one, two = joint_sets.folder(root / "one", "one", 4), joint_sets.folder(root / "two", "two", 2, slide=80)
    return prepare(dataset(f"folder:{one}+folder:{two}"), root / "cache", 1, progress=False)


def at(root, mpp: float, first: bool = False):
    """The set `one` at 0.25 µm/px and `two`, of larger images, at another resolution."""
    one, two = (
        joint_sets.folder(root / "one", "one"),
        joint_sets.folder(root / "two", "two", slide=80, mpp=mpp, side=96),
    )
    names = (two, one) if first else (one, two)
    return prepare(dataset("+".join(f"folder:{name}" for name in names)), root / "cache", 1, progress=False)


def shares(weights, data) -> list[float]:
    """What of all draws each set gets."""
    ends = np.cumsum([0, *(len(one) for one in data.subset(1, "train").sets)])
    return [float(weights[a:b].sum() / weights.sum()) for a, b in pairwise(ends)]


@pytest.mark.parametrize("strategy", ["cell", "tissue", "cell+tissue"])
def test_shares_of_sets_are_those_of_their_images_or_equal(data, strategy):
    training = data.subset(1, "train")
    recipe = replace(RECIPE, sampling=Sampling(strategy, 0.85))
    by_number = draw_weights(training, recipe, data)
    np.testing.assert_allclose(shares(by_number, data), [4 / 6, 2 / 6])
    equal = draw_weights(training, replace(recipe, shares="equal"), data)
    np.testing.assert_allclose(shares(equal, data), [1 / 2, 1 / 2])
    alone = image_weights(data.sets[0].subset(1, "train"), recipe.sampling, "one")
    np.testing.assert_allclose(by_number[:4] / by_number[:4].sum(), alone / alone.sum())


def test_random_draws_each_image_once_or_each_set_alike(data):
    training = data.subset(1, "train")
    assert draw_weights(training, replace(RECIPE, sampling=Sampling("random")), data) == 6
    weights = draw_weights(training, replace(RECIPE, sampling=Sampling("random"), shares="equal"), data)
    np.testing.assert_allclose(weights, [1 / 4] * 4 + [1 / 2] * 2)


def test_what_is_drawn_is_a_function_of_seed_epoch_and_position(data):
    training = data.subset(1, "train")
    weights = draw_weights(training, replace(RECIPE, shares="equal"), data)

    def keys(seed, epoch):
        draws = Draws(weights, 400, 4, seed)
        draws.epoch = epoch
        return [key for batch in draws for key in batch]

    assert keys(0, 3) == keys(0, 3) != keys(0, 4) != keys(1, 3)
    of_second = np.mean([index >= 4 for _, _, index in keys(0, 3)])
    assert abs(of_second - 0.5) < 0.1


def test_the_recipe_tells_shares_apart_and_the_default_changes_no_identity():
    assert "shares" not in Recipe().identity()
    assert Recipe(shares="equal").identity() == Recipe().identity() | {"shares": "equal"}


def feed(data, recipe=RECIPE, method="hovernet@debug"):
    network = registry.build(method, len(data.classes), len(data.tissues))
    world = distributed.World(0, 1, torch.device("cpu"))
    return network, training_loader(data.subset(1, "train"), network, recipe, data, 0, world, recipe.batch)


def test_an_item_says_which_classes_its_set_has(data):
    _, loader = feed(data)
    items = loader.dataset
    first, last = items[0, 0, 0], items[0, 1, 5]
    assert first["named"].tolist() == [True, True, True, False, False]
    assert last["named"].tolist() == [True, False, True, True, True]
    assert first["typed"] and last["typed"] and first["tissue"] == 0 and last["tissue"] == -1
    assert set(last["tp"].unique().tolist()) <= {0, 2, 3, 4}


def test_one_set_has_no_mask(tmp_path):
    data = prepare(dataset("synthetic@patches=6"), tmp_path, 1, progress=False)
    _, loader = feed(data)
    assert "named" not in loader.dataset[0, 0, 0]
    outputs = {"tp": torch.zeros(2, 3, 4, 4)}
    assert named_only(outputs, {}) is outputs


@pytest.mark.parametrize("double_softmax", [False, True])
@pytest.mark.parametrize("method", ["cellvit", "hovernet"])
def test_a_lacking_class_has_no_gradient_and_no_say(method, double_softmax):
    torch.manual_seed(0)
    named = torch.tensor([[True, True, False], [True, False, True]])
    batch = {
        "np": torch.ones(2, 8, 8, dtype=torch.uint8),
        "hv": torch.zeros(2, 2, 8, 8),
        "tp": torch.tensor([1, 2]).view(2, 1, 1).expand(2, 8, 8),
        "typed": torch.tensor([True, True]),
        "tissue": torch.tensor([-1, -1]),
        "named": named,
    }
    raw = torch.randn(2, 3, 8, 8, requires_grad=True)

    def loss(logits):
        maps = {"np": torch.zeros(2, 2, 8, 8), "hv": torch.zeros(2, 2, 8, 8), "tp": logits}
        out = named_only(maps, batch)
        if method == "hovernet":
            return registry.build("hovernet@debug", 2, 0).loss(out, batch)
        return cellvit_loss(out, batch, LossConfig(double_softmax=double_softmax))

    terms = loss(raw)
    sum(terms.values()).backward()
    absent = ~named[:, :, None, None].expand_as(raw)
    assert torch.isfinite(raw.grad).all() and (raw.grad[absent] == 0).all() and (raw.grad[~absent] != 0).any()
    other = loss(torch.where(absent, raw.detach() + 50, raw.detach()))
    assert all(torch.equal(other[name], terms[name]) for name in terms)
    batch.pop("named")
    unmasked = loss(torch.where(absent, raw.detach() + 50, raw.detach()))
    assert sum(unmasked.values()) > sum(terms.values()) + 1, "without the mask the class would count"


SCORES = {"one": 0.2, "two": 0.6}  # validation bPQ of each set


def test_epochs_are_compared_by_the_mean_over_the_sets(data, monkeypatch, tmp_path):
    asked = []

    def validate(method, images, prediction, world, data, monitor, decoders):
        asked.append((images.label, images.image_ids))
        return SCORES[images.label]

    monkeypatch.setattr(loop, "validate", validate)
    lines, printed = train(data, tmp_path)
    assert [name for name, _ in asked] == ["one", "two"] and asked[0][1] == [f"one/val{i}" for i in range(4)]
    assert lines[0]["val_bPQ"] == pytest.approx(0.4) and lines[0]["val_bPQ_of"] == SCORES
    assert "validation bPQ 0.4000 (mean of one 0.2000, two 0.6000)" in "\n".join(printed)


def test_a_set_without_a_score_leaves_the_mean_to_the_others():
    assert (
        validation.mean_of({"one": None, "two": 0.5}) == 0.5 and validation.mean_of({"one": None, "two": None}) is None
    )
    assert validation.mean_of({"": 0.1}) == 0.1 and validation.mean_of({"": None}) is None


def train(data, folder, recipe=EPOCH):
    """(log, lines of progress) of a training of HoVer-Net's smallest row."""
    printed: list[str] = []
    place = RunFolder(folder / "data" / "hovernet@debug" / "fold1-seed0")
    place.path.mkdir(parents=True)
    torch.manual_seed(0)
    method = registry.build("hovernet@debug", len(data.classes), len(data.tissues))
    world = distributed.World(0, 1, torch.device("cpu"))
    job = loop.Job(data, 1, 0, recipe, place, world, "key", "", False, printed.append)
    loop.train(method, job)
    return training_log.read(place.log), printed


def test_other_resolutions_are_resampled_to_the_first_sets(tmp_path):
    data = at(tmp_path, 0.125)
    assert data.mpp == 0.25
    sample = data.subset(1, "train")[2]
    seen = seen_whole(sample, data.mpp)
    assert sample.image.shape == (96, 96, 3) and seen.image.shape == (48, 48, 3) and seen.nuclei.mpp == 0.25
    centres = np.ix_(np.arange(48) * 2 + 1, np.arange(48) * 2 + 1)
    assert ((seen.nuclei.instances > 0) == (sample.nuclei.instances[centres] > 0)).all()
    assert (seen.nuclei.pixel_types() == sample.nuclei.pixel_types()[centres]).all()
    assert seen_whole(data.subset(1, "train")[0], 0.25).image.shape == (64, 64, 3)
    _, loader = feed(data, replace(RECIPE, crop=48, augment=(), crop_at="centre"))
    item = loader.dataset[0, 0, 2]
    shown = item["image"].permute(1, 2, 0).numpy() * 255  # with 16 px of context on each side
    np.testing.assert_allclose(shown[16:-16, 16:-16], seen.image, atol=1e-3)
    assert validation.sides(data, 1, replace(RECIPE, crop=48), 0)[2].mpp == 0.25


def test_a_resolution_that_leaves_less_than_the_crop_is_refused(tmp_path):
    data = at(tmp_path, 0.125)
    says = "96 px at 0.125 µm/px, are 48 px at the 0.25 µm/px of the first set, less than recipe.crop=64"
    with pytest.raises(InputError, match=re.escape(says)):
        validation.sides(data, 1, RECIPE, 0)
    other = at(tmp_path / "other", 0.125, first=True)
    assert other.mpp == 0.125 and validation.sides(other, 1, RECIPE, 0)[2].mpp == 0.125
    with pytest.raises(InputError, match=r"recipe\.tiling=conic40 is for images of CoNIC alone"):
        validation.sides(other, 1, replace(RECIPE, tiling="conic40"), 0)


def test_patches_of_fields_are_cut_for_the_resolution_of_all(monkeypatch, tmp_path):
    """A set whose fields are cut into patches: twice as fine, they are cut twice as large."""
    data = at(tmp_path, 0.125)
    monkeypatch.setattr(data.sets[1], "train_patch", 32)
    monkeypatch.setattr(data.sets[0], "train_patch", 32)
    training = data.subset(1, "train")
    assert training[0].image.shape == (32, 32, 3) and training[len(training) - 1].image.shape == (64, 64, 3)
    assert seen_whole(training[len(training) - 1], data.mpp).image.shape == (32, 32, 3)
    assert [len(one) for one in training.sets] == [2 * 4, 2 * 4]
