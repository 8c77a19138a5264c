"""The training loop on one weight, whose course is known: learning rate, clipping, EMA, selection, patience."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from benchmark.methods.base import Phase
from benchmark.metrics.match import match
from benchmark.metrics.records import Records
from benchmark.results.run_folder import RunFolder
from benchmark.runtime import distributed
from benchmark.training import loop, optim


class OneWeight(nn.Module):
    """Its loss is 4 w, so that every gradient is 4, and 1 after clipping."""

    def __init__(self, *phases):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(1.0))
        self.tuned, self._phases = [], phases or (Phase(0.0, "all"),)

    def phases(self, published):
        return self._phases

    def set_tune(self, tune):
        self.tuned.append(tune)

    def groups(self, lr, weight_decay):
        return [{"params": [self.w], "lr": lr, "weight_decay": weight_decay}]

    def forward(self, image):
        assert self.training
        return {"a": self.w * image}

    def loss(self, outputs, batch):
        return {"a": outputs["a"].mean()}


class Feed(list):
    """Two batches an epoch."""

    class batch_sampler:
        epoch = -1


class Data:
    classes = ()

    def subset(self, fold, side):
        return [0, 0, 0, 0]


def run(folder, monkeypatch, values, method=None, pretrained="", **changes):
    """(Trained, log, saved weight, weights that validation saw) after three epochs of two updates."""
    feed, seen, values = Feed([{"image": torch.full((2, 1, 2, 2), 4.0)}] * 2), [], iter(values)
    monkeypatch.setattr(loop.loader, "training_loader", lambda *_: feed)

    def validate(method, *_):
        method.eval()
        value = next(values)
        if value is None:
            raise KeyboardInterrupt
        seen.append(method.w.item())
        return value

    monkeypatch.setattr(loop, "validate", validate)
    recipe = {
        "epochs": 3, "batch": 2, "samples": 4, "precision": "fp32", "ema": 0, "patience": 0, "eval_every": 1,
        "select": "best", "selection": "bPQ", "tiling": "none", "eval_batch": 1, "clip": 1.0, "crop": 2,
        "optimiser": {"name": "sgd", "lr": 0.1, "betas": [0.0], "weight_decay": 0.0},
        "schedule": {"name": "exponential", "gamma": 0.5},
    }  # fmt: skip
    told = {"key": "k", "pretrained": pretrained, "published": False, "say": lambda line: None}
    world = distributed.start("cpu")
    trained = loop.train(method or OneWeight(), Data(), 1, 0, recipe | changes, RunFolder(folder), world, **told)
    log = [json.loads(line) for line in RunFolder(folder).log.read_text().splitlines()]
    assert feed.batch_sampler.epoch == log[-1]["epoch"], "every epoch has draws of its own"
    return trained, log, safetensors.torch.load_file(RunFolder(folder).weights)["w"].item(), seen


def test_learning_rate_and_clipping(tmp_path, monkeypatch):
    _, log, saved, seen = run(tmp_path, monkeypatch, [0.1, 0.2, 0.3])
    assert [line["lr"] for line in log] == pytest.approx([0.1, 0.05, 0.025])
    assert seen == pytest.approx([0.8, 0.7, 0.65]) and saved == pytest.approx(0.65)
    assert log[0]["loss"] == pytest.approx((4 * 1 + 4 * 0.9) / 2)
    assert run(tmp_path / "free", monkeypatch, [0.1] * 3, clip=0)[2] == pytest.approx(1 - 4 * 0.35)


@pytest.mark.parametrize(("reset", "rates"), [(True, [0.1, 0.1, 0.05]), (False, [0.1, 0.05, 0.025])])
def test_a_second_phase_begins_anew_where_it_says_so(tmp_path, monkeypatch, reset, rates):
    method = OneWeight(Phase(0.0, "decoder"), Phase(1 / 3, "full", reset))
    _, log, saved, _ = run(tmp_path, monkeypatch, [0.1, 0.2, 0.3], method)
    assert method.tuned == ["decoder", "full"] and [line["phase"] for line in log] == [0, 1, 1]
    assert [line["lr"] for line in log] == pytest.approx(rates) and saved == pytest.approx(1 - 2 * sum(rates))


def test_a_tie_goes_to_the_later_epoch_and_patience_ends_the_training(tmp_path, monkeypatch):
    trained, _, saved, _ = run(tmp_path / "tie", monkeypatch, [0.3, 0.3, 0.2])
    assert (trained.best_epoch, trained.best_bpq, trained.epochs) == (1, 0.3, 3) and saved == pytest.approx(0.7)
    trained, _, saved, _ = run(tmp_path / "patience", monkeypatch, [0.3, 0.2, 0.9], patience=1)
    assert (trained.best_epoch, trained.epochs) == (0, 2) and saved == pytest.approx(0.8)
    trained, _, saved, _ = run(tmp_path / "last", monkeypatch, [0.3, 0.2, 0.1], select="last")
    assert (trained.best_epoch, trained.best_bpq) == (2, 0.1) and saved == pytest.approx(0.65)


def test_validation_every_other_epoch_and_after_the_last(tmp_path, monkeypatch):
    _, log, _, seen = run(tmp_path, monkeypatch, [0.1, 0.2], eval_every=2)
    assert ["val_bPQ" in line for line in log] == [False, True, True] and seen == pytest.approx([0.7, 0.65])


@pytest.mark.parametrize("select", ["best", "last"])
def test_the_moving_average_is_judged_and_kept(tmp_path, monkeypatch, select):
    _, _, saved, seen = run(tmp_path, monkeypatch, [0.1, 0.2, 0.3], ema=0.5, select=select)
    # timm's warm-up: the first two updates are copied, then the decay grows as 1 - (1 + t)^(-2/3) up to 0.5
    third = 1 - 2 ** (-2 / 3)
    average = [0.8, third * 0.8 + (1 - third) * 0.75]
    for weight in (0.7, 0.675, 0.65):
        average.append((average[-1] + weight) / 2)
    assert seen == pytest.approx([average[0], average[2], average[4]], abs=1e-6)
    assert saved == pytest.approx(average[4], abs=1e-6)


def test_a_killed_training_goes_on_where_it_stood(tmp_path, monkeypatch):
    options = {"ema": 0.5, "optimiser": {"name": "sgd", "lr": 0.1, "betas": [0.5], "weight_decay": 0.0}}
    _, log, saved, seen = run(tmp_path / "whole", monkeypatch, [0.1, 0.2, 0.3], **options)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", monkeypatch, [0.1, 0.2, None], **options)
    _, again, same, rest = run(tmp_path / "cut", monkeypatch, [0.3], **options)
    assert (same, rest) == (saved, seen[2:]) and [line["loss"] for line in again] == [line["loss"] for line in log]
    *_, anew = run(tmp_path / "cut", monkeypatch, [0.1, 0.2, 0.3], pretrained="another encoder", **options)
    assert anew == seen, "a checkpoint that began with other weights is not resumed"


@pytest.mark.parametrize(("selection", "expected"), [("raw", 0.75 / 2), ("bPQ", 0.75)])
def test_what_an_epoch_is_selected_by(monkeypatch, selection, expected):
    """IoU 3 / 4 in the first image; the second has no nucleus, and one is predicted: left out, or 0 when raw."""
    true, pred, none = np.zeros((8, 8), int), np.zeros((8, 8), int), np.zeros((8, 8), int)
    true[2:6, 2:6], pred[2:6, 2:5] = 1, 1
    matches = [match(true, [1], pred, [1], mpp=0.25), match(none, [], pred, [1], mpp=0.25)]
    records = Records.collect(matches, [{"image": i} for i in range(2)])
    monkeypatch.setattr(loop.test_set, "evaluate", lambda *_: None)
    monkeypatch.setattr(loop.test_set, "join", lambda _: SimpleNamespace(records=records))
    method, data = SimpleNamespace(has_types=True), SimpleNamespace(classes=("one",))
    found = loop.validate(method, None, None, distributed.start("cpu"), data, selection)
    assert found == pytest.approx(expected, abs=2e-6)


def test_a_phase_scales_the_batch():
    assert [loop.batch_of(Phase(0.0, "all", batch_scale=s), {"batch": 8}) for s in (1, 0.5, 0.01)] == [8, 4, 1]


def test_optimisers_by_name():
    plan = {"lr": 0.1, "betas": [0.7, 0.8], "weight_decay": 0.5}
    for name, cls in (("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)):
        made = optim.optimiser(OneWeight(), plan | {"name": name})
        (group,) = made.param_groups
        assert type(made) is cls and (group["initial_lr"], group["weight_decay"]) == (0.1, 0.5)
        assert group["momentum"] == 0.7 if name == "sgd" else group["betas"] == (0.7, 0.8)
