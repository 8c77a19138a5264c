"""`recipe.recompute`: less is kept for the backward pass, and not a bit is different."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmark.methods import registry
from benchmark.runtime import distributed
from benchmark.runtime.errors import InputError
from benchmark.runtime.precision import autocast
from benchmark.training import compiled
from benchmark.training.recompute import Recomputed, recompute_blocks
from benchmark.training.scales import SCALES
from tests.support import method_checks as checks

CPU = torch.device("cpu")
RANDOM = {"cellvta": ",drop_path=0.3", "cellvit": ",drop_path=0.3"}  # random numbers are drawn inside these networks
TRAINED = [name for name in registry.method_names() if registry.method_class(name).trainable]
CASES = [
    (f"{name}@debug{RANDOM.get(name, '')}", tune)
    for name in TRAINED
    for tune in sorted({p.tune for published in (False, True) for p in checks.build(f"{name}@debug").phases(published)})
]


def pair(spec: str, tune: str | None = None) -> tuple:
    """The same method twice, the second with its blocks computed again."""
    plain, method = checks.build(spec), checks.build(spec)
    for one in (plain, method):
        one.set_tune(tune or one.phases(False)[0].tune)
    recompute_blocks(method, lambda line: None)
    return plain, method


def step(method, precision: str = "fp32") -> tuple:
    """Outputs, gradients, state and the generator's state after one step; bytes kept for the backward pass."""
    inputs, batch = checks.train_batch(method, n=2)
    kept: dict[int, int] = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor), autocast(precision, CPU):
        outputs = method.train()(inputs)
    for parameter in method.parameters():
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    sum(method.loss({k: v.float() for k, v in outputs.items()}, batch).values()).backward()
    grads = {k: p.grad.clone() for k, p in method.named_parameters() if p.grad is not None}
    method.zero_grad(set_to_none=True)
    return outputs, grads, method.state_dict(), {"": torch.get_rng_state()}, sum(kept.values())


def same(one: tuple, other: tuple) -> None:
    for values, others in zip(one[:4], other[:4], strict=True):
        assert [*values] == [*others]
        assert not [name for name in values if not torch.equal(values[name], others[name])]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("spec", "tune"), CASES)
def test_outputs_gradients_buffers_and_random_numbers_are_the_same_bits(spec, tune, precision):
    plain, method = pair(spec, tune)
    for _ in range(2):
        one, other = step(plain, precision), step(method, precision)
        same(one, other)
    assert one[1] and other[4] < 0.8 * one[4], "what is kept for the backward pass"


def test_together_with_compiled_blocks(monkeypatch):
    monkeypatch.setattr(compiled, "BACKEND", "aot_eager")
    torch.compiler.reset()
    world, recipe, lines = distributed.World(0, 1, CPU), replace(SCALES["debug"], batch=2), []
    plain, method = checks.build("cellvit@debug"), checks.build("cellvit@debug")
    for one in (plain, method):
        compiled.compile_blocks(one, recipe, "fp32", world, lines.append)
    blocks = method.blocks()
    graphs = [block._compiled_call_impl for block in blocks]
    for _ in range(2):  # at every phase
        recompute_blocks(method, lines.append)
    assert [block._compiled_call_impl.call for block in blocks] == graphs, "once, around the compiled call"
    same(step(plain), step(method))
    count = len(blocks)
    assert lines == [f"blocks compiled: {count}"] * 2 + [f"blocks recomputed in the backward pass: {count}"] * 2
    compiled.compile_blocks(method, recipe, "fp32", world, lines.append)
    assert not any(isinstance(block._compiled_call_impl, Recomputed) for block in blocks), "compiled anew"
    torch.compiler.reset()


class Whole(nn.Module):
    """A network that names no blocks within it."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 1)

    def blocks(self):
        return [self]

    def forward(self, images):
        return {"a": self.layer(images)}


def test_a_method_without_blocks_stays_as_it_is_and_says_so():
    method, lines = Whole(), []
    outcome = recompute_blocks(method, lines.append)
    assert outcome == "blocks recomputed in the backward pass: 0, the method names no blocks within it " + (
        "(Method.blocks)"
    )
    assert lines == [outcome] and method._compiled_call_impl is None


class Overwriting(Whole):
    """Changes what its block read, after the block has run."""

    def __init__(self):
        super().__init__()
        self.square = Square()

    def blocks(self):
        return [self.square]

    def forward(self, images):
        x = self.layer(images)
        y = self.square([x])
        x.add_(1)
        return {"a": y}


class Square(nn.Module):
    def forward(self, parts):
        return parts[0].abs() ** 2  # abs keeps its input, the power a tensor of its own


def test_an_input_that_is_changed_in_place_is_named():
    method = Overwriting()
    recompute_blocks(method, lambda line: None)
    with pytest.raises(InputError, match=r"recipe\.recompute: .* its block 'square' in place"):
        method(torch.rand(1, 3, 4, 4))["a"].sum().backward()


def test_nothing_is_computed_again_without_gradients_and_a_copy_is_plain(monkeypatch):
    _, method = pair("cellvit@debug")
    assert all(block._compiled_call_impl is None for block in copy.deepcopy(method).blocks())
    monkeypatch.setattr("benchmark.training.recompute.checkpoint", lambda *_, **__: pytest.fail("kept"))
    with torch.no_grad():
        method(torch.rand(1, 3, 64, 64))
