"""What a file of weights is, read from the file alone: method, row, heads, and the data that it was trained on."""

import functools
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from benchmark.data.sources.pannuke import SPLITS
from benchmark.layers.weights_file import Content, read
from benchmark.methods import registry
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.errors import InputError, short
from benchmark.runtime.files import read_json

DATASETS = ("pannuke", "conic", "consep", "monusac", "kumar", "cpm17", "lizard", "monuseg")
DENSE = "decoder0_header.2.weight"  # the last convolution of a branch of CellViT and CellVTA
CELLVIT_ROWS = {(False, 384): "vit256", (False, 1024): "uni", (True, 768): "sam_b", (True, 1024): "sam_l"}
CELLVIT_ROWS[True, 1280] = "sam_h"
ENCODER = ("cls_token", "pos_embed", "image_encoder.pos_embed", "teacher")  # one of these is in a file of a ViT alone


@dataclass(frozen=True)
class Facts:
    """What a file of weights states about itself.

    Attributes:
        method: registered name of the method; None for weights of this benchmark that lie apart from their run.
        row: the published row whose shapes it has, or the run's full method name; None when it has no row's shapes.
        classes: nucleus types without background; None when it does not show. tissues likewise.
        trained: raw folds of PanNuke in training and validation, counted from 1; () when not known.
        split: published split, counted from 1; None when not known.
        evidence: what names folds or split: "its name", "its configuration" or "its run"; "" when nothing does.
        dataset, magnification: of its configuration, its name or its run; None when none of them names one.
        layout: how the weights are stored, in words.
        arch: name of the architecture in the file, "" without one.
        mean, std: per channel, with which the file's configuration normalises images; None without them.
        own: a run of this benchmark made it.
        recipe, class_names: of that run; empty where it is not known.
        run: of that run: dataset, method (canonical name), fold, seed and kind; {} where it is not known.
        mpp: micrometres per pixel of its data; None where it is not known.
        sets: of a run that trained on several data sets, their names in results; () for one.
        left_out: names of entries that do not belong to the network, which are not read.
    """

    path: Path
    method: str | None
    row: str | None
    classes: int | None
    tissues: int | None
    layout: str
    arch: str = ""
    trained: tuple[int, ...] = ()
    split: int | None = None
    evidence: str = ""
    dataset: str | None = None
    magnification: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    own: bool = False
    recipe: dict = field(default_factory=dict)
    class_names: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    run: dict = field(default_factory=dict)
    mpp: float | None = None
    sets: tuple[str, ...] = ()

    @functools.cached_property
    def sha256(self) -> str:
        """Hex digest of the whole file."""
        with open(self.path, "rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()

    @property
    def name(self) -> str:
        """File name; for the weights of a run, which are all called alike, its dataset, method, fold and seed."""
        folder = self.path.resolve().parent
        if self.own and self.evidence == "its run":
            return f"{folder.parent.parent.name}-{folder.parent.name}-{folder.name}"
        return self.path.name

    @property
    def title(self) -> str:
        """Such as "cellvit@sam_b, 5 types, 19 tissues, of pannuke split 1"."""
        name = self.method or "weights of this benchmark"
        words = [f"{name}@{self.row}" if self.method and self.row else name]
        if self.classes is not None:
            words.append(f"{self.classes} types")
        if self.tissues is not None:
            words.append(f"{self.tissues} tissues")
        if self.dataset or self.split:
            split = f" split {self.split}" if self.split else ""
            words.append(f"of {self.dataset or 'pannuke'}{split}")
        return ", ".join(words)


def recognise(path: str | Path) -> tuple[dict[str, torch.Tensor], Facts]:
    """(state dict as stored, less envelope and the prefixes of wrappers; facts about it).

    Args:
        path: a file, or the folder of a run, whose weights are meant.

    Raises:
        InputError: not a readable file of weights, a bare encoder, of no known method, or of a run whose method is not
            registered here.
    """
    path = Path(path)
    folder = RunFolder(path if path.is_dir() else path.parent)
    if folder.is_run and path in (folder.path, folder.weights):
        path = folder.selected_weights
    run = RunFolder(path.resolve().parent)
    run.check(path, run.config)  # where the file is a run's, which lists their hashes
    content, left_out = read(path), ()
    # the weights of a run are those of the method that its config.json names, whatever their entries look like
    facts = _of_run(path) if path.resolve() == run.weights else None
    if facts is None:
        content, left_out = unwrapped(path, content)
    state = content.state
    bad = next((k for k, v in state.items() if v.is_floating_point() and not torch.isfinite(v).all()), None)
    if bad:
        raise InputError(f"{path}: '{bad}' holds values that are not finite; the file is damaged, download it again.")
    if facts is None:
        describe = next((describe for fits, describe in FAMILIES if fits(state)), None)
        if describe is None and any(k in state for k in ENCODER):
            raise InputError(
                f"{path}: holds an encoder alone, not a whole method; give it as BACKBONE= to train with it."
            )
        facts = describe(path, content) if describe else _of_run(path)
    if facts is not None:
        _check_registered(facts, run)
        return state, replace(facts, layout=content.layout, left_out=left_out)
    known = f" (arch '{content.arch}')" if content.arch else ""
    raise InputError(
        f"{path}: expected weights of CellVTA, CellViT, HoVer-Net or of a run of this benchmark, found "
        f"{len(state)} entries of no known method{known}, the first is '{next(iter(state))}'; weights of a run of "
        "another method are known by the config.json of that run: give the run's folder, or put that file beside them."
    )


def _check_registered(facts: Facts, run: RunFolder) -> None:
    """Raises InputError where a run's method is of another package that is not installed, or of a file that is not
    here."""
    if facts.method is None or facts.method in registry.known_names():
        return
    try:
        package = read_json(run.provenance).get("package")
    except (OSError, ValueError, AttributeError, RecursionError):
        package = None
    offer = (
        f"'{short(str(package))}', which offers it"
        if package
        else "that offers it, or put its file into benchmark/methods"
    )
    raise InputError(
        f"{facts.path}: expected weights of a method that is registered here, found those of a run of "
        f"'{short(facts.method)}', which is not; install the package {offer}."
    )


def unwrapped(path: Path, content: Content) -> tuple[Content, tuple[str, ...]]:
    """The network in a file, without what wrappers put before its names: DDP, torch.compile, Lightning, trainers.

    The network is what lies under the one prefix, such as "module." or "ema.module.", under which the entries of a
    known method lie.

    Returns:
        (content of that prefix, names of all other entries); the content as it is where no known method is found.

    Raises:
        InputError: there are several such prefixes: two networks in one file.
    """
    state = content.state
    prefixes = {""} | {key[: dot.end()] for key in state for dot in re.finditer(r"\.", key)}
    fitting: list[str] = []
    for prefix in sorted(prefixes):  # a prefix before what begins with it
        if any(prefix.startswith(shorter) for shorter in fitting):
            continue
        inner = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        if any(fits(inner) for fits, _ in FAMILIES):
            fitting.append(prefix)
    if len(fitting) > 1:
        raise InputError(
            f"{path}: expected one network, found {len(fitting)}, whose entries begin with "
            f"{' and '.join(map(repr, fitting))}; save the one that is meant."
        )
    if fitting in ([], [""]):
        return content, ()
    (prefix,) = fitting
    inner = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    left_out = tuple(key for key in state if not key.startswith(prefix))
    return replace(content, state=inner, layout=f"{content.layout}, keys begin with '{prefix}'"), left_out


def _cellvta(path: Path, content: Content) -> Facts:
    state = content.state
    paper = _size(state, "encoder.patch_embed.proj.weight") == 1024 and "encoder.blocks.23.norm1.weight" in state
    return _facts(path, content, "cellvta", "paper" if paper else None, _hv_types(state), "encoder.head.weight")


def _cellvit(path: Path, content: Content) -> Facts:
    state = content.state
    sam = any(k.startswith("encoder.neck.") for k in state)
    row = CELLVIT_ROWS.get((sam, _size(state, "encoder.patch_embed.proj.weight")))
    tissue = "classifier_head.weight" if sam else "encoder.head.weight"
    return _facts(path, content, "cellvit", row, _hv_types(state), tissue)


def _hovernet(path: Path, content: Content) -> Facts:
    state = content.state
    kernel = state["decoder.np.u3.conva.weight"].shape[-1] if "decoder.np.u3.conva.weight" in state else 0
    row = {3: "fast", 5: "original"}.get(kernel) if _size(state, "conv0./.weight") == 64 else None
    types = _size(state, "decoder.tp.u0.conv.weight")
    return _facts(path, content, "hovernet", row, types, "")


def _own(path: Path, content: Content) -> Facts:
    """Weights in this benchmark's own names; the rest is in the run's config.json beside them."""
    return _of_run(path) or Facts(path, None, None, None, None, content.layout, own=True)


def _of_run(path: Path) -> Facts | None:
    """What the run's config.json beside a file says, with no layout; None where there is none that says it."""
    try:
        config = read_json(RunFolder(path.resolve().parent).config)
        run = {k: config[k] for k in ("name", "method", "fold", "dataset", "classes", "tissues")}
        known = isinstance(run["classes"], list) and isinstance(run["tissues"], list) and isinstance(run["name"], str)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        known = False
    if not known:
        return None
    return Facts(
        path,
        run["name"],
        str(config.get("spec") or run["method"]).partition("@")[2],
        len(run["classes"]),
        len(run["tissues"]),
        "",
        split=run["fold"],
        evidence="its run",
        dataset=run["dataset"],
        own=True,
        recipe=config["recipe"] if isinstance(config.get("recipe"), dict) else {},
        class_names=tuple(map(str, run["classes"])),
        run={key: config.get(key) for key in ("dataset", "method", "fold", "seed", "kind")},
        mpp=_positive(config.get("mpp")),
        sets=tuple(map(str, config["sets"])) if isinstance(config.get("sets"), list) else (),
    )


FAMILIES: tuple[tuple[Callable, Callable], ...] = (
    (lambda s: any(k.startswith(("encoder.spm.", "encoder.interactions.")) for k in s), _cellvta),
    (lambda s: f"nuclei_binary_map_decoder.{DENSE}" in s and "encoder.patch_embed.proj.weight" in s, _cellvit),
    (lambda s: "conv0./.weight" in s, _hovernet),
    (lambda s: any(k.startswith(("decoder.branches.", "branches.")) for k in s), _own),
)


def _facts(path: Path, content: Content, method: str, row: str | None, types: int, tissue: str) -> Facts:
    folds = tuple(_whole(content.setting(name)) for name in ("train_folds", "val_folds"))
    train, val = (tuple(k + 1 for k in side) for side in folds)  # published configurations count from 0
    stem = path.name.lower()
    dataset = _dataset_in(str(content.setting("dataset") or "").lower()) or _dataset_in(stem)
    mean, std = (_per_channel(path, content, name) for name in ("mean", "std"))
    if (mean is None) != (std is None):
        have, lack = ("std", "mean") if mean is None else ("mean", "std")
        raise InputError(
            f"{path}: expected normalize.mean and normalize.std in its configuration, found normalize.{have} without "
            f"normalize.{lack}; add the other one, or remove both for those of the method."
        )
    split, evidence = None, ""
    if dataset not in (None, "pannuke"):  # folds of others are not raw folds of PanNuke
        train = val = ()
    elif train:
        split = next((k for k, (a, b, _) in SPLITS.items() if (train, val) == ((a,), (b,))), None)
        evidence = "its configuration"
    elif named := re.search(r"split[ _-]?([123])(?!\d)", stem):
        split, evidence = int(named[1]), "its name"
        train, val = SPLITS[split][:1], SPLITS[split][1:2]
    at = re.search(r"(?<![a-z0-9])x(20|40)(?!\d)", stem)
    magnification = _whole(content.setting("magnification")) or ((int(at[1]),) if at else ())
    return Facts(
        path,
        method,
        row,
        max(0, types - 1),
        _size(content.state, tissue),
        content.layout,
        arch=content.arch,
        trained=tuple(sorted({*train, *val})),
        split=split,
        evidence=evidence,
        dataset=dataset,
        magnification=magnification[0] if magnification else None,
        mean=mean,
        std=std,
    )


def _dataset_in(text: str) -> str | None:
    """The data set that a text names, None when it names none."""
    return next((name for name in DATASETS if name in text), None)


def _size(state: dict, key: str) -> int:
    """Length of an entry's first axis, 0 when it is absent."""
    return state[key].shape[0] if key in state and state[key].ndim else 0


def _hv_types(state: dict) -> int:
    return _size(state, f"nuclei_type_maps_decoder.{DENSE}")


def _positive(value) -> float | None:
    """A finite number above 0 as a float; None for anything else."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and np.isfinite(value) and value > 0 else None


def _whole(value) -> tuple[int, ...]:
    """A whole number or a list of them as a tuple; () for anything else."""
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(values) if all(isinstance(v, int) and not isinstance(v, bool) for v in values) else ()


def _per_channel(path: Path, content: Content, name: str) -> tuple[float, ...] | None:
    """`normalize.mean` or `normalize.std` of the file's configuration, None where it has none.

    Raises:
        InputError: not three finite numbers, or a std that is not above 0 in float32: every output would be NaN.
    """
    value = content.setting(f"normalize.{name}")
    if value is None:
        return None
    values = value.tolist() if isinstance(value, np.ndarray | torch.Tensor) else value
    numbers = isinstance(values, list | tuple) and all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in values
    )
    if numbers and len(values) == 3:
        with np.errstate(over="ignore"):
            exact = np.array(values, np.float64).astype(np.float32)
        if np.isfinite(exact).all() and (name == "mean" or (exact > 0).all()):
            return tuple(map(float, values))
    expected = "three finite numbers" + (" above 0" if name == "std" else "")
    raise InputError(
        f"{path}: expected normalize.{name} of its configuration to be {expected}, found {values!r:.60}; the file is "
        "damaged, download it again."
    )
