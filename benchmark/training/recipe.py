"""The recipe: every value that a cell is trained with, declared once with its default, its check and its meaning.

The checks, the help on `recipe.KEY=VALUE`, the table in docs/recipe.md, what identifies a result and what its
provenance shows all follow from the fields below. To add one: give it the value that reproduces the behaviour before
it as `neutral=`, and results of earlier runs keep their identity.
"""

import difflib
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any, ClassVar, TypeVar

from benchmark.evaluation.prediction import Prediction
from benchmark.runtime.errors import InputError, near_miss, short

NO_NEUTRAL = object()  # a field without a neutral value is always part of the identity


@dataclass(frozen=True)
class Check:
    """What a value must be.

    Attributes:
        fits: whether a value is allowed.
        expected: the same in words.
        convert: to the form in which an allowed value is kept.
    """

    fits: Callable[[Any], bool]
    expected: str
    convert: Callable[[Any], Any] = lambda value: value


def whole(least: int, expected: str, none: bool = False) -> Check:
    """A whole number of at least `least`, or None where that is allowed."""

    def fits(value) -> bool:
        return (none and value is None) or (isinstance(value, int) and not isinstance(value, bool) and value >= least)

    return Check(fits, expected)


def number(low: float, high: float, what: str = "a number", open_low: bool = False, more: str = "") -> Check:
    """A number in [low, high], or in (low, high]; kept as a float. The words name both bounds.

    Args:
        what: the number in words, before the bounds; more: what follows them.
    """

    def fits(value) -> bool:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        return is_number and low <= value <= high and not (open_low and value == low)

    bounds = f"above {low:g} and at most {high:g}" if open_low else f"in [{low:g}, {high:g}]"
    return Check(fits, f"{what} {bounds}{more}", float)


def one_of(*choices: str) -> Check:
    """One of these words; None is the word "none" where that is one: `key=none` is read as None."""

    def word(value):
        return "none" if value is None else value

    return Check(lambda value: word(value) in choices, f"one of {', '.join(choices)}", word)


def _two_decays() -> Check:
    decay = number(0, 0.999999)

    def fits(value) -> bool:
        return isinstance(value, list | tuple) and len(value) == 2 and all(map(decay.fits, value))

    return Check(fits, "two numbers in [0, 0.999999], such as (0.9,0.95)", lambda pair: tuple(map(float, pair)))


def _augmentation() -> Check:
    names = ("matched", "cellvta", "cellvit", "hovernet")

    def fits(value) -> bool:
        if isinstance(value, str):
            return value in names
        return isinstance(value, list | tuple) and all(
            isinstance(step, dict) and "name" in step and all(isinstance(key, str) for key in step) for step in value
        )

    def convert(value):
        return value if isinstance(value, str) else tuple(dict(step) for step in value)

    return Check(fits, f"{', '.join(names)}, or a list of steps with a name each", convert)


COUNT = whole(1, "a whole number of at least 1")
SWITCH = Check(lambda value: isinstance(value, bool), "true or false")


def identity_field(default, doc: str, check: Check, *, neutral=NO_NEUTRAL, formerly: str = ""):
    """A field that decides the result.

    Args:
        default: its value in BASE.
        doc: what it means, in a line.
        check: what its values must be.
        neutral: for a field added later: the value that reproduces the behaviour before it existed. While the field
            has it, it is left out of the identity.
        formerly: name that the field had once; the message on an unknown key leads from it to the new one.
    """
    metadata = {"doc": doc, "check": check, "execution": False, "neutral": neutral, "formerly": formerly}
    return field(default=default, metadata=metadata)


def execution_field(default, doc: str, check: Check):
    """A field that only decides how the result is computed: shown in the provenance, never part of the identity."""
    metadata = {"doc": doc, "check": check, "execution": True, "neutral": NO_NEUTRAL, "formerly": ""}
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Group:
    """Base of the recipe and of its groups. Raises InputError for a value that its field's check refuses."""

    PATH: ClassVar[str]

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if "check" not in one.metadata:
                continue
            check = one.metadata["check"]
            if not check.fits(value):
                raise InputError(f"{self.PATH}.{one.name} is {short(repr(value))}; expected {check.expected}.")
            object.__setattr__(self, one.name, check.convert(value))


GroupOrRecipe = TypeVar("GroupOrRecipe", bound=Group)


@dataclass(frozen=True)
class Optimiser(Group):
    """What moves the weights."""

    PATH = "recipe.optimiser"

    name: str = identity_field("adamw", "the algorithm", one_of("adamw", "adam", "sgd"))
    lr: float = identity_field(3e-4, "learning rate before the schedule", number(0, 10, open_low=True))
    betas: tuple[float, float] = identity_field(
        (0.9, 0.95), "decays of the two moments; sgd: momentum first", _two_decays()
    )
    weight_decay: float = identity_field(1e-4, "weight decay", number(0, 10))


@dataclass(frozen=True)
class Schedule(Group):
    """Factor on the learning rate over the training."""

    PATH = "recipe.schedule"

    name: str = identity_field(
        "cosine",
        "cosine: up linearly, then down half a cosine; exponential: gamma an epoch; step: gamma every 25 epochs",
        one_of("cosine", "exponential", "step", "constant"),
    )
    warmup: float = identity_field(0.05, "cosine: how long the rate goes up", number(0, 0.99, "a share of all updates"))
    gamma: float = identity_field(0.95, "exponential, step: factor of each decay", number(0, 1, open_low=True))
    final: float = identity_field(0.01, "cosine: factor at the end", number(0, 1))


@dataclass(frozen=True)
class Sampling(Group):
    """How often each training image is drawn."""

    PATH = "recipe.sampling"

    strategy: str = identity_field(
        "cell+tissue",
        "random: each once an epoch; else rare nucleus types, rare tissues or both more often",
        one_of("random", "cell", "tissue", "cell+tissue"),
    )
    gamma: float = identity_field(0.85, "strength: 0 all alike, 1 by inverse frequency", number(0, 1))
    factors: str = identity_field(
        "counted",
        "frequencies of the training images, or on PanNuke the published constants",
        one_of("counted", "pannuke"),
    )


@dataclass(frozen=True)
class Recipe(Group):
    """All values that a cell is trained with."""

    PATH = "recipe"

    epochs: int = identity_field(100, "length of the training", COUNT)
    samples: int | None = identity_field(
        None,
        "images drawn per epoch",
        whole(1, "a whole number of at least 1, or none for as many as there are images", none=True),
    )
    batch: int = identity_field(8, "images per update, over all processes", COUNT)
    accumulate: int = identity_field(
        1, "micro-batches in which a process's images of an update go through the network", COUNT, neutral=1
    )
    crop: int = identity_field(256, "side in px that is supervised", whole(16, "a whole number of pixels, at least 16"))
    crop_at: str = identity_field("random", "place of the crop in the image", one_of("random", "centre"))
    tiling: str = identity_field(
        "none",
        "x20 images as x40 tiles (docs/conic.md), as published or corrected",
        one_of("none", "conic40", "conic40_corrected"),
    )
    eval_every: int = identity_field(1, "epochs between two validations; the last epoch has one too", COUNT)
    patience: int = identity_field(
        0,
        "early stopping",
        whole(0, "a whole number of validations without improvement, 0 for no early stopping"),
    )
    validation: str = identity_field(
        "split",
        "the split's validation images, or a fifth of all tiles (as published on CoNIC; a leak)",
        one_of("split", "random_tiles"),
    )
    keep: str = identity_field(
        "best", "weights of which epoch: the best on validation, or the last", one_of("best", "last"), formerly="select"
    )
    monitor: str = identity_field(
        "protocol",
        "validation bPQ by which epochs are compared: of protocol cellvit, or of the raw map as published",
        one_of("protocol", "raw"),
        formerly="selection",
    )
    optimiser: Optimiser = Optimiser()
    schedule: Schedule = Schedule()
    precision: str = identity_field(
        "fp32", "numbers of the forward pass; auto: bf16 where the GPU has it", one_of("auto", "fp32", "bf16", "fp16")
    )
    ema: float = identity_field(
        0.0, "moving average of the weights", number(0, 0.999999, "a decay", more=", 0 for none")
    )
    clip: float = identity_field(1.0, "clipping of the gradient", number(0, 1e9, "a norm", more=", 0 for no clipping"))
    augment: str | tuple[dict, ...] = identity_field("matched", "augmentation of the training images", _augmentation())
    sampling: Sampling = Sampling()
    shares: str = identity_field(
        "images",
        "draws of several data sets: each as often as it has images, or all equally often",
        one_of("images", "equal"),
        neutral="images",
    )
    pretrain: int | None = identity_field(
        None,
        "pretext training of the small ViTs",
        whole(0, "a whole number of updates, 0 for random weights, or none for the default", none=True),
    )
    deterministic: bool = identity_field(
        True,
        "kernels that give the same bits in every run; false: the fastest, tried out on a GPU",
        SWITCH,
        neutral=True,
    )
    compile: bool = identity_field(
        False,
        "torch.compile of each block of the network; what cannot be compiled runs as it is",
        SWITCH,
        neutral=False,
    )
    graph: bool = identity_field(
        False,
        "the network's passes as CUDA graphs, started whole; where that cannot be it runs as it is",
        SWITCH,
        neutral=False,
    )
    recompute: bool = execution_field(
        False,
        "activation checkpointing of the network's blocks: less memory, more time, the same bits",
        SWITCH,
    )
    workers: int | None = execution_field(
        None,
        "loading of the training images",
        whole(0, "a whole number of processes, or none for a choice by device", none=True),
    )
    eval_batch: int = execution_field(8, "images predicted at a time", COUNT)

    @property
    def prediction(self) -> Prediction:
        """How validation and test images are predicted."""
        return Prediction(self.precision, self.tiling, self.eval_batch)

    def as_dict(self) -> dict:
        """All values, nested: {"epochs": …, "optimiser": {"name": …, …}, …}."""
        return _nested(self, lambda one, value: True)

    def identity(self) -> dict:
        """The values that decide the result, nested; later fields only where they are not neutral."""
        return _nested(self, lambda one, value: not one.metadata["execution"] and value != one.metadata["neutral"])

    def execution(self) -> dict:
        """The values that only decide how the result is computed, nested."""
        return _nested(self, lambda one, value: one.metadata["execution"])


def changed(group: GroupOrRecipe, changes: dict, where: str) -> GroupOrRecipe:
    """A recipe, or one of its groups, with other values.

    Args:
        changes: {key: value}, groups as dicts of their own.
        where: who asks for them, in messages.

    Raises:
        InputError: unknown keys, with a near-miss hint, and values that a field's check refuses.
    """
    known = {one.name: one for one in fields(group)}
    values = {}
    for key, value in changes.items():
        path = f"{group.PATH}.{key}"
        if key not in known:
            raise InputError(f"{where}: unknown key '{short(path)}'.{_hint(key, value, known, group.PATH)}")
        now = getattr(group, key)
        if not isinstance(now, Group):
            values[key] = value
        elif isinstance(value, dict):
            values[key] = changed(now, value, where)
        else:
            names = ", ".join(one.name for one in fields(now))
            raise InputError(f"{where}: '{path}' is a group of settings ({names}); set one of these.")
    try:
        return replace(group, **values)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def nested(dotted: str, value) -> dict:
    """`("optimiser.lr", 1e-3)` -> {"optimiser": {"lr": 1e-3}}."""
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return value


def leaves(group: Group) -> Iterator[tuple[str, Field, Any]]:
    """(dotted name such as "recipe.optimiser.lr", its field, its value) of every field that is no group."""
    for one in fields(group):
        value = getattr(group, one.name)
        if isinstance(value, Group):
            yield from leaves(value)
        else:
            yield f"{group.PATH}.{one.name}", one, value


def help_text() -> str:
    """The keys of `recipe.KEY=VALUE`, each with its meaning and what is expected."""
    lines = ["recipe.KEY=VALUE (the values of each scale are listed in docs/recipe.md):"]
    for name, one, _ in leaves(Recipe()):
        meaning = f"{one.metadata['doc']}: {one.metadata['check'].expected}"
        lines += [f"  {name}", *textwrap.wrap(meaning, 80, initial_indent=" " * 6, subsequent_indent=" " * 6)]
    return "\n".join(lines)


def _nested(group: Group, wanted: Callable[[Field, Any], bool]) -> dict:
    """{key: value} of the fields that are wanted, groups as dicts, empty ones left out."""
    out = {}
    for one in fields(group):
        value = getattr(group, one.name)
        if isinstance(value, Group):
            if inner := _nested(value, wanted):
                out[one.name] = inner
        elif wanted(one, value):
            out[one.name] = value
    return out


def _hint(key: str, value, known: dict[str, Field], path: str) -> str:
    """Where a key that does not exist leads to: its new name, the group that has it, or one that is spelt alike.

    A misspelt group leads to the whole key: optimizer.lr to recipe.optimiser.lr.
    """
    rest, inner = [key], value
    while isinstance(inner, dict) and len(inner) == 1:
        ((word, inner),) = inner.items()
        rest.append(str(word))
    if len(rest) > 1 and (near := near_miss(".".join([path, *rest]), [name for name, _, _ in leaves(Recipe())])):
        return near
    for name, one in known.items():
        if key == one.metadata.get("formerly"):
            return f" It is called '{path}.{name}' now: {one.metadata['check'].expected}."
    tree: dict[str, list[str]] = {}  # the last word of each key -> the keys that end with it
    for dotted, _, _ in leaves(Recipe()):
        tree.setdefault(dotted.rpartition(".")[2], []).append(dotted)
    if key not in tree and (near := near_miss(key, known)):
        return near
    close = difflib.get_close_matches(key, tree, n=1, cutoff=0.6)
    return f" Did you mean {' or '.join(repr(dotted) for dotted in tree[close[0]])}?" if close else ""
