"""Whether a file of weights is the one that was asked for: its method, row, heads, entries and fold."""

from pathlib import Path

import torch

from benchmark.data.sources.pannuke import SPLITS
from benchmark.methods import registry
from benchmark.runtime.errors import InputError
from benchmark.weights import fit, recognise
from benchmark.weights.recognise import DENSE, Facts

TYPES = f"nuclei_type_maps_decoder.{DENSE}"
# published names of the last weights of a head
HEADS = {
    "types": (TYPES, "decoder.tp.u0.conv.weight"),
    "tissues": ("encoder.head.weight", "classifier_head.weight"),
}


def fitted(method, state: dict[str, torch.Tensor], facts: Facts) -> dict[str, torch.Tensor]:
    """`state` under the method's own names, complete and of the right shapes.

    Args:
        method: a Method; its weights may be on the meta device.

    Raises:
        InputError: a file of another method or row, other types or tissues, missing or unexpected entries.
    """
    name = next((n for n, cls in registry.METHODS.module_dict.items() if cls is type(method)), type(method).__name__)
    if facts.method not in (name, None):
        raise InputError(f"{facts.path}: is {facts.title}, expected {name}; use METHOD={facts.method}.")
    own = method.state_dict()
    found = method.adapt(state)
    for key in own.keys() - found.keys():
        if key.endswith("num_batches_tracked"):  # a counter that evaluation does not use; converted files lack it
            found[key] = torch.zeros((), dtype=torch.int64)
    found = {key: found[key] for key in own if key in found} | {k: v for k, v in found.items() if k not in own}
    missing = [key for key in own if key not in found]
    strange = [key for key in found if key not in own]
    shapes = [key for key in own if key in found and found[key].shape != own[key].shape]
    if not (missing or strange or shapes):
        return found
    _check_heads(method, own, facts)
    said = []
    if missing:
        said.append(f"{len(missing)} of {len(own)} entries are missing (such as '{missing[0]}')")
    if strange:
        said.append(f"{len(strange)} are unexpected (such as '{strange[0]}')")
    if shapes:
        key = shapes[0]
        said.append(
            f"{len(shapes)} have another shape (such as '{key}': expected {tuple(own[key].shape)}, found "
            f"{tuple(found[key].shape)})"
        )
    shaped = f"its shapes are those of METHOD={facts.method}@{facts.row}"
    use = shaped if facts.row else "name the row and arguments it was made with"
    raise InputError(f"{facts.path}: {facts.title}, does not fit this {name}: {', '.join(said)}; {use}.")


def _check_heads(method, own: dict, facts: Facts) -> None:
    """Raises InputError where the heads' sizes alone tell what is wrong."""
    for what, published in HEADS.items():
        keys = [key for name in published for key in method.adapt({name: torch.empty(0)}) if key in own]
        expected = own[keys[0]].shape[0] - (what == "types") if keys else 0
        found = facts.classes if what == "types" else facts.tissues
        if found is not None and found != expected and (what == "types" or found):
            raise InputError(
                f"{facts.path}: is {facts.title}, expected {expected} {what}; it was trained on other data, use it "
                f"with {found} {what}."
            )


def other_fold(facts: Facts, dataset: str, fold: int) -> str:
    """In words, why the file must not be evaluated on this published split; "" when nothing speaks against it.

    Args:
        dataset: what results call the dataset.
    """
    if facts.own:
        if facts.dataset != dataset or facts.split == fold:
            return ""
        return f"{facts.told} was on FOLD={facts.split}, FOLD={fold} was asked for; use FOLD={facts.split}"
    if dataset != "pannuke" or not facts.trained or facts.split == fold:
        return ""
    seen = SPLITS[fold][2] in facts.trained
    why = f"; it has seen fold {SPLITS[fold][2]}, the test fold of FOLD={fold}" if seen else ""
    if facts.split:
        return f"{facts.told} says split {facts.split}, FOLD={fold} was asked for{why}; use FOLD={facts.split}"
    folds = ", ".join(map(str, facts.trained))
    return f"{facts.told} says training and validation on folds {folds}, not those of FOLD={fold}{why}"


def remarks(facts: Facts, dataset: str, mpp: float, tissues: int) -> list[str]:
    """What a reader of the measured values must know; sentences without the file's name."""
    out = []
    if facts.classes == 0:
        out.append("The weights name no types: there is no mPQ.")
    folds_known = dataset == "pannuke" and facts.trained
    drawn = dataset.partition("@")[0] == "synthetic"
    if not (facts.own or folds_known or drawn) and facts.dataset in (None, dataset):
        out.append("Which images the weights were trained on is not known: they may have seen the test images.")
    if facts.dataset and facts.dataset != dataset:
        out.append(f"The weights were trained on {facts.dataset}, these are images of {dataset}.")
    scale = {20: 0.5, 40: 0.25}.get(facts.magnification)
    if scale and scale != mpp:
        out.append(f"The weights were trained at {scale} µm/px (x{facts.magnification}), the images have {mpp} µm/px.")
    if facts.tissues and facts.tissues != tissues:
        out.append(f"The tissue head knows {facts.tissues} tissues, the dataset lists {tissues}; it is not scored.")
    return out


def load_official(method, path: str | Path) -> recognise.Facts:
    """Fill a method, strictly, from an officially published file or from the weights of a run.

    Args:
        method: a Method as `methods.registry.build` makes it, on any device.
        path: see `layers.weights_file` for the layouts.

    Returns:
        what the file says about itself.

    Raises:
        InputError: a damaged file, one of another method or row, or one with other types, tissues or entries.
    """
    state, facts = recognise.recognise(path)
    method.load_state_dict(fit.fitted(method, state, facts), strict=True)
    if facts.mean and facts.std:  # as the file's own configuration says
        method.mean, method.std = facts.mean, facts.std
    return facts
