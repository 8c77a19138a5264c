"""Full-size files in the published layouts, filled by the goldens' rule: loaded, they give the official outputs."""

import json

import numpy as np
import pytest
import torch

from benchmark import registry
from benchmark.checkpoint import load_official
from benchmark.errors import InputError
from benchmark.official import recognise
from tests.golden_weights import fill_state
from tests.official_files import config, save_cellvit, save_hovernet
from tests.shared import shared

HEADS = {"tissue": "tissue_types", "np": "nuclei_binary_map", "hv": "hv_map", "tp": "nuclei_type_map"}
OWN = {name: name for name in ("np", "hv", "tp")}
# golden -> (method, keys of the file, arch or layout, side, heads)
FILES = {
    "cellvta_pannuke_256x256": ("cellvta@paper", "cellvta_pannuke", "CellViTUNIAdapter", HEADS),
    "cellvit256_256x256": ("cellvit@vit256", "cellvit256", "CellViT256", HEADS),
    "cellvit_sam_b_256x256": ("cellvit@sam_b", "cellvit_sam_b", "CellViTSAM", HEADS),
    "cellvit_sam_l_256x256": ("cellvit@sam_l", "cellvit_sam_l", "CellViTSAM", HEADS),
    "cellvit_sam_h_256x256": ("cellvit@sam_h", "cellvit_sam_h", "CellViTSAM", HEADS),
    "hovernet_fast_nt6_256x256": ("hovernet@fast", "hovernet_fast_nt6", "trained", OWN),
    "hovernet_original_nt6_270x270": ("hovernet@original", "hovernet_original_nt6", "converted", OWN),
}


@pytest.mark.slow
@pytest.mark.parametrize("golden", FILES)
def test_published_file_gives_the_official_outputs(golden, tmp_path):
    text, keys, kind, heads = FILES[golden]
    stored = np.load(shared(f"golden/models/{golden}.npz"), allow_pickle=False)
    official = json.loads(shared(f"golden/models/keys/{keys}.keys.json").read_text())["state_dict"]
    path = tmp_path / "published.pth"
    state = fill_state((key, shape) for key, shape, _ in official)
    if kind in ("trained", "converted"):
        save_hovernet(path, state, kind)
    else:
        save_cellvit(path, state, kind, config())
    del state
    name, _, row = text.partition("@")
    _, facts = recognise(path)
    assert (facts.method, facts.row, facts.classes) == (name, row, 5)
    with torch.device("meta"):
        method = registry.build(text, 5, facts.tissues)
    method.to_empty(device="cpu")
    facts = load_official(method.eval(), path)
    path.unlink()
    side = int(golden.rpartition("x")[2])
    images = np.random.Generator(np.random.PCG64(7)).random((1, 3, side, side)).astype(np.float32)
    with torch.no_grad():
        outputs = method(torch.from_numpy(images))
    assert set(heads) == set(outputs)
    for ours, theirs in heads.items():
        found = outputs[ours].numpy().ravel()[:: int(stored[f"head/{theirs}/stride"])]
        std = stored[f"head/{theirs}/stats_mean_std_min_max"][1]
        off = np.abs(found - stored[f"head/{theirs}/values"]) / std
        assert off.max() < 1e-3 and off.mean() < 2e-4, (ours, off.max())


@pytest.mark.slow
def test_a_file_of_another_row_is_recognised(tmp_path):
    """SAM-B's weights for the row sam_l: said before anything is built at full size."""
    official = json.loads(shared("golden/models/keys/cellvit_sam_b.keys.json").read_text())["state_dict"]
    path = save_cellvit(tmp_path / "b.pth", fill_state((k, s) for k, s, _ in official), "CellViTSAM", config())
    with torch.device("meta"):
        method = registry.build("cellvit@sam_l", 5, 19)
    with pytest.raises(InputError, match=r"cellvit@sam_b, 5 types.*METHOD=cellvit@sam_b"):
        load_official(method, path)
