"""`recipe.compile`: the same results within rounding, a fallback with its reason, and no trace of the trial."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmark.data.registry import dataset
from benchmark.data.store.prepare import prepare
from benchmark.methods import registry
from benchmark.runtime import distributed
from benchmark.runtime.precision import autocast
from benchmark.training import compiled
from benchmark.training.accumulate import MicroBatches
from benchmark.training.loader import training_loader
from benchmark.training.outputs import comparable
from benchmark.training.scales import SCALES
from tests.support.tiny_data import TINY

CPU = distributed.World(0, 1, torch.device("cpu"))


@pytest.fixture(autouse=True)
def without_code(monkeypatch):
    """Graphs are run by torch's own operators: no compiler is needed."""
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def step(method, images):
    """Outputs and gradients of one step in training mode."""
    torch.manual_seed(1)
    outputs = method.train()(images)
    sum(v.square().mean() for v in outputs.values()).backward()
    grads = {k: p.grad.clone() for k, p in method.named_parameters() if p.grad is not None}
    method.zero_grad(set_to_none=True)
    return outputs, grads


@pytest.mark.parametrize(
    ("spec", "backend"),
    [("cellvta@debug", "eager"), ("hovernet@debug", "eager"), ("cellvit@debug", "aot_eager")],  # the last: backward too
)
def test_every_block_compiles_and_gives_the_same(spec, backend, monkeypatch):
    monkeypatch.setattr(compiled, "BACKEND", backend)
    lines, recipe = [], replace(SCALES["debug"], batch=2)
    plain, method = (registry.build(spec, 3, 2) for _ in range(2))
    method.load_state_dict(plain.state_dict())
    for one in (plain, method):
        one.set_tune(one.phases(False)[0].tune)
    images = torch.rand(2, 3, plain.input_side(64), plain.input_side(64))
    random = torch.get_rng_state()
    outcome = compiled.compile_blocks(method, recipe, "fp32", CPU, lines.append)
    assert torch.equal(random, torch.get_rng_state())
    blocks = method.blocks()
    assert len(blocks) > 5 and outcome == f"blocks compiled: {len(blocks)}" and lines == [outcome]
    assert all(block._compiled_call_impl is not None for block in blocks)
    assert method.training == plain.training and all(p.grad is None for p in method.parameters())
    state = plain.state_dict()
    assert [*state] == [*method.state_dict()] and all(torch.equal(state[k], v) for k, v in method.state_dict().items())
    (outputs, grads), (expected, expected_grads) = step(method, images), step(plain, images)
    for name, values in expected.items():
        torch.testing.assert_close(outputs[name], values, rtol=1e-4, atol=1e-5)
    assert [*grads] == [*expected_grads]
    for name, values in expected_grads.items():
        assert (grads[name] - values).norm() <= 1e-3 * values.norm() + 1e-6, name


class Unfit(nn.Module):
    """Two blocks, of which one asks a tensor for its value: no single graph can hold that."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)), Asking()

    def input_side(self, side):
        return side

    def blocks(self):
        return [self.first, self.second]

    def forward(self, images):
        return {"a": self.second(self.first(images))}


class Asking(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum().item() > 0 else x


def test_what_cannot_be_compiled_runs_as_it_is_and_says_why():
    method, lines = Unfit(), []
    before = {k: v.clone() for k, v in method.state_dict().items()}
    outcome = compiled.compile_blocks(method, replace(SCALES["debug"], crop=16), "fp32", CPU, lines.append)
    assert outcome.startswith("blocks compiled: 0, ") and "data-dependent" in outcome.lower() and lines == [outcome]
    assert all(block._compiled_call_impl is None for block in method.blocks())
    assert all(torch.equal(before[k], v) for k, v in method.state_dict().items())
    assert method(torch.rand(1, 3, 16, 16))["a"].shape == (1, 2, 16, 16)


class Other(distributed.World):
    """The first of two processes, whose other one could not compile."""

    def gather(self, value):
        return [value, "Refused: there"]


def test_all_processes_take_the_same_way(monkeypatch):
    method, world = Unfit(), Other(0, 2, CPU.device)
    monkeypatch.setattr(method, "second", nn.ReLU())
    outcome = compiled.compile_blocks(method, SCALES["debug"], "fp32", world, lambda line: None)
    assert outcome == "blocks compiled: 0, Refused: there"
    assert compiled.compile_blocks(method, SCALES["debug"], "fp32", CPU, lambda line: None) == "blocks compiled: 2"
    assert compiled.compile_blocks(method, SCALES["debug"], "fp32", world, lambda line: None) == outcome
    assert all(block._compiled_call_impl is None for block in method.blocks())


@pytest.mark.parametrize("graph", [False, True])
def test_blocks_are_compiled_as_they_will_run(graph, monkeypatch):
    """Graphs are captured without autocast's cache, and a block is compiled for one of the two."""
    compilations = []
    monkeypatch.setattr(compiled, "BACKEND", lambda module, inputs: compilations.append(module) or module.forward)
    method, recipe = Unfit(), replace(SCALES["debug"], graph=graph)
    monkeypatch.setattr(method, "second", nn.ReLU())
    assert compiled.compile_blocks(method, recipe, "bf16", CPU, print) == "blocks compiled: 2"
    counts = []
    for keep in (not graph, graph):
        with autocast("bf16", CPU.device, keep):
            method(torch.rand(recipe.batch, 3, recipe.crop, recipe.crop))
        counts.append(len(compilations))
    assert counts[0] == 2 < counts[1]


@pytest.mark.parametrize("spec", ["cellvta@debug", "hovernet@debug", "cellvta@debug,instances=stardist"])
def test_the_loss_is_compiled_and_the_same(spec, cache):
    data = prepare(dataset(TINY, None), cache, 1, progress=False)
    recipe = replace(SCALES["debug"], samples=4, batch=2, workers=0)
    method = registry.build(spec, len(data.classes), len(data.tissues))
    feed = training_loader(data.subset(1, "train"), method, recipe, data, 0, CPU, 2)
    batch = next(iter(feed))
    plain = method.loss
    with torch.no_grad():
        outputs = comparable(method.train()(batch["image"]), batch, recipe.crop)
    outcome = compiled.compile_blocks(method, recipe, "fp32", CPU, print, feed.dataset[0, 0, 0])
    assert outcome == f"blocks compiled: {len(method.blocks())}, and the loss" and method.loss != plain
    expected = plain(outputs, batch)
    for name, value in method.loss(outputs, batch).items():
        torch.testing.assert_close(value, expected.pop(name))
    assert not expected
    compiled.compile_blocks(method, recipe, "fp32", CPU, print)  # as for a next phase
    assert method.loss == plain


class UnfitLoss(Unfit):
    def loss(self, outputs, batch):
        return {"a": Asking()(outputs["a"]).sum()}


def test_a_loss_that_cannot_be_compiled_is_left_with_the_blocks():
    method = UnfitLoss()
    method.second = nn.ReLU()
    item, lines = {"np": torch.zeros(16, 16)}, []
    outcome = compiled.compile_blocks(method, replace(SCALES["debug"], crop=16), "fp32", CPU, lines.append, item)
    assert outcome.startswith("blocks compiled: 0, ") and lines == [outcome]
    assert all(block._compiled_call_impl is None for block in method.blocks())


def test_images_of_any_size_are_evaluated_without_compiling(monkeypatch):
    """Of a set of whole fields every image may have a size of its own; torch limits the graphs of a function."""
    compilations = []
    monkeypatch.setattr(compiled, "BACKEND", lambda module, inputs: compilations.append(module) or module.forward)
    method, recipe = registry.build("cellvta@debug,drop_path=0.4", 3, 2), replace(SCALES["debug"], batch=2)
    plain = registry.build("cellvta@debug,drop_path=0.4", 3, 2)
    plain.load_state_dict(method.state_dict())
    assert compiled.compile_blocks(method, recipe, "fp32", CPU, print).startswith("blocks compiled: 2")
    count = len(compilations)
    assert count
    for side in (64, 80, 96):
        images = torch.rand(1, 3, side, side)
        with torch.inference_mode():
            expected = plain.eval().predict(images)
            assert all(torch.equal(values, expected[k]) for k, values in method.eval().predict(images).items())
    assert len(compilations) == count


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_trial_is_of_the_batches_that_follow(cache, accumulate, monkeypatch):
    """Also where a phase has other batches than the recipe, and the loss sees several micro-batches at once."""
    data = prepare(dataset(TINY, None), cache, 1, progress=False)
    compilations = []
    monkeypatch.setattr(compiled, "BACKEND", lambda module, inputs: compilations.append(module) or module.forward)
    recipe = replace(SCALES["debug"], samples=4, batch=2, workers=0, accumulate=accumulate)
    method = registry.build("cellvta@debug", len(data.classes), len(data.tissues))
    feed = training_loader(data.subset(1, "train"), method, recipe, data, 0, CPU, 4)
    compiled.compile_blocks(method, recipe, "fp32", CPU, print, feed.dataset[0, 0, 0], 4)
    count, batch = len(compilations), next(iter(feed))
    passes = MicroBatches(method.train(), batch["image"], accumulate, (0,), "fp32", True)
    sum(method.loss(comparable(passes.forward(), batch, recipe.crop), batch).values()).backward()
    passes.backward()
    assert len(batch["image"]) == 4
    # for the first pass over micro-batches, which keeps nothing for gradients, blocks are compiled once more, no loss
    assert len(compilations) == count if accumulate == 1 else count < len(compilations) < 2 * count
