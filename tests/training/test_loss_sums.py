"""Loss terms added up on the device: the bits of Python's sums, and nothing read back before it is asked for."""

import contextlib

import numpy as np
import pytest
import torch

from benchmark.layers.image_ops import centre
from benchmark.methods import registry
from benchmark.runtime.errors import InputError
from benchmark.training.loss_sums import LossSums

CPU = torch.device("cpu")


def add(losses: LossSums, updates: list[dict[str, float]]) -> list[dict[str, torch.Tensor]]:
    terms = [{name: torch.tensor(value) for name, value in update.items()} for update in updates]
    for number, update in enumerate(terms, 1):
        losses.add(number, update, sum(update.values()))
    return terms


def test_sums_have_the_bits_of_pythons():
    rng = np.random.default_rng(0)
    scales = {"a": 1e-7, "b": 1.0, "c": 3e4, "d": 0.0}
    losses, sums = LossSums(CPU), {}
    terms = add(losses, [{k: float(s * rng.standard_normal()) for k, s in scales.items()} for _ in range(1000)])
    for update in terms:
        for name, value in update.items():
            assert value.dtype == torch.float32
            sums[name] = sums.get(name, 0.0) + float(value)
    assert losses.fetch() == sums and list(losses.fetch()) == list(sums)
    single = sum(update["b"] for update in terms)
    assert float(single) != sums["b"], "a sum in float32 has others"
    losses.check(0)


def test_a_term_may_come_and_go():
    losses = LossSums(CPU)
    add(losses, [{"a": 1.0}, {"a": 2.0, "b": 0.5}, {"b": 0.25}])
    assert losses.fetch() == {"a": 3.0, "b": 0.75}


@pytest.mark.parametrize(("bad", "shown"), [(float("nan"), "nan"), (float("inf"), "inf"), (float("-inf"), "-inf")])
def test_the_first_loss_that_is_not_finite_is_named_however_late_one_asks(bad, shown):
    losses = LossSums(CPU)
    add(losses, [{"a": 1.0, "b": 2.0}, {"a": 0.125, "b": bad}, {"a": float("nan"), "b": 3.0}, {"a": 1.0, "b": 1.0}])
    with pytest.raises(InputError) as caught:
        losses.check(4)
    assert str(caught.value) == (
        f"The loss became {shown} in epoch 5, update 2 (a 0.125, b {shown}); lower recipe.optimiser.lr, "
        "set recipe.clip or use recipe.precision=fp32."
    )


def test_gradients_do_not_reach_the_sums():
    losses, weight = LossSums(CPU), torch.ones((), requires_grad=True)
    losses.add(1, {"a": 2 * weight}, 2 * weight)
    assert not any(t.requires_grad for t in (*losses.sums.values(), *losses.bad_terms.values(), losses.bad_loss))


@pytest.mark.parametrize("name", [name for name in registry.method_names() if registry.method_class(name).trainable])
def test_no_method_reads_from_the_device_within_an_update(name, monkeypatch):
    """Meta tensors have no values: whatever asked for one would raise, as `check` does."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: contextlib.nullcontext())  # knows no meta device
    meta = torch.device("meta")
    with meta:
        method = registry.build(f"{name}@debug", 5, 6).train()
        side = method.input_side(64)
        outputs = method(torch.rand(2, 3, side, side))
        maps = torch.zeros(2, 64, 64, dtype=torch.uint8)
        batch = {"np": maps, "tp": maps, "hv": torch.zeros(2, 2, 64, 64)}
        batch |= {"typed": torch.ones(2, dtype=torch.bool), "tissue": torch.zeros(2, dtype=torch.int64)}
    terms = method.loss({k: centre(v, 64, 64).float() for k, v in outputs.items()}, batch)
    loss, losses = sum(terms.values()), LossSums(meta)
    for update in (1, 2):
        losses.add(update, terms, loss)
    loss.backward()
    for asks in (lambda: losses.check(0), losses.fetch):
        with pytest.raises((RuntimeError, NotImplementedError)):
            asks()
