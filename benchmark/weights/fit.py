"""Whether a file of weights is the one that was asked for: its method, row, heads, entries and split."""

from pathlib import Path

import torch

from benchmark.data.sources.pannuke import SPLITS
from benchmark.methods import registry
from benchmark.runtime.errors import InputError
from benchmark.weights import recognise
from benchmark.weights.recognise import DENSE, Facts
from benchmark.weights.trained_at import MAGNIFIED, tiling_of, trained_mpp

TYPES = f"nuclei_type_maps_decoder.{DENSE}"
# of weights of a run that lie apart from it
APART = (
    "its classes and arguments stand in the config.json of its run; give the run's folder, or put that file beside it"
)
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
    # a method of another's may know published keys alone
    adapted = dict(state) if facts.own else method.adapt(state)
    for key in own.keys() - adapted.keys():
        if key.endswith("num_batches_tracked"):  # a counter that evaluation does not use; converted files lack it
            adapted[key] = torch.zeros((), dtype=torch.int64)
    missing = [key for key in own if key not in adapted]
    strange = [key for key in adapted if key not in own]
    shapes = [key for key in own if key in adapted and adapted[key].shape != own[key].shape]
    if not (missing or strange or shapes):
        return {key: adapted[key] for key in own}
    _check_heads(method, own, facts)
    faults = []
    if missing:
        faults.append(f"{len(missing)} of {len(own)} entries are missing (such as '{missing[0]}')")
    if strange:
        faults.append(f"{len(strange)} are unexpected (such as '{strange[0]}')")
    if shapes:
        key = shapes[0]
        faults.append(
            f"{len(shapes)} have another shape (such as '{key}': expected {tuple(own[key].shape)}, found "
            f"{tuple(adapted[key].shape)})"
        )
    shaped = f"its shapes are those of METHOD={facts.method}@{facts.row}"
    use = shaped if facts.row else APART if facts.own else "name the row and arguments it was made with"
    raise InputError(f"{facts.path}: {facts.title}, does not fit this {name}: {', '.join(faults)}; {use}.")


def _check_heads(method, own: dict, facts: Facts) -> None:
    """Raises InputError where the numbers of types or tissues differ: the most frequent cause, in one sentence.

    The heads are known by their published names; a method without a published layout has none.
    """
    if type(method).adapt is registry.Method.adapt:
        return
    for head, published in HEADS.items():
        adapted = [method.adapt({name: torch.empty(0)}) for name in published]
        last = next((own[key] for state in adapted for key in state if key in own), None)
        background = 1 if head == "types" else 0
        expected = 0 if last is None else last.shape[0] - background
        stored = facts.classes if head == "types" else facts.tissues
        if stored is not None and stored != expected and (head == "types" or stored):
            raise InputError(
                f"{facts.path}: is {facts.title}, expected {expected} {head}; it was trained on other data, use it "
                f"with {stored} {head}."
            )


def other_split(facts: Facts, dataset: str, split: int) -> str:
    """Why the file must not be evaluated on a published split, in words; "" when nothing speaks against it.

    Args:
        facts: of the file.
        dataset: name of the data set as results have it.
        split: published split, counted from 1.
    """
    if facts.own:
        trained_on = [without_scheme(name) for name in facts.sets or (facts.dataset,) if name is not None]
        if without_scheme(dataset) not in trained_on or facts.split == split:
            return ""
        return f"{facts.evidence} was on FOLD={facts.split}, FOLD={split} was asked for; use FOLD={facts.split}"
    if dataset != "pannuke" or not facts.trained or facts.split == split:
        return ""
    test_fold = SPLITS[split][2]
    seen = f"; it has seen fold {test_fold}, the test fold of FOLD={split}" if test_fold in facts.trained else ""
    if facts.split:
        return f"{facts.evidence} says split {facts.split}, FOLD={split} was asked for{seen}; use FOLD={facts.split}"
    folds = ", ".join(map(str, facts.trained))
    return f"{facts.evidence} says training and validation on folds {folds}, not those of FOLD={split}{seen}"


def without_scheme(dataset: str) -> str:
    """The name of a data set without the scheme of its classes: consep@patch=512 of consep@patch=512,classes=4."""
    name, _, rest = dataset.partition("@")
    words = ",".join(word for word in rest.split(",") if word and not word.startswith("classes="))
    return f"{name}@{words}" if words else name


def remarks(facts: Facts, dataset: str, mpp: float, tissues: int, resampled: bool = False) -> list[str]:
    """Sentences that go with the measured values: no types, unknown training images, another data set or scale.

    Args:
        facts: of the file.
        dataset: name of the data set as results have it.
        mpp: of its images, micrometres per pixel.
        tissues: number that the data set lists.
        resampled: whether the images are resampled to the resolution of the training.

    Returns:
        Sentences that do not name the file.
    """
    out = []
    if facts.left_out:
        out.append(left_out(facts))
    if facts.classes == 0:
        out.append("The weights name no types: there is no mPQ.")
    folds_known = dataset == "pannuke" and facts.trained
    drawn = dataset.partition("@")[0] == "synthetic"
    if not (facts.own or folds_known or drawn) and facts.dataset in (None, dataset):
        out.append("Which images the weights were trained on is not known: they may have seen the test images.")
    if facts.dataset and facts.dataset != dataset:
        out.append(f"The weights were trained on {facts.dataset}, these are images of {dataset}.")
    scale = MAGNIFIED.get(facts.magnification)
    if scale and scale != mpp and not resampled:
        out.append(f"The weights were trained at {scale} µm/px (x{facts.magnification}), the images have {mpp} µm/px.")
    if facts.tissues and facts.tissues != tissues:
        out.append(f"The tissue head knows {facts.tissues} tissues, the dataset lists {tissues}; it is not scored.")
    return out


def left_out(facts: Facts) -> str:
    """The sentence on entries of the file that are not read."""
    n, first = len(facts.left_out), facts.left_out[0]
    what = f"The entry '{first}'" if n == 1 else f"{n} entries (such as '{first}')"
    return f"{what} of the file {'is' if n == 1 else 'are'} no part of the network and not read."


def load_official(method, path: str | Path) -> recognise.Facts:
    """Fill a method, strictly, from an officially published file or from the weights of a run.

    The method sees images as its training did: normalised by the file's configuration, where it states how, and at the
    resolution of `trained_mpp`, where the file tells it.

    Args:
        method: a Method as `methods.registry.build` makes it, on any device.
        path: see `layers.weights_file` for the layouts.

    Returns:
        The facts that the file states about itself.

    Raises:
        InputError: a damaged file, one of another method or row, or one with other types, tissues or entries.
    """
    state, facts = recognise.recognise(path)
    method.load_state_dict(fitted(method, state, facts), strict=True)
    if facts.mean and facts.std:  # of the file's own configuration
        method.mean, method.std = facts.mean, facts.std
    method.mpp = trained_mpp(facts, tiling_of(facts, method.published_on, facts.row)) or type(method).mpp
    return facts
