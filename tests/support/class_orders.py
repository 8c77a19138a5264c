"""A network with types, and data sets of one truth whose dataset.toml lists the classes in any order."""

import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmark.data.nuclei import Nuclei
from benchmark.data.sources.pannuke import CLASSES
from benchmark.data.sources.synthetic import draw
from benchmark.methods import registry
from benchmark.training.checkpoint import save_weights

METHOD = "cellvta@debug"
OTHER = ("Dead", "Neoplastic", "Epithelial", "Connective", "Inflammatory")  # PanNuke's classes in another order
SIDE, N = 64, 4


def pictures() -> np.ndarray:
    """uint8 (N, SIDE, SIDE, 3)."""
    return np.stack([draw("Colon", slide, 0, size=SIDE).image for slide in range(3, 3 + N)])


def network(classes: int = len(CLASSES), tissues: int = 19):
    """A method of random weights whose last layers are scaled such that it finds nuclei of several types."""
    torch.manual_seed(12)  # of few seeds does the network see types 1, 2, 4 and 5
    method = registry.build(METHOD, classes, tissues).eval()
    images = torch.from_numpy(pictures()).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        maps = method.predict(images)
        for name in ("np", "tp"):
            head, values = method.decoder.branches[name].head[2], maps[name]
            scale = values.std((0, 2, 3))
            head.bias.sub_(values.mean((0, 2, 3))).div_(scale)
            head.weight.div_(scale[:, None, None, None])
        method.decoder.branches["tp"].head[2].bias[0] = -9  # no background within nuclei
    return method


def found(method) -> list[Nuclei]:
    """What the method finds in `pictures`, types by its own numbers."""
    images = torch.from_numpy(pictures()).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        maps = {name: values.numpy() for name, values in method.predict(images).items()}
    return [method.representation.decode({name: values[i] for name, values in maps.items()}, 0.25) for i in range(N)]


def folder(
    root: Path, nuclei: list[Nuclei], own: tuple[str, ...], classes: tuple[str, ...], name: str = "mine"
) -> Path:
    """Write a data set that tests on `pictures`; every third nucleus has another type than it was found with.

    Args:
        nuclei: the truth, whose type k + 1 is own[k].
        classes: what dataset.toml lists: the names of `own` in any order.
    """
    for part in ("images", "labels", "types"):
        (root / part).mkdir(parents=True)
    table = np.array([0, *(classes.index(word) + 1 for word in own)], np.uint8)
    lines = ["file,fold"]
    for i, (picture, truth) in enumerate(zip(pictures(), nuclei)):
        types = truth.types.copy()
        types[::3] = types[::3] % len(own) + 1
        kinds = np.array([0, *types])[truth.instances]
        for fold in ("train", "val", "test"):
            stem = f"{fold}{i}"
            Image.fromarray(picture).save(root / "images" / f"{stem}.png")
            np.save(root / "labels" / f"{stem}.npy", truth.instances)
            np.save(root / "types" / f"{stem}.npy", table[kinds])
            lines.append(f"{stem}.png,{fold}")
    (root / "images.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    listed = json.dumps(list(classes), ensure_ascii=False)
    toml = f'name = "{name}"\nclasses = {listed}\nmpp = 0.25\npatch = {SIDE}\ntissue = "Colon"\n'
    (root / "dataset.toml").write_text(toml, encoding="utf-8")
    return root


def run_folder(results: Path, method, classes, tissues: int = 19, dataset: str = "elsewhere") -> Path:
    """The folder of a run as far as its weights need it: weights.safetensors and the config.json beside it."""
    path = results / "elsewhere" / METHOD / "fold1-seed0"
    path.mkdir(parents=True)
    save_weights(path / "weights.safetensors", method)
    config = {"name": "cellvta", "method": METHOD, "dataset": dataset, "fold": 1, "seed": 0}
    config |= {"classes": list(classes), "tissues": [f"t{k}" for k in range(tissues)], "recipe": {}}
    (path / "config.json").write_text(json.dumps(config, ensure_ascii=False), encoding="utf-8")
    return path
