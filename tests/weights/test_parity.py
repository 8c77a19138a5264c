"""Full-size files in the published layouts, filled by the goldens' rule: loaded, they give the official outputs."""

import numpy as np
import pytest
import torch

from benchmark.methods import registry
from benchmark.runtime.errors import InputError
from benchmark.weights.fit import load_official
from benchmark.weights.recognise import recognise
from tests.support import parity
from tests.support.golden_weights import fill_state
from tests.support.official_files import config, save_cellvit, save_hovernet
from tests.support.shared import shared

HEADS = {"tissue": "tissue_types", "np": "nuclei_binary_map", "hv": "hv_map", "tp": "nuclei_type_map"}
CONIC = config(0, 1) | {"data.dataset": "conic", "data.num_nuclei_classes": 7, "data.num_tissue_classes": 1}
MAPS = {ours: name for ours, name in HEADS.items() if ours != "tissue"}  # a single logit has no spread
OWN = {name: name for name in ("np", "hv", "tp")}
# golden -> (method, keys of the file, arch or layout, side, heads)
FILES = {
    "cellvta_pannuke_256x256": ("cellvta@paper", "cellvta_pannuke", "CellViTUNIAdapter", HEADS),
    "cellvta_conic_256x256": ("cellvta@paper", "cellvta_conic", "CellViTUNIAdapter", MAPS),
    "cellvit256_256x256": ("cellvit@vit256", "cellvit256", "CellViT256", HEADS),
    "cellvit_sam_b_256x256": ("cellvit@sam_b", "cellvit_sam_b", "CellViTSAM", HEADS),
    "cellvit_sam_l_256x256": ("cellvit@sam_l", "cellvit_sam_l", "CellViTSAM", HEADS),
    "cellvit_sam_h_256x256": ("cellvit@sam_h", "cellvit_sam_h", "CellViTSAM", HEADS),
    "hovernet_fast_nt6_256x256": ("hovernet@fast", "hovernet_fast_nt6", "trained", OWN),
    "hovernet_original_nt6_270x270": ("hovernet@original", "hovernet_original_nt6", "converted", OWN),
}


@pytest.mark.parity
@pytest.mark.parametrize("golden", FILES)
def test_published_file_gives_the_official_outputs(golden, tmp_path):
    text, keys, kind, heads = FILES[golden]
    stored = shared(f"golden/models/{golden}.npz")
    path = tmp_path / "published.pth"
    state = fill_state(parity.shapes_of(parity.official_keys(keys)).items())
    if kind in ("trained", "converted"):
        save_hovernet(path, state, kind)
    else:
        save_cellvit(path, state, kind, CONIC if "conic" in keys else config())
    del state
    name, _, row = text.partition("@")
    _, facts = recognise(path)
    classes, tissues = (6, 1) if "conic" in keys else (5, 0 if name == "hovernet" else 19)
    assert (facts.method, facts.row, facts.classes, facts.tissues) == (name, row, classes, tissues)
    with torch.device("meta"):
        method = registry.build(text, classes, tissues)
    method.to_empty(device="cpu")
    facts = load_official(method.eval(), path)
    path.unlink()
    side = int(golden.rpartition("x")[2])
    with np.load(stored, allow_pickle=False) as data:
        outputs = parity.forward(method, parity.golden_input(side, side), data, heads)
    parity.check(text, f"published file {side}x{side}, {facts.classes} types", outputs, stored)


@pytest.mark.parity
def test_a_file_of_another_row_is_recognised(tmp_path):
    """SAM-B's weights for the row sam_l: said before anything is built at full size."""
    state = fill_state(parity.shapes_of(parity.official_keys("cellvit_sam_b")).items())
    path = save_cellvit(tmp_path / "b.pth", state, "CellViTSAM", config())
    with torch.device("meta"):
        method = registry.build("cellvit@sam_l", 5, 19)
    with pytest.raises(InputError, match=r"cellvit@sam_b, 5 types.*METHOD=cellvit@sam_b"):
        load_official(method, path)
