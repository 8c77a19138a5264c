"""Files of weights in exactly the layouts in which they are published, written from models of any size."""

import numpy as np
import torch

from benchmark.layers.hovernet_keys import adapt
from benchmark.methods import cellvit, cellvta, registry
from tests.support.shared import GOLDEN

CLASSES, TISSUES = 5, 19


def built(text: str, classes: int = CLASSES, tissues: int = TISSUES, seed: int = 0):
    """A method with seeded random weights, batch statistics included, in eval mode."""
    torch.manual_seed(seed)
    method = registry.build(text, classes, tissues).eval()
    for name, buffer in method.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(0.5 + torch.rand_like(buffer))
    return method


def published_state(method) -> dict[str, torch.Tensor]:
    """The method's weights under the names of the published code."""
    state = method.state_dict()
    if isinstance(method, cellvta.CellVTA):
        return {cellvta.official_key(k): v for k, v in state.items()}
    if isinstance(method, cellvit.CellViT):
        return {cellvit.official_key(k, method.is_sam): v for k, v in state.items()}
    with np.load(GOLDEN / "hovernet_fast.npz", allow_pickle=False) as golden:
        names = {ours: str(key) for key in golden["keys"] for ours in adapt({str(key): 0})}
    return {names[k]: v for k, v in state.items()} | {"upsample2x.unpool_mat": torch.ones(2, 2)}


def config(train: int | list = 0, val: int | list = 1, **more) -> dict:
    """A published configuration, flattened with "."; its folds count from 0."""
    flat = {
        "data.dataset": "PanNuke",
        "data.num_nuclei_classes": CLASSES + 1,
        "data.num_tissue_classes": TISSUES,
        "data.train_folds": train if isinstance(train, list) else [train],
        "data.val_folds": val if isinstance(val, list) else [val],
        "training.scheduler.hyperparameters.gamma": 0.85,
        "transformations.normalize.mean": [0.5, 0.5, 0.5],
        "transformations.normalize.std": [0.5, 0.5, 0.5],
    }
    return flat | more


def save_cellvit(path, state: dict, arch: str, settings: dict | None = None, training: bool = True):
    """As CellViT's and CellVTA's trainers save: arch, config, model_state_dict, and the state of the training."""
    content = {"arch": arch, "config": config() if settings is None else settings, "model_state_dict": state}
    if training:
        weight = torch.nn.Parameter(torch.zeros(2))
        optimiser = torch.optim.AdamW([weight], lr=3e-4, betas=(0.85, 0.95))
        weight.grad = torch.ones(2)
        optimiser.step()
        content |= {
            "epoch": 94,
            "optimizer_state_dict": optimiser.state_dict(),
            "scheduler_state_dict": torch.optim.lr_scheduler.ExponentialLR(optimiser, 0.95).state_dict(),
            "scaler_state_dict": None,
            "best_metric": np.float64(0.66),
            "best_epoch": 94,
            "wandb_id": "abc",
            "logdir": "/log",
            "run_name": "split1",
        }
    torch.save(content, path)
    return path


def save_hovernet(path, state: dict, layout: str = "trained"):
    """As HoVer-Net's files are: trained on several GPUs (`module.`), or converted from TensorFlow (`desc` alone)."""
    if layout == "trained":
        state = {f"module.{k}": v for k, v in state.items()}
    content = {"desc": state}
    if layout == "trained":
        content |= {"optimizer": {"state": {}, "param_groups": []}, "lr_scheduler": {"step_size": 25}}
    torch.save(content, path)
    return path
