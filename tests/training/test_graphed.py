"""`recipe.graph` without a GPU: what is said where there are no graphs, and what a capture leaves behind (stand-in)."""

import gc
import inspect
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


class Cuda:
    """What of torch.cuda a capture asks, on a machine without it.

    Attributes:
        log: arguments of captures, and modes of the watch for waiting, in order.
        error: that a capture ends with, once it has changed the network.
        cleans: whether torch goes back to the stream from before the capture then.
    """

    def __init__(self, monkeypatch):
        self.log: list = []
        self.error: Exception | None = None
        self.cleans = True
        self.mode: str | int = 0
        self.stream = "before"
        names = ("make_graphed_callables", "current_stream", "get_sync_debug_mode", "set_sync_debug_mode")
        for name in names:
            monkeypatch.setattr(torch.cuda, name, getattr(self, name))
        monkeypatch.setattr(graphed, "_unfit", lambda *_: "")

    def current_stream(self, device):
        return self.stream

    def get_sync_debug_mode(self):
        return self.mode

    def set_sync_debug_mode(self, mode):
        self.mode = mode
        self.log.append(mode)

    def make_graphed_callables(self, network, arguments, allow_unused_input):
        assert allow_unused_input and network.training and not gc.isenabled() and network.layer[0].weight.grad is None
        network(*arguments)["a"].mean().backward()
        self.log.append((tuple(arguments[0].shape), torch.is_autocast_cache_enabled()))
        network.forward = "graphs"
        if self.error:
            self.stream = "before" if self.cleans else "the capture's"
            try:
                raise self.error
            finally:
                raise RuntimeError("operation failed due to a previous error during capture")


@pytest.fixture
def cuda(monkeypatch):
    return Cuda(monkeypatch)


def test_a_capture_leaves_no_trace_but_the_graphs(cuda):
    network = Network().eval()
    before, random = {name: values.clone() for name, values in network.state_dict().items()}, torch.get_rng_state()
    outcome = graphed.graph_network(network, 2, RECIPE, "bf16", CPU, print)
    assert outcome == "network graphed for batches of 2" and vars(network)["forward"] == "graphs"
    assert cuda.log == ["error", 0, ((2, 3, 20, 20), False)] and gc.isenabled() and not network.training
    assert all(torch.equal(before[name], values) for name, values in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(random, torch.get_rng_state())
    assert graphed.graph_network(network, 3, RECIPE, "fp32", CPU, print).endswith("for batches of 3")
    assert cuda.log[-1] == ((3, 3, 20, 20), True), "of the network itself, not of the first phase's graphs"


class Waiting(Network):
    """Asks for a value in its forward pass, as torch refuses it while it watches."""

    def forward(self, images):
        if torch.cuda.get_sync_debug_mode() == "error":
            raise RuntimeError("called a synchronizing CUDA operation\nmore")
        return super().forward(images)


def test_a_network_that_waits_is_not_captured(cuda, capsys):
    network, line = Waiting(), inspect.getsourcelines(Waiting.forward)[1] + 2
    outcome = graphed.graph_network(network, 2, RECIPE, "fp32", CPU, print)
    why = f"RuntimeError: called a synchronizing CUDA operation, at training/test_graphed.py:{line}"
    assert outcome == f"network not graphed, {why}" and "forward" not in vars(network) and network.training
    assert cuda.log == ["error", 0] and "Traceback" in capsys.readouterr().err
    assert all(parameter.grad is None for parameter in network.parameters())


def test_a_capture_after_which_torch_cleaned_up_leaves_the_network_as_it_was(cuda):
    network, cuda.error = Network(), ValueError("no capture")
    outcome = graphed.graph_network(network, 2, RECIPE, "fp32", CPU, print)
    assert outcome.startswith("network not graphed, RuntimeError: operation failed") and gc.isenabled()
    assert "forward" not in vars(network)


def test_a_capture_after_which_torch_did_not_clean_up_ends_the_training(cuda, capsys):
    """And names what began it, not what CUDA says at the end of such a capture."""
    network, cuda.error, cuda.cleans = Network(), ValueError("no capture"), False
    match = r"failed \(ValueError: no capture, at training/test_graphed.py:\d+\).*; set recipe.graph=false\.$"
    with pytest.raises(graphed.CaptureFailed, match=match):
        graphed.graph_network(network, 2, RECIPE, "fp32", CPU, print)
    assert gc.isenabled() and cuda.mode == 0 and "previous error" in capsys.readouterr().err
