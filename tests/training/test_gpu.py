"""Training and evaluation on a GPU; without one every test here skips. Run by `perf/gpu_check.sh check`."""

import warnings
from dataclasses import replace

import pytest
import torch

from benchmark.data.registry import dataset
from benchmark.data.store.prepare import prepare
from benchmark.evaluation import test_set
from benchmark.evaluation.prediction import Prediction
from benchmark.methods import registry
from benchmark.results.run_folder import RunFolder
from benchmark.runtime import distributed
from benchmark.training import loop
from benchmark.training.scales import SCALES
from benchmark.training.state import TrainState
from tests.support.tiny_data import TINY

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.fixture(scope="module")
def data(cache):
    return prepare(dataset(TINY, None), cache, 1, progress=False)


def epoch(data, folder, precision="fp32", name="cellvta@debug", **changes):
    """(line of the log, weights, outcomes) of one epoch on the GPU."""
    changes = {"samples": 16, "precision": precision, "pretrain": 0} | changes
    recipe, world = replace(SCALES["debug"], **changes), distributed.start("cuda")
    torch.manual_seed(0)
    method = registry.build(name, len(data.classes), len(data.tissues)).to(world.device)
    job = loop.Job(data, 1, 0, recipe, RunFolder(folder), world, "k", "", False, print)
    loop.choose_kernels(recipe.deterministic)
    state = TrainState.new(method, recipe, job.precision, world.device)
    active = loop.enter(state, method.phases(False), 0, [0], data.subset(1, "train"), job)
    line = loop.train_epoch(state, active, 0, job)
    return line, {k: v.cpu() for k, v in method.state_dict().items()}, active.outcomes


@pytest.mark.parametrize("name", ["cellvta@debug", "cellvit@debug", "hovernet@debug"])
def test_deterministic_gives_the_same_bits(data, tmp_path, name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # an operator without a deterministic kernel is allowed to say so
        (first, weights, _), (again, other, _) = (epoch(data, tmp_path, name=name) for _ in range(2))
    assert first == again and all(torch.equal(weights[k], other[k]) for k in weights)


def test_fast_kernels_and_half_precision_train_alike(data, tmp_path):
    exact = epoch(data, tmp_path)[0]["loss"]
    assert epoch(data, tmp_path, deterministic=False)[0]["loss"] == pytest.approx(exact, rel=2e-2)
    assert epoch(data, tmp_path, "bf16", deterministic=False)[0]["loss"] == pytest.approx(exact, rel=0.1)


def test_compiled_blocks_train_alike(data, tmp_path):
    line, _, outcomes = epoch(data, tmp_path, compile=True)
    assert outcomes["compile"].startswith("blocks compiled: 22"), outcomes
    assert line["loss"] == pytest.approx(epoch(data, tmp_path)[0]["loss"], rel=2e-2)


@pytest.mark.parametrize("name", ["cellvta@debug", "cellvit@debug", "hovernet@debug"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_graphs_train_alike(data, tmp_path, name, precision):
    line, weights, outcomes = epoch(data, tmp_path, precision, name=name, graph=True)
    assert outcomes["graph"].startswith("network graphed for batches of "), outcomes
    expected, others, _ = epoch(data, tmp_path, precision, name=name)
    assert line["loss"] == pytest.approx(expected["loss"], rel=1e-3)
    for key, values in others.items():
        torch.testing.assert_close(weights[key], values, rtol=1e-2, atol=1e-3, msg=key)


def test_the_loop_does_not_wait_for_the_device(data, tmp_path, monkeypatch):
    """Between two looks at the loss; the epoch's own start and end wait."""
    plain = loop.optim.lr_factor

    def watched(schedule, *position):
        torch.cuda.set_sync_debug_mode("error" if position[2] > 0 else "default")
        return plain(schedule, *position)

    check = loop.LossSums.check

    def looked(self, number):
        torch.cuda.set_sync_debug_mode("default")
        return check(self, number)

    monkeypatch.setattr(loop.optim, "lr_factor", watched)
    monkeypatch.setattr(loop.LossSums, "check", looked)
    try:
        epoch(data, tmp_path)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_evaluation_overlapped_is_that_of_one_batch_after_another(data):
    method = registry.build("cellvta@debug", len(data.classes), len(data.tissues)).eval()
    subset, shares, maps = data.subset(1, "test"), {}, {"cpu": [], "cuda": []}
    for device in maps:
        world = distributed.start(device)
        shares[device] = test_set.evaluate(
            method.to(world.device),
            subset,
            Prediction("fp32", "none", 2),
            world,
            True,
            put=lambda i, own, device=device: maps[device].append((i, {k: v.copy() for k, v in own.items()})),
        )
        assert shares[device].forward_seconds > 0
    assert [i for i, _ in maps["cuda"]] == [i for i, _ in maps["cpu"]] == list(range(len(subset)))
    for (_, one), (_, other) in zip(maps["cuda"], maps["cpu"]):
        for name in other:  # TF32 in convolutions
            torch.testing.assert_close(torch.tensor(one[name]), torch.tensor(other[name]), rtol=2e-2, atol=2e-2)
