"""What every trainable method must do, at a size that a test can afford; `text` names the method, with arguments."""

import time

import numpy as np
import torch

from benchmark.methods import registry
from benchmark.methods.base import Method
from tests.support.scenes import batch_of, disks

CLASSES, TISSUES, SIDE = 5, 3, 64


def build(text: str, classes: int = CLASSES, tissues: int = TISSUES, seed: int = 0) -> Method:
    """A method with weights seeded by `seed`; torch's own generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return registry.build(text, classes, tissues)


def images(n: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(n))


def train_batch(method: Method, n: int = 2, nuclei: bool = True) -> tuple[torch.Tensor, dict]:
    """Images of input_side(SIDE) and the batch of targets for their central SIDE × SIDE."""
    scenes = [disks(SIDE, diameter=18, gap=6, shift=3 * k, empty=not nuclei) for k in range(n)]
    return batch_of(method.representation, scenes, method.input_side(SIDE), TISSUES)


def perfect(representation, truth, classes: int = CLASSES):
    """The nuclei decoded from the truth's own ideal maps."""
    maps = representation.ideal(representation.targets(truth), classes)
    return representation.decode(maps, truth.mpp)


def total(method: Method, inputs: torch.Tensor, batch: dict) -> torch.Tensor:
    return sum(method.loss(method(inputs), batch).values())


def builds_quickly(text: str) -> None:
    begun = time.process_time()
    build(text)
    assert time.process_time() - begun < 4


def forward_shapes(text: str, n: int) -> None:
    method = build(text)
    side = method.input_side(SIDE)
    out = method(images(n, side, side))
    covered = side - 2 * method.margin
    assert covered >= SIDE
    heads = method.representation.heads(CLASSES)
    assert "tp" in heads and heads.keys() <= set(out)
    for key, channels in heads.items():
        assert out[key].shape == (n, channels, covered, covered), key
    assert "tissue" not in out or out["tissue"].shape == (n, TISSUES)


def predict_covers_every_pixel(text: str, height: int, width: int, tiled: bool) -> None:
    method = build(text).eval()
    if tiled:
        method.tile = method.input_side(100)
    with torch.no_grad():
        out = method.predict(images(1, height, width))
    maps = {k: v for k, v in out.items() if v.ndim == 4}
    assert maps and all(v.shape[-2:] == (height, width) for v in maps.values())
    assert all(torch.isfinite(v).all() for v in out.values())
    decoded = method.representation.decode({k: v[0].numpy() for k, v in out.items()}, 0.25)
    assert decoded.instances.shape == (height, width) and decoded.instances.max(initial=0) == len(decoded)


def prediction_of_an_image_does_not_depend_on_its_batch(text: str) -> None:
    method = build(text).eval()
    batch = images(3, SIDE, SIDE)
    with torch.no_grad():
        together, alone = method.predict(batch), method.predict(batch[1:2])
    for key, value in together.items():
        torch.testing.assert_close(value[1:2], alone[key], rtol=1e-3, atol=1e-4)


def gradient_reaches_what_is_trainable_and_nothing_else(text: str, tune: str) -> None:
    method = build(text).train()
    method.set_tune(tune)
    loss = total(method, *train_batch(method))
    assert torch.isfinite(loss)
    loss.backward()
    trainable = {k for k, p in method.named_parameters() if p.requires_grad}
    reached = {k: p.grad for k, p in method.named_parameters() if p.grad is not None}
    assert trainable == set(reached), sorted(trainable ^ set(reached))[:8]
    assert all(torch.isfinite(g).all() for g in reached.values())
    assert np.mean([bool(g.abs().max() > 0) for g in reached.values()]) > 0.9
    handed = {id(p) for group in method.groups(1e-3, 1e-4) for p in group["params"]}
    assert handed == {id(p) for p in method.parameters()}


def learns_one_batch(text: str, classes: int = CLASSES, tissues: int = TISSUES) -> None:
    method = build(text, classes, tissues).train()
    inputs, batch = train_batch(method)
    optimiser = torch.optim.AdamW(method.groups(2e-3, 0.0))
    curve = []
    for _ in range(16):
        loss = total(method, inputs, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        curve.append(loss.item())
    message = f"16 steps at 2e-3 on one batch lower {text}'s loss from {curve[0]:.3g} to {curve[-1]:.3g} only"
    assert np.mean(curve[-3:]) < 0.85 * np.mean(curve[:2]), (
        f"{message}; does each head get a gradient, is it wide enough?"
    )


def without_nuclei(text: str, classes: int) -> None:
    method = build(text, classes=classes).train()
    loss = total(method, *train_batch(method, nuclei=False))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.grad is not None)
    assert len(perfect(method.representation, disks(SIDE, 18, 6, empty=True), classes)) == 0


def without_types(text: str) -> None:
    method = build(text, classes=0, tissues=0).train()
    inputs, batch = train_batch(method)
    out = method(inputs)
    assert not {"tp", "tissue"} & set(out)
    terms = method.loss(out, batch)
    assert terms and not [k for k in terms if k.startswith(("tp", "tissue"))]
    decoded = perfect(method.representation, disks(SIDE, 18, 6), 0)
    assert len(decoded) and not decoded.types.any()


def bfloat16_agrees_loosely(text: str) -> None:
    method = build(text).eval()
    inputs = images(2, method.input_side(SIDE), method.input_side(SIDE))
    with torch.no_grad():
        exact = method(inputs)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            rough = method(inputs)
            loss = method.loss(rough, train_batch(method)[1])
    for key, value in exact.items():
        error = (rough[key].float() - value).abs().mean() / value.std().clamp(min=1e-3)
        assert error < 0.1, key
    assert all(torch.isfinite(v) and v.dtype == torch.float32 for v in loss.values())


def state_dict_carries_everything(text: str) -> None:
    first, second = build(text, seed=0).eval(), build(text, seed=1).eval()
    inputs = images(1, SIDE, SIDE)
    with torch.no_grad():
        want = first.predict(inputs)
        assert any(not torch.equal(v, second.predict(inputs)[k]) for k, v in want.items())
        second.load_state_dict(first.state_dict(), strict=True)
        got = second.predict(inputs)
    assert all(torch.equal(want[k], got[k]) for k in want)
