"""The published recipes, fact by fact, and what the real loop does with them: learning rate, batch, phase by epoch."""

import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from benchmark.data import registry as datasets
from benchmark.data.store.prepare import prepare
from benchmark.experiment import config
from benchmark.methods import registry
from benchmark.methods.base import Method
from benchmark.results.run_folder import RunFolder
from benchmark.runtime import distributed
from benchmark.training import loader, loop, optim
from benchmark.training.recipe import Recipe
from benchmark.training.scales import BASE, SCALES, recipe_for
from tests.support.tiny_data import TINY

ADAMW = {"name": "adamw", "lr": 3e-4, "betas": [0.85, 0.95], "weight_decay": 1e-4}
ADAM = {"name": "adam", "lr": 1e-4, "betas": [0.9, 0.999], "weight_decay": 0.0}
# no early stopping, no averaging of weights, no clipping, validation after every epoch, an epoch of as many draws as
# there are images, in all of them
COMMON = {"patience": 0, "ema": 0.0, "clip": 0.0, "eval_every": 1, "samples": None, "monitor": "raw"}
FACTS = {
    ("cellvta@paper", "pannuke"): {
        "epochs": 100,
        "batch": 8,
        "crop": 256,
        "optimiser": ADAMW,
        "precision": "fp32",
        "augment": "cellvta",
        "sampling": {"strategy": "cell+tissue", "gamma": 0.85, "factors": "pannuke"},
        "keep": "best",
        "tiling": "none",
        "validation": "split",
    },
    ("cellvta@paper", "conic"): {
        "epochs": 50,
        "batch": 8,
        "crop": 256,
        "optimiser": ADAMW,
        "precision": "fp32",
        "augment": "cellvta",
        "eval_every": 5,
        "keep": "best",
        "tiling": "conic40",
        "validation": "random_tiles",
    },
    ("cellvit@sam_h", "pannuke"): {
        "epochs": 130,
        "batch": 16,
        "crop": 256,
        "optimiser": ADAMW,
        "precision": "fp16",
        "augment": "cellvit",
        "sampling": {"strategy": "cell+tissue", "gamma": 0.85, "factors": "pannuke"},
        "keep": "last",
        "tiling": "none",
    },
    ("hovernet@fast", "pannuke"): {
        "epochs": 100,
        "batch": 16,
        "crop": 164,
        "crop_at": "centre",
        "optimiser": ADAM,
        "precision": "fp32",
        "augment": "hovernet",
        "keep": "last",
    },
    ("hovernet@original", "pannuke"): {"crop": 80, "crop_at": "centre", "optimiser": ADAM, "keep": "last"},
}
PUBLISHED = config.load("published")


def recipe(name: str, dataset: str = "pannuke") -> Recipe:
    return recipe_for(PUBLISHED, registry.parse(name), dataset=dataset)


@pytest.mark.parametrize(("name", "dataset"), FACTS)
def test_facts(name, dataset):
    found = json.loads(json.dumps(recipe(name, dataset).as_dict()))
    for key, want in (COMMON | FACTS[name, dataset]).items():
        assert found[key] == want, key


def test_every_published_row_has_a_valid_recipe_and_main_knows_none_of_its_quirks():
    main = config.load("main")
    for name in registry.method_names():
        cls = registry.method_class(name)
        for row in cls.published:
            recipe(f"{name}@{row}")
        for dataset, rows in cls.published_on.items():
            assert set(rows) <= set(cls.published)
            for row in rows:
                recipe(f"{name}@{row}", dataset)
    for scale in SCALES:
        for dataset in ("pannuke", "conic", "synthetic"):
            found = [recipe_for(main, registry.parse(m, scale), dataset=dataset) for m in main.methods]
            assert all(f == found[0] for f in found)
            assert (found[0].keep, found[0].monitor) == ("best", "protocol")
            assert (found[0].validation, found[0].crop_at) == ("split", "random")
            at_x40 = dataset == "conic" and scale == "paper"
            assert found[0].tiling == ("conic40_corrected" if at_x40 else "none")


def test_random_sampling_is_a_shuffle():
    draws = loader.Draws(10, 10, 5, seed=0)
    order = [key[2] for batch in draws for key in batch]
    assert sorted(order) == list(range(10)) != order
    draws.epoch = 1
    assert [key[2] for batch in draws for key in batch] != order
    twice = [key[2] for batch in loader.Draws(10, 20, 5, seed=0) for key in batch]
    assert sorted(twice) == sorted([*range(10), *range(10)]), "all images once before any comes again"


def test_augmentation_lists():
    """Order, probabilities and strengths of the published lists; targets are made after them."""

    def listed(name):
        return [tuple(step.values()) for step in loader.augmentations(name)]

    common = [
        ("color_jitter", 0.2, 0.25, 0.25, 0.1, 0.05),
        ("superpixels", 0.1, 0.1, 200, 128),
        ("zoom_blur", 0.1, 1.05),
    ]
    elastic = ("elastic", 0.2, 25, 0.5, 15)
    turns = ("rot90", "hflip", "vflip")
    assert listed("cellvta") == [
        *((name, 0.2) for name in turns),
        ("blur", 0.2, 10),
        ("gauss_noise", 0.5, 10),
        *common,
        ("random_sized_crop", 0.2, 0.5, 1.0),
        elastic,
    ]
    assert listed("cellvit") == [
        *((name, 0.5) for name in turns),
        ("downscale", 0.15, 0.5),
        ("blur", 0.2, 10),
        ("gauss_noise", 0.25, 50),
        *common,
        ("random_sized_crop", 0.1, 0.5, 1.0),
        elastic,
    ]
    *shape, (_, blurs), (_, colours) = listed("hovernet")
    assert shape == [("affine", 0.2, 0.01, 5, 179, 0), ("hflip", 0.5), ("vflip", 0.5)]
    assert [b["name"] for b in blurs] == ["gaussian_blur", "median_blur", "additive_noise"]
    assert blurs[2]["deviation"] == pytest.approx(0.05 * 255)
    assert [tuple(c.values()) for c in colours] == [
        ("shift_hue", 8 / 180),
        ("scale_saturation", 0.2),
        ("shift_brightness", 26),
        ("scale_contrast", 0.75, 1.25),
    ]


class Probe(Method):
    """One weight in the place of a network: notes what the loop does to it. `plan` is the method it stands for."""

    representation = SimpleNamespace(targets=lambda nuclei: {})

    def __init__(self, plan: Method):
        super().__init__()
        self.weight, self.plans, self.seen = nn.Parameter(torch.zeros(1)), [plan], []

    def phases(self, published):
        return self.plans[0].phases(published)

    def set_tune(self, tune):
        self.tune = tune

    def forward(self, images):
        self.seen.append((self.tune, len(images)))
        return {"np": self.weight.expand(len(images), 2, 4, 4)}

    def loss(self, outputs, batch):
        return {"np": outputs["np"].mean()}


@pytest.fixture
def trained(cache, tmp_path, monkeypatch):
    """The real loop under a published recipe: call(name, scores=…, key=value …) ->
    ((lr, tune, images per update) of each epoch, Trained, weights that were saved)."""

    def call(name: str, scores=(0.5,), **changes):
        method, saved, scores = Probe(registry.build(f"{name}@debug", 5, 6)), [], iter(scores)
        row = {"cellvit": "sam_h", "hovernet": "fast"}.get(name, "paper")
        fast = {"samples": 16, "crop": 16, "augment": [], "workers": 0, "precision": "fp32", "eval_every": 10**6}
        used = replace(recipe(f"{name}@{row}"), **(fast | changes))
        monkeypatch.setattr(loop, "validate", lambda *_: next(scores))
        monkeypatch.setattr(loop.checkpoint, "save", lambda *_: None)
        monkeypatch.setattr(loop.checkpoint, "save_weights", lambda _, m: saved.append(m.weight.item()))
        folder = RunFolder(tmp_path / f"{name}-{used.keep}")
        folder.path.mkdir()
        data = prepare(datasets.dataset(TINY), cache, split=1, progress=False)
        world = distributed.World(0, 1, torch.device("cpu"))
        words = {"key": "k", "pretrained": "", "published": True, "say": lambda text: None}
        done = loop.train(method, loop.Job(data, 1, 0, used, folder, world, **words))
        rows, seen = [], iter(method.seen)
        for line in map(json.loads, folder.log.read_text().splitlines()):
            sizes = []
            while sum(sizes) < used.samples:
                tune, size = next(seen)
                sizes.append(size)
            assert len(set(sizes)) == 1
            rows.append((line["lr"], tune, size))
        assert not list(seen)
        return rows, done, saved

    return call


def test_cellvta_decays_by_095_and_never_unfreezes(trained):
    """The configuration's gamma of 0.85 is never read."""
    rows, done, _ = trained("cellvta")
    assert len(rows) == 100 and done.best_epoch == 99
    assert np.allclose([lr for lr, *_ in rows], 3e-4 * 0.95 ** np.arange(100), rtol=1e-12)
    assert {(tune, size) for _, tune, size in rows} == {("adapter", 8)}


def test_cellvit_unfreezes_at_epoch_25_of_130(trained):
    rows, done, _ = trained("cellvit")
    assert [tune for _, tune, _ in rows] == ["decoder"] * 25 + ["full"] * 105
    assert {size for *_, size in rows} == {16} and done.epochs == 130
    assert np.allclose([lr for lr, *_ in rows], 3e-4 * 0.95 ** np.arange(130), rtol=1e-12), "one schedule, unbroken"


def test_hovernet_begins_anew_at_its_second_phase(trained):
    rows, done, _ = trained("hovernet")
    phase = [1e-4] * 25 + [1e-5] * 25
    assert np.allclose([lr for lr, *_ in rows], phase + phase, rtol=1e-12)
    assert [(tune, size) for _, tune, size in rows] == [("decoder", 16)] * 50 + [("full", 4)] * 50
    assert done.best_epoch == 99


@pytest.mark.parametrize(("keep", "epoch", "times"), [("best", 2, 3), ("last", 3, 1)])
def test_ties_replace_and_the_last_epoch_can_be_asked_for(trained, keep, epoch, times):
    """Weights move by the learning rate per update here, so that their size tells the epoch."""
    words = {"epochs": 4, "eval_every": 1, "samples": 8, "keep": keep}
    _, done, saved = trained("cellvta", scores=(0.3, 0.6, 0.6, 0.5), **words)
    assert done.best_epoch == epoch and done.best_bpq == (0.6 if keep == "best" else 0.5)
    assert len(saved) == times
    assert saved[-1] == pytest.approx(-3e-4 * np.sum(0.95 ** np.arange(epoch + 1)), rel=0.02)


def test_the_optimiser_holds_frozen_parameters_and_leaves_them_alone():
    """Weight decay included: their gradient is None."""
    method = registry.build("cellvta@debug", 5, 6)
    before = {k: p.detach().clone() for k, p in method.named_parameters()}
    made = optim.optimiser(method, replace(recipe("cellvta@paper").optimiser, weight_decay=0.5))
    assert len(made.param_groups) == 1 and made.param_groups[0]["weight_decay"] == 0.5
    assert len(made.param_groups[0]["params"]) == len(before), "norms, biases and level embedding decay too"
    sum(v.float().square().mean() for v in method(torch.rand(1, 3, 64, 64)).values()).backward()
    made.step()
    for name, p in method.named_parameters():
        assert torch.equal(p, before[name]) is (not p.requires_grad), name


def test_frozen_parts_stay_in_training_mode():
    """As published: stochastic depth acts in CellVTA's frozen ViT, statistics move in HoVer-Net's frozen encoder."""
    method = registry.build("cellvta@debug,drop_path=0.9", 5, 6).train()
    x = torch.rand(4, 3, 64, 64)
    block = method.vit.blocks[-1]
    assert not any(p.requires_grad for p in block.parameters())
    found = []
    block.register_forward_hook(lambda _, inputs, out: found.append((inputs[0].detach(), out.detach())))
    method(x)
    inputs, out = found[0]
    assert (inputs == out).flatten(1).all(1).any(), "both branches of the last frozen block dropped for an image"
    hover = registry.build("hovernet@debug", 5, 0).train()
    hover.set_tune("decoder")
    bn = next(m for m in hover.encoder.stages[3].modules() if isinstance(m, nn.BatchNorm2d))
    before = bn.running_mean.clone()
    side = hover.input_side(64)
    hover(torch.rand(2, 3, side, side))
    assert not torch.equal(bn.running_mean, before) and not bn.weight.requires_grad


@pytest.mark.parametrize(("row", "classes", "count"), [("fast", 5, 14_165_706), ("original", 5, 31_270_602)])
def test_hovernets_first_phase_trains_what_the_official_one_trains(row, classes, count):
    with torch.device("meta"):
        method = registry.build(f"hovernet@{row}", classes, 0)
    method.set_tune(method.phases(True)[0].tune)
    assert sum(p.numel() for p in method.parameters() if p.requires_grad) == count
    method.set_tune(method.phases(True)[1].tune)
    assert all(p.requires_grad for p in method.parameters())


def test_conic_has_seven_classes_and_a_tissue_loss_without_effect():
    """The official CoNIC code has no tissue term; with one tissue ours is 0 and so is its gradient."""
    method = registry.build("cellvta@debug", 6, 1)
    out = method(torch.rand(2, 3, 64, 64))
    batch = {"np": torch.zeros(2, 64, 64, dtype=torch.uint8), "hv": torch.zeros(2, 2, 64, 64)}
    batch |= {"tp": batch["np"], "typed": torch.ones(2, dtype=torch.bool), "tissue": torch.zeros(2, dtype=torch.int64)}
    terms = method.loss(out, batch)
    assert out["tp"].shape[1] == 7 and float(terms["tissue_ce"].detach()) == 0
    terms["tissue_ce"].backward()
    assert not method.tissue_head.weight.grad.any()


def test_hovernets_rim_counts_as_published_only_where_asked(cache):
    data = prepare(datasets.dataset(TINY), cache, split=1, progress=False)
    subset = data.subset(1, "train")
    base = replace(BASE, crop=64, augment=[])

    def hv(rim: bool, place: str, position: int = 0):
        method = registry.build(f"hovernet@debug,rim_targets={rim}", 5, 0)
        crops = loader.Crops(subset, method, replace(base, crop_at=place), data.tissues, 0)
        return crops[(0, position, 0)]["hv"].numpy()

    assert registry.parse("hovernet@paper").arguments["rim_targets"]
    assert not registry.parse("hovernet@matched").arguments["rim_targets"]
    own, rim = hv(False, "centre"), hv(True, "centre")
    nuclei = subset[0].nuclei
    top = (nuclei.instances.shape[0] - 64) // 2
    window = nuclei.instances[top : top + 64, top : top + 64]
    cut = [k for k in np.unique(window)[1:] if 0 < (window == k).sum() < (nuclei.instances == k).sum()]
    differing = set(np.unique(window[(own != rim).any(0)]))
    assert differing and differing <= set(cut), "only nuclei that the crop cuts have other distances"
    small = [k for k in cut if (window == k).sum() < 30]
    assert all(not rim[:, window == k].any() for k in small)
    assert np.array_equal(hv(False, "random"), hv(True, "random")), "a crop elsewhere has no rim to speak of"
    assert np.array_equal(hv(True, "centre", 1), rim) and not np.array_equal(hv(True, "random", 1), hv(True, "random"))
