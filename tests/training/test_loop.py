"""The training loop on one weight, whose course is known: learning rate, clipping, EMA, selection, patience."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmark.methods.base import Phase
from benchmark.metrics.match import match
from benchmark.metrics.records import Records
from benchmark.representations.named import representation
from benchmark.results.run_folder import RunFolder
from benchmark.runtime import distributed
from benchmark.runtime.errors import InputError
from benchmark.training import compiled, loop, optim, validation
from benchmark.training.recipe import Optimiser, Recipe, Schedule
from benchmark.training.state import PLAIN, TrainState

RECIPE = Recipe(
    epochs=3,
    batch=2,
    samples=4,
    crop=16,
    optimiser=Optimiser("sgd", lr=0.1, betas=(0.0, 0.0), weight_decay=0.0),
    schedule=Schedule("exponential", gamma=0.5),
)


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

    @property
    def dataset(self):
        return {(0, 0, 0): {name: values[0] for name, values in self[0].items()}}


class Data:
    name, classes = "four", ()

    def subset(self, fold, side):
        return type("Side", (list,), {"shapes": [(16, 16)] * 4})([0, 0, 0, 0])


def job_in(folder, recipe=RECIPE, pretrained=""):
    return loop.Job(
        data=Data(),
        split=1,
        seed=0,
        recipe=recipe,
        folder=RunFolder(folder),
        world=distributed.start("cpu"),
        key="k",
        pretrained=pretrained,
        published=False,
        say=lambda line: None,
    )


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
    trained = loop.train(method or OneWeight(), job_in(folder, replace(RECIPE, **changes), pretrained))
    log = [json.loads(line) for line in RunFolder(folder).log.read_text().splitlines()]
    assert feed.batch_sampler.epoch == log[-1]["epoch"], "every epoch has draws of its own"
    return trained, log, safetensors.torch.load_file(RunFolder(folder).weights)["w"].item(), seen


def test_learning_rate_and_clipping(tmp_path, monkeypatch):
    _, log, saved, seen = run(tmp_path, monkeypatch, [0.1, 0.2, 0.3])
    assert [line["lr"] for line in log] == pytest.approx([0.1, 0.05, 0.025])
    assert seen == pytest.approx([0.8, 0.7, 0.65]) and saved == pytest.approx(0.65)
    assert log[0]["loss"] == pytest.approx((4 * 1 + 4 * 0.9) / 2)
    assert run(tmp_path / "free", monkeypatch, [0.1] * 3, clip=0.0)[2] == pytest.approx(1 - 4 * 0.35)


class Pair(distributed.World):
    """The first of two processes; the other one's terms are three times as large, and its share has no image."""

    def gather(self, value):
        return [value, {name: 3 * one for name, one in value.items()}] if isinstance(value, dict) else [value]


def test_the_log_has_the_mean_of_all_processes(tmp_path, monkeypatch):
    *_, alone = run(tmp_path / "alone", monkeypatch, [0.1, 0.2, 0.3])[1]
    monkeypatch.setattr(distributed, "start", lambda device: Pair(0, 1, torch.device(device)))
    *_, shared = run(tmp_path / "shared", monkeypatch, [0.1, 0.2, 0.3])[1]
    assert shared["terms"] == {name: pytest.approx(2 * one) for name, one in alone["terms"].items()}
    assert shared["loss"] == pytest.approx(2 * alone["loss"])


def test_an_update_in_parts_is_that_of_the_whole_batch(tmp_path, monkeypatch):
    lines = []
    monkeypatch.setattr("tests.training.test_loop.job_in", saying(lines))
    whole, parts = (run(tmp_path / str(n), monkeypatch, [0.1, 0.2, 0.3], accumulate=n) for n in (1, 2))
    assert parts[2] == pytest.approx(whole[2]) and parts[3] == pytest.approx(whole[3])
    assert [line["loss"] for line in parts[1]] == pytest.approx([line["loss"] for line in whole[1]])
    assert not any("of the 2 images" in line for line in lines), "it has no batch norm"
    method = OneWeight()
    method.norm = nn.BatchNorm2d(1)
    run(tmp_path / "norm", monkeypatch, [0.1, 0.2, 0.3], method, accumulate=2)
    assert [line for line in lines if "of the" in line and "images" in line] == [
        "of the 2 images of an update, batch norm has the statistics of 1 at a time"
    ]


def saying(lines):
    real = job_in
    return lambda *args: replace(real(*args), say=lines.append)


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
    trained, _, saved, _ = run(tmp_path / "last", monkeypatch, [0.3, 0.2, 0.1], keep="last")
    assert (trained.best_epoch, trained.best_bpq) == (2, 0.1) and saved == pytest.approx(0.65)


def test_validation_every_other_epoch_and_after_the_last(tmp_path, monkeypatch):
    _, log, _, seen = run(tmp_path, monkeypatch, [0.1, 0.2], eval_every=2)
    assert ["val_bPQ" in line for line in log] == [False, True, True] and seen == pytest.approx([0.7, 0.65])


@pytest.mark.parametrize("keep", ["best", "last"])
def test_the_moving_average_is_judged_and_kept(tmp_path, monkeypatch, keep):
    _, _, saved, seen = run(tmp_path, monkeypatch, [0.1, 0.2, 0.3], ema=0.5, keep=keep)
    # timm's warm-up: the first two updates are copied, then the decay grows as 1 - (1 + t)^(-2/3) up to 0.5
    third = 1 - 2 ** (-2 / 3)
    average = [0.8, third * 0.8 + (1 - third) * 0.75]
    for weight in (0.7, 0.675, 0.65):
        average.append((average[-1] + weight) / 2)
    assert seen == pytest.approx([average[0], average[2], average[4]], abs=1e-6)
    assert saved == pytest.approx(average[4], abs=1e-6)


def test_a_killed_training_goes_on_where_it_stood(tmp_path, monkeypatch):
    options = {"ema": 0.5, "optimiser": Optimiser("sgd", lr=0.1, betas=(0.5, 0.5), weight_decay=0.0)}
    _, log, saved, seen = run(tmp_path / "whole", monkeypatch, [0.1, 0.2, 0.3], **options)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", monkeypatch, [0.1, 0.2, None], **options)
    _, again, same, rest = run(tmp_path / "cut", monkeypatch, [0.3], **options)
    assert (same, rest) == (saved, seen[2:]) and [line["loss"] for line in again] == [line["loss"] for line in log]
    *_, anew = run(tmp_path / "cut", monkeypatch, [0.1, 0.2, 0.3], pretrained="another encoder", **options)
    assert anew == seen, "a checkpoint that began with other weights is not resumed"


@pytest.mark.parametrize("damage", ["a bit", "removed"])
def test_damaged_weights_of_the_best_epoch_are_not_gone_on_with(tmp_path, monkeypatch, damage):
    """The best epoch is the first: nothing would have replaced its weights after the resumption."""
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, monkeypatch, [0.3, 0.2, None])
    weights = RunFolder(tmp_path).weights
    whole = weights.read_bytes()
    weights.unlink()
    if damage == "a bit":
        weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    _, log, saved, seen = run(tmp_path, monkeypatch, [0.3, 0.2, 0.1])
    assert len(log) == len(seen) == 3 and saved == pytest.approx(0.8) and weights.read_bytes() == whole


@pytest.mark.parametrize("where", ["before the checkpoint", "before the rename"])
def test_a_kill_while_weights_of_a_better_epoch_are_stored(tmp_path, monkeypatch, where):
    """The second epoch is the best. The weights that the checkpoint names are there in either case."""
    *_, whole = run(tmp_path / "whole", monkeypatch, [0.1, 0.3, 0.2])
    replace_file, write, calls = loop.os.replace, loop.checkpoint.save, []

    def kill(call):
        def killed(*arguments):
            if Path(arguments[0]).name in ("weights-next.safetensors", "checkpoint.pt"):
                calls.append(arguments)
                if len(calls) == 2:
                    raise KeyboardInterrupt
            return call(*arguments)

        return killed

    with monkeypatch.context() as patch:
        if where == "before the checkpoint":
            patch.setattr(loop.checkpoint, "save", kill(write))
        else:
            patch.setattr(loop.os, "replace", kill(replace_file))
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "cut", monkeypatch, [0.1, 0.3], eval_every=1)
    values = [0.3, 0.2] if where == "before the checkpoint" else [0.2]
    trained, _, saved, rest = run(tmp_path / "cut", monkeypatch, values)
    assert rest == whole[-len(values) :] and trained.best_epoch == 1 and saved == pytest.approx(0.7)
    assert not RunFolder(tmp_path / "cut").next_weights.exists()


@pytest.mark.parametrize(("monitor", "expected"), [("raw", 0.75 / 2), ("protocol", 0.75)])
def test_what_an_epoch_is_selected_by(monkeypatch, monitor, expected):
    """IoU 3 / 4 in the first image; the second has no nucleus, and one is predicted: left out, or 0 when raw."""
    true, pred, none = np.zeros((8, 8), int), np.zeros((8, 8), int), np.zeros((8, 8), int)
    true[2:6, 2:6], pred[2:6, 2:5] = 1, 1
    matches = [match(true, [1], pred, [1], mpp=0.25), match(none, [], pred, [1], mpp=0.25)]
    records = Records.collect(matches, [{"image": i} for i in range(2)])
    monkeypatch.setattr(validation.test_set, "evaluate", lambda *_, **__: None)
    monkeypatch.setattr(validation.test_set, "join", lambda _: SimpleNamespace(records=records))
    method, data = SimpleNamespace(has_types=True), SimpleNamespace(classes=("one",))
    bpq = validation.validate(method, None, RECIPE.prediction, distributed.start("cpu"), data, monitor)
    assert bpq == pytest.approx(expected, abs=2e-6)
    records = Records.collect(matches[1:], [{"image": 0}])  # no nucleus in the truth at all
    empty = validation.validate(method, None, RECIPE.prediction, distributed.start("cpu"), data, monitor)
    assert empty == (0.0 if monitor == "raw" else None)


@pytest.mark.filterwarnings("error")
def test_the_ceiling_of_images_without_nuclei_is_no_value(monkeypatch):
    none = np.zeros((8, 8), int)
    records = Records.collect([match(none, [], none, [], mpp=0.25)], [{"image": 0}])
    monkeypatch.setattr(validation.test_set.scoring, "collect", lambda _: records)
    ceiling = validation.test_set.ceiling(SimpleNamespace(representation=None), [], 1, RECIPE.prediction)
    assert np.isnan(ceiling["bPQ"])


def test_a_phase_scales_the_batch():
    assert [loop.batch_of(Phase(0.0, "all", batch_scale=s), Recipe(batch=8)) for s in (1, 0.5, 0.01)] == [8, 4, 1]


def test_optimisers_by_name():
    for name, cls in (("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)):
        chosen = optim.optimiser(OneWeight(), Optimiser(name, lr=0.1, betas=(0.7, 0.8), weight_decay=0.5))
        (group,) = chosen.param_groups
        assert type(chosen) is cls and (group["initial_lr"], group["weight_decay"]) == (0.1, 0.5)
        assert group["momentum"] == 0.7 if name == "sgd" else group["betas"] == (0.7, 0.8)


class Runaway(OneWeight):
    """Its loss is infinite from the second update on."""

    updates = 0

    def loss(self, outputs, batch):
        self.updates += 1
        return {"a": outputs["a"].mean() * (1 if self.updates < 2 else torch.inf), "b": self.w.detach() * 2}


@pytest.mark.parametrize(("every", "updates"), [(1, 2), (50, 4), (3, 3)])
def test_a_loss_that_is_not_finite_ends_the_training(tmp_path, monkeypatch, every, updates):
    """At once on a CPU, after some updates or at the epoch's end where the device would have to be waited for; the
    update that is named is the first, and nothing of the epoch is kept."""
    monkeypatch.setitem(loop.LOOK_EVERY, "cpu", every)
    feed, method = Feed([{"image": torch.full((2, 1, 2, 2), 4.0)}] * 4), Runaway()
    monkeypatch.setattr(loop.loader, "training_loader", lambda *_: feed)
    with pytest.raises(InputError) as caught:
        loop.train(method, job_in(tmp_path))
    assert str(caught.value).startswith("The loss became inf in epoch 1, update 2 (a inf, b 1.8);")
    assert method.updates == updates and not list(tmp_path.iterdir())
    if every == 1:
        assert method.w.item() == pytest.approx(0.9), "the update is not made"


def test_nothing_is_read_back_within_an_epoch_but_where_it_is_meant(tmp_path, monkeypatch):
    """How often values are read from the device does not grow with the number of updates."""

    class Reads(TorchDispatchMode):
        count = 0

        def __torch_dispatch__(self, op, types, args=(), kwargs=None):
            self.count += op is torch.ops.aten._local_scalar_dense.default
            return op(*args, **(kwargs or {}))

    monkeypatch.setitem(loop.LOOK_EVERY, "cpu", 50)
    job, counts = job_in(tmp_path, replace(RECIPE, ema=0.5)), []
    for updates in (2, 20, 120):
        method = OneWeight()
        state = TrainState.new(method, job.recipe, "fp32", job.world.device)
        feed = Feed([{"image": torch.full((2, 1, 2, 2), 1e-3)}] * updates)
        with Reads() as reads:
            line = loop.train_epoch(state, loop.ActivePhase(feed, method, 0), 0, job)
        counts.append(reads.count)
        assert line["terms"].keys() == {"a"} and line["loss"] > 0
    assert counts[0] == counts[1] == counts[2] - 2, "two looks at updates 50 and 100"


def test_a_state_goes_through_a_checkpoint_unchanged(tmp_path):
    recipe = replace(RECIPE, ema=0.5, optimiser=Optimiser("adamw", lr=0.1))
    job = job_in(tmp_path, recipe)
    method = OneWeight()
    state = TrainState.new(method, recipe, "fp32", job.world.device)
    feed = Feed([{"image": torch.full((2, 1, 2, 2), 4.0)}] * 3)
    state.log.append(loop.train_epoch(state, loop.ActivePhase(feed, method, 0), 0, job))
    state.epoch, state.seconds, state.phase = 1, 2.5, 1
    assert state.update_best(0, 0.25) and not state.update_best(1, 0.2)
    loop.save(state, job)

    again = TrainState.new(OneWeight(), recipe, "fp32", job.world.device)
    loop.resume(again, job)
    plain = {name: getattr(state, name) for name in PLAIN}
    assert {name: getattr(again, name) for name in PLAIN} == plain
    assert plain | {"log": []} == {
        "phase": 1, "epoch": 1, "best_epoch": 0, "best_bpq": 0.25, "stale": 1, "log": [], "seconds": 2.5, "weights": ""
    }  # fmt: skip
    assert json.dumps(again.state_dict(), default=repr) == json.dumps(state.state_dict(), default=repr)
    assert again.method.w.item() == state.method.w.item() != again.judged.w.item() == state.judged.w.item()


def test_a_validation_without_nuclei_has_no_value_and_keeps_the_last_epoch():
    """It was logged as 0.0000."""
    state = TrainState(None, None, None, None)
    assert [state.update_best(epoch, None) for epoch in range(3)] == [True] * 3
    assert (state.best_epoch, state.best_bpq, state.stale) == (2, None, 0)
    state.log, state.epoch = [{"epoch": 2, "loss": 1.0, "val_bPQ": None}], 3
    assert "loss 1.0000, validation bPQ no value, " in loop._progress(state, 3)
    assert state.update_best(3, 0.1) and not state.update_best(4, None)


class OneBlock(OneWeight):
    """`OneWeight`, compiled as a whole."""

    def input_side(self, side):
        return side

    def blocks(self):
        return [self]


def test_the_loop_trains_compiled_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    plain = run(tmp_path / "plain", monkeypatch, [0.1, 0.2, 0.3], OneBlock())
    other = run(tmp_path / "compiled", monkeypatch, [0.1, 0.2, 0.3], OneBlock(), compile=True)
    assert plain[0].outcomes == {} and other[0].outcomes == {"compile": "blocks compiled: 1, and the loss"}
    assert other[2] == pytest.approx(plain[2]) and other[3] == pytest.approx(plain[3])
    again = run(tmp_path / "compiled", monkeypatch, [], OneBlock(), compile=True)
    assert again[0].outcomes == {"compile": "no epoch was left to train"}


def test_the_provenance_says_where_the_same_bits_cannot_be_had():
    def outcome(name, device, recipe=RECIPE):
        method = SimpleNamespace(representation=representation(name))
        return loop.not_deterministic(method, recipe, torch.device(device))

    assert outcome("cpp", "cuda")["deterministic"].startswith("not with instances=cpp: ")
    assert outcome("cpp", "cpu") == outcome("stardist", "cuda") == {}
    assert outcome("cpp", "cuda", replace(RECIPE, deterministic=False)) == {}, "nor was it asked for"


@pytest.mark.parametrize("deterministic", [True, False])
def test_the_kernels_that_the_recipe_asks_for(tmp_path, monkeypatch, deterministic):
    run(tmp_path, monkeypatch, [0.1, 0.2, 0.3], deterministic=deterministic)
    assert torch.are_deterministic_algorithms_enabled() == deterministic
    assert torch.backends.cudnn.deterministic == deterministic and torch.backends.cudnn.benchmark != deterministic
    assert not deterministic or torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.empty(1000).isnan().all(), "new memory is not filled with NaN; left-over bits may be one"
