"""Losses: equal to the official ones, finite where nothing is there, blind to images that take no part."""

import numpy as np
import pytest
import torch

from benchmark.layers import losses
from benchmark.layers.cellvit_loss import LossConfig, cellvit_loss
from tests.support.shared import GOLDEN, shared

CASES = ("random", "empty_gt", "one_empty", "good_pred")
CELLVTA = {
    "nuclei_binary_map_focaltverskyloss": 1.0,
    "nuclei_binary_map_dice": 1.0,
    "hv_map_mse": 2.5,
    "hv_map_msge": 8.0,
    "nuclei_type_map_bce": 0.5,
    "nuclei_type_map_dice": 0.2,
    "nuclei_type_map_mcfocaltverskyloss": 0.5,
}


def cellvta_terms(np_logits, hv, tp_logits, instances, types, hv_true):
    nucleus = losses.onehot(instances > 0, 2)
    kinds = losses.onehot(types, tp_logits.shape[1])
    return {
        "nuclei_binary_map_focaltverskyloss": losses.focal_tversky(np_logits, nucleus, double_softmax=True),
        "nuclei_binary_map_dice": losses.dice(np_logits, nucleus),
        "hv_map_mse": losses.mse(hv, hv_true),
        "hv_map_msge": losses.msge(hv, hv_true, instances, cross=True),
        "nuclei_type_map_bce": losses.xentropy(tp_logits, kinds),
        "nuclei_type_map_dice": losses.dice(tp_logits, kinds),
        "nuclei_type_map_mcfocaltverskyloss": losses.mc_focal_tversky(tp_logits, kinds, double_softmax=True),
    }


def check_cellvta(data, rel=1e-5, rel_grad=1e-5):
    get = {k: torch.from_numpy(data[k]) for k in ("np", "hv", "tp")}
    leaves = {k: v.float().requires_grad_() for k, v in get.items()}
    truth = [torch.from_numpy(data[k]) for k in ("instances", "types", "hv_true")]
    terms = cellvta_terms(leaves["np"], leaves["hv"], leaves["tp"], truth[0], truth[1], truth[2].float())
    for name, value in terms.items():
        assert value.item() == pytest.approx(float(data[f"loss/{name}"]), rel=rel, abs=1e-9), name
    sum(CELLVTA[k] * v for k, v in terms.items()).backward()
    for name, leaf in leaves.items():
        want = data[f"grad/{name}"]
        error = np.abs(leaf.grad.numpy()[..., ::5, ::5] - want).max()
        assert error <= rel_grad * np.abs(want).max(), name


def test_equal_to_official_cellvta():
    # the committed logits are rounded to half precision, which shows in the gradients
    with np.load(GOLDEN / "losses_cellvta.npz", allow_pickle=False) as data:
        check_cellvta(dict(data), rel=3e-5, rel_grad=1e-3)


def test_the_objective_weighs_the_official_terms():
    with np.load(GOLDEN / "losses_cellvta.npz", allow_pickle=False) as data:
        outputs = {k: torch.from_numpy(data[k]).float() for k in ("np", "hv", "tp")}
        official = [CELLVTA[name] * float(data[f"loss/{name}"]) for name in CELLVTA]
        instances, types, hv = (torch.from_numpy(data[k]) for k in ("instances", "types", "hv_true"))
    count = len(instances)
    outputs["tissue"] = torch.zeros(count, 4)
    batch = {"np": instances > 0, "hv": hv.float(), "tp": types, "typed": torch.ones(count, dtype=torch.bool)}
    batch["tissue"] = torch.tensor([2] + [-1] * (count - 1))  # of the others the tissue is not known
    published = LossConfig(double_softmax=True, cross_msge=True)
    terms = cellvit_loss(outputs, batch, published)
    assert [float(v) for v in terms.values()] == pytest.approx([*official, 0.1 * np.log(4)], rel=3e-5)
    apart = cellvit_loss(outputs, batch | {"typed": torch.arange(count) == 0}, published)
    first = {k: v[:1] for k, v in batch.items()}
    alone = cellvit_loss({k: v[:1] for k, v in outputs.items()}, first, published)
    for name in ("tp_ce", "tp_dice", "tp_focal_tversky"):
        assert float(apart[name]) == pytest.approx(float(alone[name]), rel=1e-5) != float(terms[name])


@pytest.mark.parametrize("case", CASES)
def test_equal_to_official_cellvta_full_size(case):
    names = {"np": "nuclei_binary_map", "hv": "hv_map", "tp": "nuclei_type_map"}
    with np.load(shared(f"golden/models/losses_cellvta_{case}.npz"), allow_pickle=False) as z:
        data = {k: z[k] for k in z.files if k.startswith("loss/")}
        for ours, theirs in names.items():
            data[ours] = z[f"pred_logits/{theirs}"]
            data[f"grad/{ours}"] = z[f"grad_total_wrt_logits/{theirs}"][..., ::5, ::5]
        data |= {"instances": z["gt/instance_map"], "types": z["gt/type_map"], "hv_true": z["gt/hv_map"]}
    check_cellvta(data)


def test_equal_to_official_hovernet():
    with np.load(shared("golden/models/losses_hovernet_random.npz"), allow_pickle=False) as z:
        out = {k: torch.from_numpy(z[f"pred_logits_nchw/{k}"]).requires_grad_() for k in ("tp", "np", "hv")}
        instances, types = torch.from_numpy(z["gt/instance_map"]), torch.from_numpy(z["gt/type_map"])
        hv = torch.from_numpy(z["gt/hv_map_nhwc"]).movedim(-1, 1)
        nucleus, kinds = losses.onehot(instances > 0, 2), losses.onehot(types, 6)
        terms = {
            "np_bce": losses.xentropy(out["np"], nucleus),
            "np_dice": losses.dice(out["np"], nucleus),
            "tp_bce": losses.xentropy(out["tp"], kinds),
            "tp_dice": losses.dice(out["tp"], kinds),
            "hv_mse": losses.mse(out["hv"], hv),
            "hv_msge": losses.msge(out["hv"], hv, instances, cross=True),
        }
        for name, value in terms.items():
            assert value.item() == pytest.approx(float(z[f"loss/{name}"]), rel=1e-5), name
        sum(terms.values()).backward()
        for name, leaf in out.items():
            want = z[f"grad_total_wrt_logits_nchw/{name}"]
            assert np.abs(leaf.grad.numpy() - want).max() <= 1e-5 * np.abs(want).max(), name


def ramps():
    y, x = torch.meshgrid(torch.arange(12.0), torch.arange(12.0), indexing="ij")
    inside = torch.zeros(1, 12, 12)
    inside[:, 3:9, 3:9] = 1  # away from the zero padding
    return x, y, inside


def test_gradient_directions():
    # a 5×5 kernel t / (t² + s²) answers 12 to a ramp of slope 1: 24 of 25 entries sum to Σ t² / (t² + s²)
    x, y, inside = ramps()
    zero = torch.zeros(1, 2, 12, 12)
    straight, crossed = torch.stack([x, y])[None], torch.stack([y, x])[None]
    assert losses.msge(straight, zero, inside).item() == pytest.approx(144, rel=1e-5)
    assert losses.msge(crossed, zero, inside).item() == pytest.approx(0, abs=1e-6)
    assert losses.msge(straight, zero, inside, cross=True).item() == pytest.approx(0, abs=1e-6)
    assert losses.msge(crossed, zero, inside, cross=True).item() == pytest.approx(144, rel=1e-5)


def test_smoothing_constants():
    # one pixel, two classes, p = 1/2 each, truth class 0
    logits, truth = torch.zeros(1, 2, 1, 1), torch.tensor([1.0, 0.0]).view(1, 2, 1, 1)
    want = (1 - 1.001 / 1.501) + (1 - 0.001 / 0.501)
    assert losses.dice(logits, truth).item() == pytest.approx(want, rel=1e-6)
    absent = (1 - 1e-6 / (0.3 * 0.5 + 1e-6)) ** (4 / 3)
    present = (1 - 0.5 / (0.5 + 0.7 * 0.5)) ** (4 / 3)
    assert losses.mc_focal_tversky(logits, truth).item() == pytest.approx(present + absent, rel=1e-5)
    assert losses.focal_tversky(logits, truth).item() == pytest.approx(0.5 ** (4 / 3), rel=1e-5)
    sure = torch.tensor([0.0, 50.0]).view(1, 2, 1, 1)
    assert losses.xentropy(sure, truth).item() == pytest.approx(-np.log(1e-7), rel=1e-5)


def test_single_softmax_has_no_floor():
    truth = losses.onehot(torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(0)), 3)
    for loss in (losses.focal_tversky, losses.mc_focal_tversky):
        assert loss(truth * 40, truth).item() < 1e-4
        assert loss(truth * 40, truth, double_softmax=True).item() > 0.1


CLASS_LOSSES = (losses.focal_tversky, losses.mc_focal_tversky, losses.dice, losses.xentropy)


@pytest.mark.parametrize("loss", CLASS_LOSSES, ids=lambda f: f.__name__)
def test_images_without_weight_take_no_part(loss):
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(3, 4, 8, 8, generator=generator)
    truth = losses.onehot(torch.randint(0, 4, (3, 8, 8), generator=generator), 4)
    mask = torch.tensor([True, False, True])
    leaf = logits.clone().requires_grad_()
    value = loss(leaf, truth, weight=mask)
    assert value.item() == pytest.approx(loss(logits[mask], truth[mask]).item(), rel=1e-5)
    value.backward()
    assert leaf.grad[1].abs().max() == 0 and leaf.grad[0].abs().max() > 0
    leaf = logits.clone().requires_grad_()
    nobody = loss(leaf, truth, weight=torch.zeros(3))
    nobody.backward()
    assert nobody.item() == 0 and leaf.grad.abs().max() == 0
    with pytest.raises(ValueError, match="one per image"):
        loss(logits, truth, weight=torch.ones(2))


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_no_nucleus_is_finite(scale):
    logits = {k: torch.full((2, n, 16, 16), scale).requires_grad_() for k, n in (("np", 2), ("hv", 2), ("tp", 6))}
    nothing = torch.zeros(2, 16, 16, dtype=torch.int64)
    terms = cellvta_terms(*logits.values(), nothing, nothing, torch.zeros(2, 2, 16, 16))
    assert terms["hv_map_msge"].item() == 0
    sum(terms.values()).backward()
    assert all(torch.isfinite(v) for v in terms.values())
    assert all(torch.isfinite(v.grad).all() for v in logits.values())


def test_float32_under_autocast():
    generator = torch.Generator().manual_seed(2)
    pred, true = torch.randn(2, 2, 2, 16, 16, generator=generator)
    focus = torch.ones(2, 16, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = losses.msge(pred, true, focus)
    assert inside.dtype == torch.float32 and inside.item() == losses.msge(pred, true, focus).item()
