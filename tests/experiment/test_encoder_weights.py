"""BACKBONE=: one answer for the ViTs, or one for each encoder by name."""

import pytest
import torch

from benchmark.experiment.encoder_weights import EncoderWeights, check, choice
from benchmark.experiment.grid import cells
from benchmark.experiment.network_check import check_backbone, check_networks
from benchmark.experiment.setup import Setup
from benchmark.layers import weights_file
from benchmark.methods import registry
from benchmark.runtime.errors import InputError
from benchmark.training import checkpoint
from tests.support.tiny_data import TINY

SEVERAL = "uni=/w/uni.bin vit256=random resnet14=enc.tar"


@pytest.mark.parametrize(
    ("text", "encoder", "is_vit", "found"),
    [
        (None, "uni", True, None),
        ("uni.bin", "uni", True, "uni.bin"),
        ("my weights/uni.bin", "uni", True, "my weights/uni.bin"),
        ("hub", "sam_b", True, "hub"),
        ("uni.bin", "resnet50", False, None),
        ("random", "resnet50", False, "random"),
        (SEVERAL, "uni", True, "/w/uni.bin"),
        (SEVERAL, "vit256", True, "random"),
        (SEVERAL, "sam_b", True, None),
        (SEVERAL, "resnet14", False, "enc.tar"),
        (SEVERAL, None, False, None),
    ],
)
def test_what_is_given_for_an_encoder(text, encoder, is_vit, found):
    assert choice(text, encoder, is_vit) == found


def test_names_are_checked():
    check("/some/file.bin")
    check("uni=a resnet50=b vit_base_patch16_siglip_224=c")
    with pytest.raises(InputError, match="Did you mean 'uni2'"):
        check("uni22=a")


def test_each_cell_takes_its_own(tmp_path):
    """A published encoder without an answer is skipped; HoVer-Net's is filled and named."""
    donor = registry.build("hovernet@debug", 5, 0)
    path = tmp_path / "preact.tar"
    torch.save({"desc": {k: v for k, v in donor.state_dict().items() if k.startswith("encoder.")}}, path)
    names = ["hovernet@debug", "cellvit@vit256", "cellvit@sam_b", "cellvta@debug", "hovernet@fast"]

    def made(text):
        setup = Setup(TINY, None, "debug", "main", tmp_path, tmp_path, "cpu", text)
        return cells(setup, names, [1], [0])

    conv, vit, sam, small, full = made(f"resnet14={path} vit256=random")
    assert conv.encoder.source == str(path) and conv.encoder.label.startswith("preact.tar:")
    assert vit.encoder == EncoderWeights(None, "random", "random") and vit.supports()[0]
    assert sam.supports()[0] is False and "no weights given for 'sam_b'" in sam.supports()[1]
    assert small.encoder.source == "pretext"
    assert full.supports()[0] is False and "no weights given for 'resnet50'" in full.supports()[1]
    conv, *_, full = made("random")
    assert conv.encoder == full.encoder == EncoderWeights(None, "random", "random") and full.supports()[0]
    *_, full = made("resnet50=hub")
    assert full.supports()[0] is False and "no hub has 'resnet50'" in full.supports()[1]
    with pytest.raises(InputError, match="Did you mean"):
        made("vit265=random")


def test_weights_that_a_row_takes_are_no_fault_of_the_others(tmp_path):
    path = tmp_path / "preact.tar"
    encoder = {k: v for k, v in registry.build("hovernet@debug", 5, 0).state_dict().items() if k.startswith("encoder.")}
    torch.save({"desc": encoder}, path)

    def check_all(names, text):
        chosen = cells(Setup(TINY, None, "debug", "main", tmp_path, tmp_path, "cpu", text), names, [1], [0])
        check_backbone(chosen)
        check_networks(chosen)

    check_all(["hovernet", "cellvta", "classical"], f"resnet14={path}")
    check_all(["classical", "hovernet"], "random")
    with pytest.raises(InputError, match=r"expected weights of an encoder that is trained here \(nano\), found none"):
        check_all(["cellvta", "classical"], f"resnet14={path}")
    with pytest.raises(InputError, match="classical@debug has none to fill; leave it out"):
        check_all(["classical"], str(path))
    with pytest.raises(InputError, match=r"preact\.tar do not fit backbone 'nano'"):
        check_all(["cellvta", "hovernet"], str(path))


@pytest.mark.parametrize("name", ["README.md", "noise.bin", "noise.safetensors"])
def test_a_file_of_no_tensors_is_one_sentence_without_advice_to_load_it_otherwise(name, tmp_path):
    """As a whole method's file has it; torch's own words recommend to execute what is in the file."""
    path = tmp_path / name
    path.write_bytes(b"# A text\n" if name == "README.md" else bytes(range(255, 0, -1)) * 8)
    said = []
    for read in (weights_file.read, weights_file.read_file, checkpoint.load):
        with pytest.raises(InputError) as error:
            read(path)
        said.append(str(error.value))
    assert said[0] == said[1] and "weights_only" not in "".join(said) and "\n" not in "".join(said)


def test_a_checkpoint_that_asks_for_a_call_is_refused_without_torchs_advice(tmp_path):
    torch.save({"place": EncoderWeights(None, "random", "random")}, tmp_path / "checkpoint.pt")
    with pytest.raises(InputError, match=r"training checkpoint .* does not load \((Weights|it is)"):
        checkpoint.load(tmp_path / "checkpoint.pt")
