"""The x40 view of x20 patches: geometry, training tiles, prediction, and the whole chain on a CoNIC-like folder."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmark.data.sources.conic import CoNIC
from benchmark.data.store.prepare import prepare
from benchmark.data.tiles import Tiles, Tiling, random_tiles
from benchmark.evaluation import decode_score, tiled
from benchmark.experiment import config
from benchmark.methods import registry
from benchmark.metrics.match import match
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.metrics.records import Records
from benchmark.representations.hv import HV
from benchmark.runtime.errors import InputError
from benchmark.training.recipe import Recipe
from benchmark.training.scales import recipe_for
from benchmark.training.validation import raw_bpq, sides
from tests.support import tiny_data
from tests.support.scenes import patch
from tests.support.shared import GOLDEN

SIDE, CLASSES = 64, 6
SOURCES = (("glas_1", 4), ("consep_1", 3), ("dpath_9", 2))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A CoNIC folder of 64 px patches: crowded dark nuclei on light tissue."""
    folder = tmp_path_factory.mktemp("conic")
    names = [f"{source}-{i:04d}" for source, n in SOURCES for i in range(n)]
    nuclei = [patch(k, SIDE, n=0 if k == 1 else 40) for k in range(len(names))]
    rng = np.random.default_rng(0)
    images = rng.normal(210, 12, (len(names), SIDE, SIDE, 3))
    for image, one in zip(images, nuclei):
        image[one.instances > 0] -= (90, 120, 40)
    np.save(folder / "images.npy", images.clip(0, 255).astype(np.uint8))
    np.save(folder / "labels.npy", np.stack([np.stack([n.instances, n.pixel_types()], -1) for n in nuclei]))
    tiny_data.table(folder / "patch_info.csv", ["patch_info"], [[name] for name in names])
    return folder


@pytest.fixture(scope="module")
def data(root, tmp_path_factory):
    return prepare(CoNIC(root), tmp_path_factory.mktemp("cache"), split=1, progress=False)


def recipe(**changes) -> Recipe:
    return Recipe(**{"tiling": "conic40", "eval_batch": 3} | changes)


class Perfect:
    """Stands for a method: its `predict` answers with the ideal maps of the truth, looked up by the image."""

    trainable, has_types = True, True

    def __init__(self, representation, samples):
        self.images = np.stack([s.image for s in samples]).astype(np.float32)
        self.maps = [representation.ideal(representation.targets(s.nuclei), CLASSES) for s in samples]

    def predict(self, images):
        chosen = []
        for image in (images * 255).permute(0, 2, 3, 1).numpy():
            # to the nearest level, on whatever side torch's kernel for this number of threads rounds a half
            same = np.flatnonzero(np.abs(self.images - image).max((1, 2, 3)) < 0.51)
            assert len(same) == 1
            chosen.append(self.maps[same[0]])
        return {k: torch.from_numpy(np.stack([m[k] for m in chosen])) for k in chosen[0]}


def test_geometry_is_the_published_one():
    grid = Tiling.of(256, 256)
    assert (grid.whole, grid.overlap) == (480, 32)
    assert grid.corners == [(0, 0), (0, 224), (224, 0), (224, 224)]
    assert grid.enlarged_mpp(0.5) == pytest.approx(0.2667, abs=1e-4)
    for shape in ((256, 320), (100, 100), (8, 8)):
        with pytest.raises(InputError, match=f"found {shape[0]} x {shape[1]}; use recipe.tiling=none"):
            Tiling.of(*shape)


def test_enlarging_and_cutting_equal_the_official_code():
    class Normalised:  # the official code enlarges after the normalisation
        trainable = True

        @staticmethod
        def predict(images):
            return {"tiles": (images - 0.5) / 0.5}

    image = np.random.Generator(np.random.PCG64(7)).random((1, 3, 256, 256)).astype(np.float32)
    tiles = tiled.predict(Normalised(), torch.from_numpy(image), "conic40")["tiles"]
    with np.load(GOLDEN / "conic_upscale.npz", allow_pickle=False) as golden:
        assert list(tiles[0].shape) == golden["shape"].tolist()
        values = tiles.flatten()[:: int(golden["stride"])].numpy()
        # torch has one kernel for one thread and another for several: their positions round differently
        assert np.abs(values - golden["values"]).max() < 5e-5


def test_training_tiles_are_the_tiles_of_prediction(data):
    subset = data.subset(1, "train")
    tiles, grid = Tiles([subset], CLASSES), Tiling.of(SIDE, SIDE)
    image = torch.from_numpy(np.array(subset[2].image)).permute(2, 0, 1)[None].float()
    enlarged = F.interpolate(image, size=(120, 120), mode="bilinear", align_corners=False)[0].permute(1, 2, 0).numpy()
    for t, (top, left) in enumerate(grid.corners):
        tile = tiles[4 * 2 + t]
        assert np.abs(tile.image - enlarged[top : top + SIDE, left : left + SIDE]).max() <= 0.501
        assert tile.nuclei.mpp == pytest.approx(4 / 15) and tile.nuclei.source == subset.sources[2]
        at = np.ix_(grid.source(top), grid.source(left))
        assert np.array_equal(tile.nuclei.pixel_types(), subset[2].nuclei.pixel_types()[at])
        assert np.array_equal(tile.nuclei.instances > 0, subset[2].nuclei.instances[at] > 0)
    centres = (2 * np.arange(SIDE) + 1) * 15 // 16
    there = np.concatenate([grid.source(0), grid.source(56)[8:]])
    assert np.array_equal(there[centres], np.arange(SIDE)), "enlarged labels sampled at pixel centres are the labels"


def test_a_view_of_tiles_tells_what_its_tiles_hold(data):
    parts = [data.subset(1, "train"), data.subset(1, "val")]
    tiles = Tiles(parts, CLASSES)
    assert len(tiles) == 4 * sum(map(len, parts)) and tiles.typed.all()
    samples = [tiles[i] for i in range(len(tiles))]
    for name in ("tissues", "sources", "image_ids"):
        assert getattr(tiles, name) == [getattr(s.nuclei, name.removesuffix("s")) for s in samples]
    assert len(set(tiles.image_ids)) == len(tiles) and tiles.image_ids[5] == f"{parts[0].image_ids[1]}:1"
    counts = [np.bincount(s.nuclei.types, minlength=CLASSES + 1)[1:] for s in samples]
    assert np.array_equal(tiles.counts, counts) and tiles.counts.sum() > sum(p.counts.sum() for p in parts)
    chosen = tiles.chosen(np.array([7, 2]))
    assert chosen.image_ids == [tiles.image_ids[7], tiles.image_ids[2]]
    with pytest.raises(IndexError):
        tiles[len(tiles)]


def test_faithful_validation_leaks_and_the_corrected_one_does_not(data):
    train, val, judged = sides(data, 1, recipe(validation="random_tiles"), seed=0)
    parts = [data.subset(1, side) for side in ("train", "val")]
    assert len(val) == round(0.2 * 4 * sum(map(len, parts))) and len(train) + len(val) == 4 * sum(map(len, parts))
    assert not set(train.image_ids) & set(val.image_ids)
    patches = [{name.partition(":")[0] for name in side.image_ids} for side in (train, val)]
    assert patches[0] & patches[1], "tiles of one patch on both sides"
    assert judged.tiling == "none", "the tiles themselves are judged"
    again, other = (random_tiles(parts, CLASSES, 0.2, seed)[1].image_ids for seed in (0, 1))
    assert again == val.image_ids != other

    train, val, judged = sides(data, 1, recipe(), seed=0)
    assert not set(train.sources) & set(val.sources) and len(train) == 4 * len(parts[0])
    assert len(val) == len(parts[1]) and judged.tiling == "conic40", "whole patches, stitched"


@pytest.mark.parametrize("tiling", ["none", "conic40", "conic40_corrected"])
def test_prediction_and_ceiling_take_the_same_way(data, tiling):
    """A network that knows every tile's truth scores the ceiling, through batches, tiles and stitching."""
    way, subset = HV(), data.subset(1, "train")
    known = subset if tiling == "none" else Tiles([subset], CLASSES)
    method = Perfect(way, [known[i] for i in range(len(known))])
    samples = [subset[i] for i in range(len(subset))]
    images = torch.from_numpy(np.stack([s.image for s in samples])).permute(0, 3, 1, 2) / 255
    maps = {k: v.numpy() for k, v in tiled.predict(method, images, tiling).items()}
    for i, sample in enumerate(samples):
        one = {k: v[i] for k, v in maps.items()}
        outcome = decode_score.decode_and_score(way, i, sample.nuclei, one, tiling, True, False).match
        perfect = decode_score.score_ideal(way, i, sample.nuclei, CLASSES, tiling).match
        assert np.array_equal(outcome.pixels, perfect.pixels)
        assert outcome.shape == (SIDE, SIDE) and np.array_equal(outcome.pred.type, perfect.pred.type)


def test_an_untrained_method_sees_images_as_they_are():
    assert tiled.of(registry.method_class("classical"), "conic40") == "none"
    assert tiled.of(registry.method_class("cellvta"), "conic40") == "conic40"
    assert tiled.inputs(registry.method_class("cellvta"), "conic40") == 4


def test_raw_selection_counts_empty_images_and_untyped_nuclei(data):
    subset = data.subset(1, "train")
    nuclei = [subset[i].nuclei for i in range(len(subset))]
    assert [len(n) for n in nuclei].count(0) == 1
    found = [match(n.instances, n.types, n.instances, np.zeros(len(n)), mpp=0.5) for n in nuclei]
    records = Records.collect(found, [{"image": i, "pred_typed": True} for i in range(len(found))])
    assert raw_bpq(records) == pytest.approx((len(nuclei) - 1) / len(nuclei), abs=1e-6)
    assert np.nanmean(PROTOCOLS["cellvit"].images(records, CLASSES)["bPQ"]) == 0


PUBLISHED = ("recipe.tiling=conic40", "recipe.validation=random_tiles", "recipe.monitor=raw")
CASES = {
    "published": (*PUBLISHED, "recipe.sampling.strategy=random", "recipe.keep=last"),
    "corrected": ("recipe.tiling=conic40_corrected",),
}


@pytest.mark.parametrize("case", CASES)
def test_trains_and_evaluates(command_here, root, tmp_path, cache, case):
    words = ("--dataset", "conic", "--data-root", root, "--preset", "debug", "--device", "cpu")
    line = ("--method", "cellvta", "--cache", cache, "--results", tmp_path, *words, *CASES[case])
    done = command_here("run", *line, results=tmp_path, data=False)
    assert done.returncode == 0, done.stderr
    (file,) = tmp_path.rglob("metrics.json")
    stored = json.loads(file.read_text())
    assert stored["n_images"] == 3 and 0 <= stored["val_bPQ"] <= 1
    assert stored["identity"]["recipe"]["tiling"] == CASES[case][0].partition("=")[2]
    assert stored["best_epoch"] == 1 or case == "corrected"
    assert 0.3 < stored["ceiling"]["bPQ"] < 1
    assert json.loads((file.parent / "config.json").read_text())["mpp"] == 0.5


def test_random_tiles_need_a_tiling():
    spec = registry.parse("cellvta@debug")
    with pytest.raises(InputError, match=r"set recipe\.tiling=conic40 too"):
        recipe_for(config.load("main"), spec, {"validation": "random_tiles"})


def test_images_that_cannot_be_tiled_are_refused():
    with pytest.raises(InputError, match="found 64 x 63"):
        tiled.predict(None, torch.zeros(1, 3, 64, 63), "conic40")
