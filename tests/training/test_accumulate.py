"""`recipe.accumulate`: the gradients of the whole batch, from parts of it."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from benchmark.methods import registry
from benchmark.methods.base import Phase
from benchmark.runtime import distributed
from benchmark.runtime.errors import InputError
from benchmark.training import accumulate, compiled, loop, recompute
from benchmark.training.recipe import Recipe
from benchmark.training.scales import SCALES
from tests.support import method_checks as checks

CPU = torch.device("cpu")
TRAINED = [name for name in registry.method_names() if registry.method_class(name).trainable]


def norms(method) -> list[nn.Module]:
    return [module for module in method.modules() if isinstance(module, _BatchNorm)]


def ready(spec: str, statistics: bool = False):
    """A method in training mode, all of it trainable that can be; its batch norm fixed unless `statistics`."""
    method = checks.build(spec).train()
    if not statistics:
        for module in norms(method):
            module.eval()
    return method


def uneven(method, n: int = 5) -> tuple:
    """Images of which the parts hold different numbers of typed ones, known tissues and nuclei."""
    inputs, batch = checks.train_batch(method, n)
    batch["typed"] = torch.tensor([True, False, True, True, True][:n])
    batch["tissue"] = torch.tensor([0, 1, -1, -1, 2][:n])
    batch["np"][0], batch["tp"][0], batch["hv"][0] = 0, 0, 0
    return inputs, batch


def loss_of(method, outputs, batch):
    return sum(method.loss({k: v.float() for k, v in outputs.items()}, batch).values())


def gradients(method, inputs, batch, parts: int, precision: str = "fp32", model=None) -> dict:
    passes = accumulate.MicroBatches(model or method, inputs, parts, (0, 2, 0), precision)
    loss_of(method, passes.forward(), batch).backward()
    passes.backward()
    grads = {k: p.grad.clone() for k, p in method.named_parameters() if p.grad is not None}
    method.zero_grad(set_to_none=True)
    return grads


def distance(grads: dict, others: dict) -> float:
    """Relative norm of the difference of all gradients together."""
    assert [*grads] == [*others]
    flat, other = (torch.cat([v.flatten().double() for v in one.values()]) for one in (grads, others))
    return float((flat - other).norm() / other.norm())


@pytest.mark.parametrize("name", TRAINED)
def test_gradients_are_those_of_the_whole_batch(name):
    """Batch norm fixed; in float64, where rounding is small. The sum of the micro-batches' own losses would be another
    loss: its gradient is far off."""
    method = ready(f"{name}@debug").double()
    inputs, batch = uneven(method)
    inputs = inputs.double()
    whole = gradients(method, inputs, batch, 1)
    assert whole and distance(gradients(method, inputs, batch, 2), whole) < 1e-7
    assert distance(gradients(method, inputs, batch, 5), whole) < 1e-7
    for k in range(5):
        own = {key: value[k : k + 1] for key, value in batch.items()}
        (loss_of(method, method(inputs[k : k + 1]), own) / 5).backward()
    added = {k: p.grad.clone() for k, p in method.named_parameters() if p.grad is not None}
    assert distance(added, whole) > 0.05


def test_half_precision_and_blocks_that_are_computed_again():
    method = ready("cellvta@debug,drop_path=0.3")
    inputs, batch = uneven(method, 4)
    plain = gradients(method, inputs, batch, 2, "bf16")
    recompute.recompute_blocks(method, lambda line: None)
    again = gradients(method, inputs, batch, 2, "bf16")
    assert distance(again, plain) == 0


def test_batch_norm_sees_each_part_once():
    """Its running statistics are those of one pass over the parts in their order."""
    method, other = (ready("hovernet@debug", statistics=True) for _ in range(2))
    inputs, batch = uneven(method, 4)
    gradients(method, inputs, batch, 2)
    with torch.no_grad():
        for part in inputs.split(2):
            other(part)
    state, expected = method.state_dict(), other.state_dict()
    assert [*state] == [*expected] and all(torch.equal(state[k], expected[k]) for k in state)
    assert {int(module.num_batches_tracked) for module in norms(method)} == {2}


class Dropped(nn.Module):
    """What dropout leaves of the images, seen from outside."""

    def __init__(self):
        super().__init__()
        self.w, self.seen = nn.Parameter(torch.ones(())), []

    def forward(self, images):
        out = nn.functional.dropout(images, 0.5) * self.w
        self.seen.append(out.detach().clone())
        return {"a": out, "unused": self.w * images}


def test_both_passes_of_a_part_draw_the_same_random_numbers_and_each_part_its_own():
    images, runs = torch.ones(4, 3, 8, 8), []
    for outer in (1, 2):  # whatever was drawn before
        torch.manual_seed(outer)
        model = Dropped()
        passes = accumulate.MicroBatches(model, images, 2, (0, 2, 7, 0, 3), "fp32")
        (passes.forward()["a"] ** 2).sum().backward()
        passes.backward()
        runs.append((model.seen, model.w.grad))
        first, second, *again = model.seen
        assert len(again) == 2 and torch.equal(first, again[0]) and torch.equal(second, again[1])
        assert not torch.equal(first, second)
        assert model.w.grad == 2 * ((first**2).sum() + (second**2).sum())
    assert all(map(torch.equal, runs[0][0], runs[1][0])) and runs[0][1] == runs[1][1]
    other = accumulate.MicroBatches(Dropped(), images, 2, (0, 2, 8, 0, 3), "fp32").forward()["a"]
    assert not torch.equal(other[:2], runs[0][0][0]), "another epoch"


def test_one_part_is_the_plain_pass():
    torch.manual_seed(3)
    expected = nn.functional.dropout(torch.ones(4, 3, 8, 8), 0.5)
    torch.manual_seed(3)
    model = Dropped()
    passes = accumulate.MicroBatches(model, torch.ones(4, 3, 8, 8), 1, (0,), "fp32")
    outputs = passes.forward()
    assert torch.equal(outputs["a"], expected) and outputs["a"].grad_fn is not None
    outputs["a"].sum().backward()
    passes.backward()
    assert model.w.grad == expected.sum() and len(model.seen) == 1


def test_processes_average_their_gradients_once(tmp_path, monkeypatch):
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        method = ready("cellvit@debug")
        model, alone = DistributedDataParallel(method, find_unused_parameters=True), []
        for module in norms(method):
            module.eval()
        real = model.no_sync
        monkeypatch.setattr(model, "no_sync", lambda: alone.append(1) or real())
        inputs, batch = uneven(method, 4)
        whole = gradients(method, inputs, batch, 1)
        assert distance(gradients(method, inputs, batch, 3, model=model), whole) < 1e-5
        assert len(alone) == 2
    finally:
        torch.distributed.destroy_process_group()


def test_in_what_an_update_differs_is_said():
    method, plain = registry.build("cellvit@debug", 2, 0), nn.Linear(1, 1)
    differences = accumulate.differences
    assert differences(method, 16, 1, 1) == differences(plain, 16, 1, 4) == ""
    assert (
        differences(method, 16, 1, 4) == "of the 16 images of an update, batch norm has the statistics of 4 at a time"
    )
    assert differences(method, 16, 2, 2) == (
        "of the 16 images of an update, batch norm has the statistics of 4 at a time and "
        "the loss is the mean of 2 processes', each over its own 8"
    )
    assert differences(plain, 16, 2, 1) == (
        "of the 16 images of an update, the loss is the mean of 2 processes', each over its own 8"
    )


def test_more_parts_than_images_are_refused():
    phases = [Phase(0.0, "all"), Phase(0.5, "all", batch_scale=0.25)]
    with pytest.raises(
        InputError, match=r"accumulate is 4, but a process has 2 images per update; set it to at most 2"
    ):
        loop.check_batches(phases, Recipe(batch=8, accumulate=4), 100, distributed.World(0, 1, CPU))
    with pytest.raises(InputError, match=r"a process has 1 image per update"):
        loop.check_batches(phases[:1], Recipe(batch=4, accumulate=2), 100, distributed.World(0, 4, CPU))
    loop.check_batches(phases, Recipe(batch=8, accumulate=2), 100, distributed.World(0, 1, CPU))


def test_compiled_blocks_are_tried_with_a_part(monkeypatch):
    shapes = []

    class Seen(nn.Module):
        def forward(self, images):
            shapes.append(tuple(images.shape))
            return {"a": images * self.w}

    method = Seen()
    method.w = nn.Parameter(torch.ones(()))
    method.input_side, method.blocks = (lambda side: side), (lambda: [])
    recipe = replace(SCALES["debug"], batch=12, accumulate=3, crop=16)
    world = SimpleNamespace(device=CPU, size=2, gather=lambda value: [value])
    compiled.compile_blocks(method, recipe, "fp32", world, lambda line: None)
    assert shapes == [(2, 3, 16, 16)]
