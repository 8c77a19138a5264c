"""`recipe.graph` without a GPU: what is said where there are no graphs, and what a capture leaves behind (stand-in)."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmark.runtime import distributed
from benchmark.training import graphed
from benchmark.training.scales import SCALES

CPU = distributed.World(0, 1, torch.device("cpu"))
GPU = distributed.World(0, 1, torch.device("cuda"))
RECIPE = replace(SCALES["debug"], crop=16, graph=True)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))

    def input_side(self, side):
        return side + 4

    def forward(self, images):
        return {"a": self.layer(images)}


@pytest.mark.parametrize(
    ("world", "changes", "reason"),
    [
        (CPU, {}, "a cpu has no CUDA graphs"),
        (replace(GPU, size=2), {}, "several processes share the updates"),
        (GPU, {"accumulate": 2}, "recipe.accumulate runs parts of the network twice"),
        (GPU, {"recompute": True}, "recipe.recompute runs parts of the network twice"),
    ],
)
def test_where_there_is_no_graph_the_network_runs_as_it_is_and_says_why(world, changes, reason):
    network, lines = Network(), []
    outcome = graphed.graph_network(network, 2, replace(RECIPE, **changes), "fp32", world, lines.append)
    assert outcome == f"network not graphed, {reason}" and lines == [outcome] and "forward" not in vars(network)


def stand_in(seen: list, error: Exception | None = None):
    """Passes as torch makes them before a capture, and the attribute that it leaves in the network."""

    def capture(network, arguments, allow_unused_input):
        for _ in range(3):
            network(*arguments)["a"].mean().backward()
        seen.append(
            (network.training, tuple(arguments[0].shape), torch.is_autocast_cache_enabled(), allow_unused_input)
        )
        network.forward = "graphs"
        if error:
            raise error

    return capture


def test_a_capture_leaves_no_trace_but_the_graphs(monkeypatch):
    seen, network = [], Network().eval()
    monkeypatch.setattr(graphed, "_unfit", lambda *_: "")
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", stand_in(seen))
    before = {name: values.clone() for name, values in network.state_dict().items()}
    outcome = graphed.graph_network(network, 2, RECIPE, "bf16", CPU, print)
    assert outcome == "network graphed for batches of 2" and vars(network)["forward"] == "graphs"
    assert seen == [(True, (2, 3, 20, 20), False, True)] and not network.training
    assert all(torch.equal(before[name], values) for name, values in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    monkeypatch.setattr(torch.cuda, "make_graphed_callables", stand_in(seen, RuntimeError("no capture\nmore")))
    outcome = graphed.graph_network(network, 3, RECIPE, "fp32", CPU, print)
    assert outcome == "network not graphed, RuntimeError: no capture" and "forward" not in vars(network)
    assert seen[1] == (True, (3, 3, 20, 20), True, True), "of the network itself, not of the first phase's graphs"
