"""Parity with the official implementations: deviations measured in standard deviations, one line per golden.

A golden is an npz file of the reference data, or the extract of one under tests/golden: below a name lie `values`
(every `stride`-th element in C order) and, for outputs, their standard deviation. What is recorded here is printed at
the end of the run (see conftest.py), whether it passed or not.
"""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from tests.support.golden_weights import fill_state
from tests.support.shared import shared

# fp32 against fp64 of the official models themselves: 1e-6 to 7e-5 std
WORST, MEAN = 1e-3, 2e-4
NORM = 1e-3  # of gradients, relative


@dataclass(frozen=True)
class Line:
    """worst: largest deviation / std; limit: what it must stay below; note: more figures."""

    method: str
    case: str
    worst: float
    limit: float
    note: str = ""

    def __str__(self) -> str:
        verdict = "" if self.worst < self.limit else "  TOO FAR"
        text = f"{self.method:<18} {self.case:<34} worst {self.worst:.1e} std (limit {self.limit:.0e})  {self.note}"
        return text.rstrip() + verdict


LINES: list[Line] = []


def golden_input(height: int, width: int) -> torch.Tensor:
    """The image that all goldens were measured on, (1, 3, height, width) in [0, 1)."""
    rng = np.random.Generator(np.random.PCG64(7))
    return torch.from_numpy(rng.random((1, 3, height, width)).astype(np.float32))


def official_keys(name: str) -> dict:
    """Keys, shapes and counts of an official model, from the reference data."""
    return json.loads(shared(f"golden/models/keys/{name}.keys.json").read_text())


def shapes_of(source) -> dict[str, tuple[int, ...]]:
    """{official key: shape}, in the official order, of an extract or of `official_keys`."""
    if "state_dict" in source:
        return {key: tuple(shape) for key, shape, _ in source["state_dict"]}
    if "shapes" in source:
        return {str(k): tuple(map(int, s.split())) for k, s in zip(source["keys"], source["shapes"])}
    lines = zlib.decompress(source["keys"].tobytes()).decode().splitlines()
    return {key: tuple(int(n) for n in shape.split(",") if n) for key, shape, _ in (x.split("\t") for x in lines)}


def fill(method, shapes) -> nn.Module:
    """`method`, built on the meta device, with the goldens' weights; `shapes`: official key -> shape, all of them.

    In eval mode, all parameters require a gradient.
    """
    state = method.adapt(fill_state(shapes.items()))
    assert list(state) == list(method.state_dict()), "keys and order are the official ones"
    method.load_state_dict(state, strict=True, assign=True)
    return method.eval().requires_grad_(True)


def forward(
    method: nn.Module, image: torch.Tensor, golden, heads: dict[str, str], modules: dict[str, nn.Module] | None = None
) -> dict[str, torch.Tensor]:
    """Outputs, and what is stored of what lies between, by their names in an open golden.

    Args:
        heads: our name of an output -> the official one.
        modules: name of an intermediate -> the module of ours that returns it.
    """
    found, handles = {}, []
    for name, module in (modules or {}).items():
        if f"inter/{name}/values" in golden:
            tokens = golden[f"inter/{name}/shape"]

            def keep(_, inputs, output, name=f"inter/{name}", tokens=tokens):
                # maps (B, C, h, w) where tokens (B, h * w, C) are stored
                maps = output.ndim == 4 and len(tokens) == 3 and output.shape[1] == tokens[2]
                found[name] = output.flatten(2).transpose(1, 2) if maps else output

            handles.append(module.register_forward_hook(keep))
    with torch.no_grad():
        out = method(image)
    for handle in handles:
        handle.remove()
    root = "" if f"{next(iter(heads.values()))}/values" in golden else "head/"
    return found | {f"{root}{official}": out[ours] for ours, official in heads.items()}


def deviation(found: torch.Tensor, stored, name: str) -> tuple[float, float]:
    """(worst, mean) of |found - stored| in standard deviations of the whole official tensor (of what is stored of it,
    for gradients)."""
    values, stride = stored[f"{name}/values"].astype(np.float64), int(stored[f"{name}/stride"])
    own = found.detach().double().numpy().ravel()[::stride]
    assert own.shape == values.shape, f"{name}: {tuple(found.shape)}"
    if f"{name}/shape" in stored:
        assert found.numel() == np.prod(stored[f"{name}/shape"]), name
    if f"{name}/std" in stored:
        std = float(stored[f"{name}/std"])
    elif f"{name}/stats_mean_std_min_max" in stored:
        std = float(stored[f"{name}/stats_mean_std_min_max"][1])
    else:
        std = values.std()
    off = np.abs(own - values) / std
    return off.max(), off.mean()


def check(method: str, case: str, found: dict[str, torch.Tensor], stored: Path | str) -> dict[str, float]:
    """Hold tensors, by their names in the golden `stored`, against it, and record the worst. Returns each one's."""
    with np.load(stored, allow_pickle=False) as golden:
        off = {name: deviation(tensor, golden, name) for name, tensor in found.items()}
    farthest = max(off, key=lambda name: off[name][0])
    LINES.append(Line(method, case, off[farthest][0], WORST, f"{len(off)} tensors, {farthest}"))
    for name, (worst, mean) in off.items():
        assert worst < WORST and mean < MEAN, f"{name}: {worst:.1e}, {mean:.1e} on average"
    return {name: worst for name, (worst, _) in off.items()}


def check_gradients(
    method: str, case: str, found: dict[str, torch.Tensor], stored: Path | str, limit: float = 5e-3, mean: float = 1e-3
) -> None:
    """Hold gradients, by their official names, against a golden: the norm of all, the values of some."""
    with np.load(stored, allow_pickle=False) as golden:
        names = golden["param_names"].tolist()
        assert sorted(names) == sorted(found)
        norms = np.array([found[name].double().norm().item() for name in names])
        norm = np.abs(norms / golden["grad_l2norm"] - 1).max()
        some = [key[:-7] for key in golden.files if key.startswith("grad/") and key.endswith("/values")]
        off = {name: deviation(found[name.removeprefix("grad/")], golden, name) for name in some}
    assert off, f"{stored} holds no gradient"
    worst, average = (max(values) for values in zip(*off.values()))
    note = f"{len(off)} gradients; norms of {len(names)}: {norm:.1e} relative (limit {NORM:.0e})"
    LINES.append(Line(method, case, worst, limit, note))
    assert norm < NORM
    assert worst < limit and average < mean, off
