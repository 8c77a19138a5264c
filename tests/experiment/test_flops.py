"""FLOPs: the spec's figures for CellVTA, the op's share, tiles, and the command that prints them."""

import csv
import io

import pytest
import torch
from torch import nn

from benchmark import cli
from benchmark.experiment import flops
from benchmark.methods import registry
from benchmark.ops import MSDeformAttn


def test_cellvta_has_the_published_operations():
    method = flops.on_meta("cellvta@paper", 5, 19)
    found = flops.count(method, 256, 256, tiled=False)
    # the published decoder runs its shared skip convolutions once per branch, three times in all
    skips = [method.decoder.skip0, method.decoder.skip1, method.decoder.skip2, method.decoder.skip3]
    channels = [(3, 256), (1024, 128), (1024, 64), (1024, 32)]
    shared = sum(
        flops.count(Alone(part, c, side), 16, 16, tiled=False)["torch"] for part, (c, side) in zip(skips, channels)
    )
    assert (found["torch"] + 2 * shared) / 1e9 == pytest.approx(785.8, abs=0.05)
    decoder = flops.count(Alone(Decoder(method.decoder), 0, 0), 16, 16, tiled=False)["torch"]
    assert (found["torch"] - decoder) / 1e9 == pytest.approx(315.9, abs=0.05)
    assert found["deformable"] == 4 * 8 * 256 * 8 * 3 * 4 * 64 + 6 * 8 * 5376 * 8 * 1 * 4 * 64


class Alone(nn.Module):
    """A part of a network behind the call of a method."""

    def __init__(self, part: nn.Module, channels: int, side: int):
        super().__init__()
        self.part, self.channels, self.side = part, channels, side

    def forward(self, images):
        return self.part(torch.empty(1, self.channels, self.side, self.side, device="meta"))


class Decoder(nn.Module):
    """The decoder of CellVTA on maps of its four strides."""

    def __init__(self, decoder: nn.Module):
        super().__init__()
        self.decoder = decoder

    def forward(self, _):
        maps = [torch.empty(1, 1024, s, s, device="meta") for s in (128, 64, 32, 16)]
        return self.decoder(torch.empty(1, 3, 256, 256, device="meta"), maps)


def test_counts_by_hand():
    """One convolution and one deformable attention, small enough to multiply out."""

    class Toy(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 8, 1, bias=False, device="meta")
            with torch.device("meta"):
                self.attn = MSDeformAttn(8, heads=2, levels=1, points=3, ratio=1.0)

        def forward(self, images):
            x = self.conv(images).flatten(2).transpose(1, 2)
            return self.attn(x, torch.empty(1, 16, 1, 2, device="meta"), x, [(4, 4)])

    found = flops.count(Toy(), 4, 4, tiled=False)
    linear = 16 * 8 * (2 * 3 * 2 + 2 * 3 + 8 + 8)
    assert found == {"torch": 2 * (16 * 3 * 8 + linear), "deformable": 2 * 4 * 16 * 2 * 3 * 4}


def test_tiles_are_counted():
    method = flops.on_meta("hovernet@fast", 5, 0)
    one = flops.count(method, 256, 256, tiled=False)["torch"]
    assert flops.count(method, 256, 256)["torch"] == 4 * one, "256 px take 2 x 2 windows of 164 px"
    assert flops.count(method, 164, 164)["torch"] == one


def test_operations_grow_with_the_image_and_need_no_network():
    spec = registry.parse("cellvta@debug")
    small, large = (flops.per_image(spec, 5, 3, side, side) for side in (64, 128))
    assert 3.5 < large / small < 4.5, "attention apart, four times the pixels are four times the work"
    assert flops.per_image(registry.parse("classical@debug"), 5, 3, 64, 64) is None


def test_models_command(capsys):
    assert (
        cli.main(["models", "--methods", "cellvta@paper", "classical@paper", "hovernet@fast", "--format", "csv"]) == 0
    )
    rows = {r["method"]: r for r in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    cellvta = rows["cellvta@paper"]
    assert (int(cellvta["params"]), int(cellvta["trainable"])) == (387_769_437, 84_420_701)
    assert float(cellvta["gflops"]) == pytest.approx(617.1, abs=0.05)
    assert "gated" in cellvta["weights"] and rows["classical@paper"]["weights"] == "none"
    assert rows["classical@paper"]["gflops"] == ""
    assert int(rows["hovernet@fast"]["params"]) == 37_639_626
    assert float(rows["hovernet@fast"]["gflops"]) == pytest.approx(4 * float(rows["hovernet@fast"]["gflops_input"]))
    assert cli.main(["models", "--methods", "cellvta@debug", "--format", "md"]) == 0
    assert "| cellvta@debug" in capsys.readouterr().out
    assert cli.main(["models", "--methods", "cellvtr@debug"]) == 2
    assert "Did you mean 'cellvta'" in capsys.readouterr().err
