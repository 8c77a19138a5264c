"""Augmentation: recipes as lists of named steps, applied to image and nuclei together.

A step is {"name": …, "p": probability (default 1), **settings}; names are the functions of `geometric` and
`photometric`, and two that hold steps of their own: {"name": "one_of", "steps": […]} applies one of them,
{"name": "shuffled", "steps": […]} all of them in random order. Targets (HV maps) are computed afterwards.
"""

import inspect
from dataclasses import replace

import numpy as np

from benchmark.data.nuclei import Nuclei, Sample
from benchmark.runtime.errors import InputError, near_miss
from benchmark.training.augment import geometric, photometric
from benchmark.training.augment.geometric import Patch

CELLVTA = [
    {"name": "rot90", "p": 0.2},
    {"name": "hflip", "p": 0.2},
    {"name": "vflip", "p": 0.2},
    {"name": "blur", "p": 0.2, "limit": 10},
    {"name": "gauss_noise", "p": 0.5, "variance": 10},
    {"name": "color_jitter", "p": 0.2, "brightness": 0.25, "contrast": 0.25, "saturation": 0.1, "hue": 0.05},
    {"name": "superpixels", "p": 0.1, "replace": 0.1, "segments": 200, "max_size": 128},
    {"name": "zoom_blur", "p": 0.1, "max_factor": 1.05},
    {"name": "random_sized_crop", "p": 0.2, "low": 0.5, "high": 1.0},
    {"name": "elastic", "p": 0.2, "sigma": 25, "alpha": 0.5, "alpha_affine": 15},
]

# CellViT has CellVTA's list with these probabilities and one step more
CELLVIT = [
    {"name": "rot90", "p": 0.5},
    {"name": "hflip", "p": 0.5},
    {"name": "vflip", "p": 0.5},
    {"name": "downscale", "p": 0.15, "scale": 0.5},
    {"name": "blur", "p": 0.2, "limit": 10},
    {"name": "gauss_noise", "p": 0.25, "variance": 50},
    *CELLVTA[5:8],
    {"name": "random_sized_crop", "p": 0.1, "low": 0.5, "high": 1.0},
    CELLVTA[9],
]

HOVERNET: list[dict] = [
    {"name": "affine", "scale": 0.2, "translate": 0.01, "shear": 5, "rotate": 179, "order": 0},
    {"name": "hflip", "p": 0.5},
    {"name": "vflip", "p": 0.5},
    {
        "name": "one_of",
        "steps": [
            {"name": "gaussian_blur"},
            {"name": "median_blur"},
            {"name": "additive_noise", "deviation": 12.75},
        ],
    },
    {
        "name": "shuffled",
        "steps": [
            {"name": "shift_hue", "limit": 8 / 180},
            {"name": "scale_saturation", "limit": 0.2},
            {"name": "shift_brightness", "limit": 26},
            {"name": "scale_contrast", "low": 0.75, "high": 1.25},
        ],
    },
]

PUBLISHED: dict[str, list[dict]] = {"cellvta": CELLVTA, "cellvit": CELLVIT, "hovernet": HOVERNET}

# The matched recipe: the same for every method, and cheap enough for a laptop (about 3 ms for 256x256).
MATCHED = [
    {"name": "rot90", "p": 0.75},
    {"name": "hflip", "p": 0.5},
    {"name": "vflip", "p": 0.5},
    {"name": "color_jitter", "p": 0.5, "brightness": 0.15, "contrast": 0.15, "saturation": 0.15, "hue": 0},
    {"name": "blur", "p": 0.1, "limit": 3},
    {"name": "gauss_noise", "p": 0.2, "variance": 10},
]

_STEPS = {**geometric.STEPS, **photometric.STEPS}
_NESTED = ("one_of", "shuffled")
_SETTINGS = {name: list(inspect.signature(f).parameters)[2:] for name, f in _STEPS.items()}


def step_names() -> list[str]:
    """Names that a recipe may use, sorted."""
    return sorted([*_STEPS, *_NESTED])


def augment(sample: Sample, rng: np.random.Generator, steps: list[dict]) -> Sample:
    """Apply a recipe.

    Args:
        sample: image with nuclei; not changed.
        rng: the only source of randomness: the same state gives the same bytes in any process.
        steps: recipe, for example PUBLISHED["cellvta"] or MATCHED.

    Returns:
        A new sample; nuclei are renumbered to 1..N and those without a pixel left are dropped. Its shape is
        that of `sample`.

    Raises:
        InputError: unknown step or setting, with a near-miss hint.
    """
    for step in steps:
        check(step)
    nuclei = sample.nuclei
    before = Patch(sample.image, nuclei.instances, nuclei.type_map)
    after = _apply(before, rng, steps)
    if after.instances is not before.instances:
        nuclei = nuclei.with_map(
            np.ascontiguousarray(after.instances),
            None if after.type_map is None else np.ascontiguousarray(after.type_map),
        )
    return Sample(np.ascontiguousarray(after.image), nuclei)


def _apply(patch: Patch, rng: np.random.Generator, steps: list[dict]) -> Patch:
    for step in steps:
        settings = {k: v for k, v in step.items() if k not in ("name", "p")}
        if rng.random() >= step.get("p", 1.0):
            continue
        name = step["name"]
        if name == "one_of":
            patch = _apply(patch, rng, [settings["steps"][int(rng.integers(len(settings["steps"])))]])
        elif name == "shuffled":
            patch = _apply(patch, rng, [settings["steps"][k] for k in rng.permutation(len(settings["steps"]))])
        elif name in geometric.STEPS:
            patch = geometric.STEPS[name](patch, rng, **settings)
        else:
            patch = replace(patch, image=photometric.STEPS[name](patch.image, rng, **settings))
    return patch


def check(step: dict) -> None:
    """Raise InputError unless `step` names a known step, a probability and only settings that it has."""
    name = step.get("name")
    if name in _NESTED:
        known = ["steps"]
        if not step.get("steps"):
            raise InputError(f"Augmentation step '{name}' needs a list 'steps' with at least one step.")
        for inner in step["steps"]:
            check(inner)
    elif name in _STEPS:
        known = _SETTINGS[name]
    else:
        hint = near_miss(str(name), step_names())
        raise InputError(f"Unknown augmentation step '{name}'; known are {', '.join(step_names())}.{hint}")
    p = step.get("p", 1.0)
    if not (isinstance(p, int | float) and 0 <= p <= 1):
        raise InputError(f"Augmentation step '{name}' has p = {p}; expected a probability from 0 to 1.")
    for key in step:
        if key not in ("name", "p", *known):
            hint = near_miss(key, ["p", *known])
            raise InputError(
                f"Augmentation step '{name}' has no setting '{key}'; it has {', '.join(['p', *known])}.{hint}"
            )


def crop(
    sample: Sample,
    rng: np.random.Generator | None,
    side: int,
    margin_image: tuple[int, int] = (0, 0),
) -> tuple[np.ndarray, Nuclei]:
    """A square window of nuclei with its image and the image's context.

    Args:
        sample: an image of any size.
        rng: draws the window's place, or None for the centre.
        side: side of the window in pixels.
        margin_image: pixels that the image extends (before, after) the window on both axes.

    Returns:
        uint8 (side + before + after, same, 3) image: real context where the patch has it, mirrored beyond its
        border; nuclei of the (side, side) window, renumbered. Where the patch is smaller than the window it
        stands in the middle, its image mirrored and its labels continued with background.
    """
    before, after = margin_image
    place = []
    for length in sample.nuclei.instances.shape:
        spare = length - side
        place.append(spare // 2 if rng is None or spare <= 0 else int(rng.integers(spare + 1)))
    rows, cols = (
        _mirrored(start - before, start + side + after, length)
        for start, length in zip(place, sample.nuclei.instances.shape)
    )
    top, left = place
    return sample.image[np.ix_(rows, cols)], _window(sample.nuclei, top, left, side)


def _window(nuclei: Nuclei, top: int, left: int, side: int) -> Nuclei:
    """The nuclei of a square window that may reach beyond the map on all sides."""
    height, width = nuclei.instances.shape
    inner = nuclei.crop(max(top, 0), max(left, 0), min(side, height), min(side, width))
    missing = [
        (-min(start, 0), side - length - max(-start, 0))
        for start, length in ((top, min(side, height)), (left, min(side, width)))
    ]
    if not any(any(pair) for pair in missing):
        return inner
    type_map = None if inner.type_map is None else np.pad(inner.type_map, missing)
    return replace(inner, instances=np.pad(inner.instances, missing), type_map=type_map)


def _mirrored(start: int, stop: int, length: int) -> np.ndarray:
    """Indices start..stop-1 folded back into 0..length-1 at the borders, the border pixel not repeated."""
    period = max(2 * (length - 1), 1)
    folded = np.arange(start, stop) % period
    return np.minimum(folded, period - folded) if length > 1 else np.zeros(stop - start, np.intp)
