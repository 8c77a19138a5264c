"""Test images chosen by rule, never by hand, with truth and every method's hits and misses."""

import contextlib
import math
from dataclasses import dataclass, field
from glob import escape
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.data.nuclei import Nuclei
from benchmark.data.store.fold import CachedFold
from benchmark.report.select.groups import Group
from benchmark.report.select.observations import Observed
from benchmark.results import predictions
from benchmark.results.run import Run, skipped
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.errors import InputError

HIT, FALSE, MISSED = 1, 2, 3  # codes of outline pixels
MOST_MISSED = "most missed nuclei"


@dataclass
class Panel:
    """One image with its truth and each method's prediction.

    Attributes:
        rule: why it was chosen.
        fold, place: position in the test set: the split, and the number of the image, from 0.
        image: uint8 (H, W, 3).
        truth: int32 (H, W) instance map.
        outlines: row label -> uint8 (H, W): 0, HIT (outline of a predicted nucleus with a partner), FALSE (one
            without) or MISSED (outline of a true nucleus without partner).
        maps: row label -> int32 (H, W) predicted instance map.
        scores: row label -> bPQ.
        classes: names of the types 1, 2, …
        true_types: uint8 (N,), the type of true nucleus k at k - 1, 0 = untyped.
        types: row label -> the same of the predicted nuclei.
        matched: row label -> ids of the true nuclei that have a partner, ascending.
        diameter: median equivalent diameter of the true nuclei in µm; NaN without any.
    """

    rule: str
    image_id: str
    tissue: str
    fold: int
    place: int
    image: np.ndarray
    truth: np.ndarray
    outlines: dict[str, np.ndarray] = field(default_factory=dict)
    maps: dict[str, np.ndarray] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    classes: list[str] = field(default_factory=list)
    true_types: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint8))
    types: dict[str, np.ndarray] = field(default_factory=dict)
    matched: dict[str, list[int]] = field(default_factory=dict)
    diameter: float = math.nan


def gallery(group: Group, observed: Observed, cache: Path, per_rule: int = 1) -> list[Panel]:
    """Panels for the rules of `choose`; images that the cache does not hold are left out.

    Only drawn rows with a run of the group's first fold and seed take part: one panel shows one test set.
    """
    runs = _of_one_test_set(_first_runs(group, observed), observed)
    if not runs:
        return []
    first, run = next(iter(runs.items()))
    records = {first: run.records()}  # of the others only where they have predictions
    frames = {label: observed.images[run.folder] for label, run in runs.items()}
    chosen = choose(frames, records[first].nuclei, per_rule)
    images = records[first].images
    folds = _folds(cache, group.dataset.partition("@")[0])
    samples = {}
    for _, place in chosen:
        image = images.iloc[place]
        samples[place] = _sample(folds, str(image["image_id"]), records[first].nuclei, int(image["image"]))
    chosen = [(rule, place) for rule, place in chosen if samples[place] is not None]
    if not chosen:
        return []
    places = [place for _, place in chosen]
    mpp = samples[places[0]].nuclei.mpp
    predicted = {label: _predictions(run, places, mpp) for label, run in runs.items()}
    records |= {label: runs[label].records() for label, of_run in predicted.items() if of_run and label != first}
    panels = []
    for rule, place in chosen:
        image, sample = images.iloc[place], samples[place]
        truth = sample.nuclei.instances
        panel = Panel(rule, str(image["image_id"]), str(image["tissue"]), run.id.split, place, sample.image, truth)
        panel.classes, panel.true_types = _scored(run, sample.nuclei.types)
        own = records[first].nuclei
        of_image = own[(own["image"] == int(image["image"])) & (own["side"].astype(str) == "true")]
        panel.diameter = float(of_image["d_um"].median())
        for label, other in runs.items():
            nuclei = predicted[label].get(place)
            if nuclei is None:
                continue
            instances = nuclei.instances
            if instances.shape != truth.shape:
                why = f"its images are {instances.shape}, the truth {truth.shape}; no pictures of this run"
                skipped(RunFolder(other.folder).predictions, why)
                predicted[label] = {}
                continue
            panel.maps[label], panel.types[label] = instances, nuclei.types
            panel.matched[label] = matched(records[label].nuclei, int(image["image"]))
            panel.outlines[label] = marked(truth, instances, records[label].nuclei, int(image["image"]))
            panel.scores[label] = float(observed.images[other.folder]["bPQ"].iloc[place])
        panels.append(panel)
    return panels


def choose(frames: dict[str, pd.DataFrame], nuclei: pd.DataFrame, per_rule: int) -> list[tuple[str, int]]:
    """(rule, position in the test set), each position once.

    Rules, on the image's bPQ: best, median and worst of the mean over methods; the largest difference between
    two methods; the images whose true nuclei have the smallest median diameter; those of whose true nuclei the methods
    miss most, on average.

    Args:
        frames: row label -> per-image scores, all of one test set in one order.
        nuclei: the table of nuclei of one of the runs.
        per_rule: images that each rule chooses.
    """
    scores = pd.DataFrame({label: frame["bPQ"].to_numpy() for label, frame in frames.items()})
    whole = scores.dropna()
    if whole.empty:
        return []
    mean = whole.mean(axis=1).sort_values(kind="stable")
    spread = (whole.max(axis=1) - whole.min(axis=1)).sort_values(ascending=False, kind="stable")
    middle = (mean - mean.median()).abs().sort_values(kind="stable")
    true = nuclei[nuclei["side"].astype(str) == "true"]
    images = next(iter(frames.values()))["image"].to_numpy()
    small = true.groupby("image")["d_um"].median().sort_values(kind="stable")
    missed = pd.concat([frame["n_true"] - frame["n_paired"] for frame in frames.values()], axis=1).mean(axis=1)
    missed = missed.reset_index(drop=True).sort_values(ascending=False, kind="stable")
    place = {int(image): i for i, image in enumerate(images)}
    smallest = [place[int(image)] for image in small.index]
    rules = {
        "median of the mean over methods": list(middle.index),
        "best": list(mean.index[::-1]),
        "worst": list(mean.index),
        "largest difference between two methods": list(spread.index),
        "smallest nuclei": [i for i in smallest if i in whole.index],
        MOST_MISSED: [i for i in missed.index if i in whole.index],
    }
    chosen, taken = {rule: [] for rule in rules}, set()
    for _ in range(per_rule):  # in turns, so that no rule takes another's first choice but where both want the same
        for rule, order in rules.items():
            left = next((int(i) for i in order if int(i) not in taken), None)
            if left is not None:
                taken.add(left)
                chosen[rule].append(left)
    return [(rule, i) for rule, places in chosen.items() for i in places]


def marked(truth: np.ndarray, predicted: np.ndarray, nuclei: pd.DataFrame, image: int) -> np.ndarray:
    """uint8 (H, W) of outline codes, from the stored matches: hits over false ones over missed ones."""
    own = nuclei[nuclei["image"] == image]
    out = np.zeros(truth.shape, np.uint8)
    lone = own["match"].to_numpy() == 0
    pred = (own["side"].astype(str) == "pred").to_numpy()
    ids = own["id"].to_numpy()
    for instances, chosen, code in (
        (truth, ids[~pred & lone], MISSED),
        (predicted, ids[pred & lone], FALSE),
        (predicted, ids[pred & ~lone], HIT),
    ):
        out[outline(instances) & np.isin(instances, chosen)] = code
    return out


def matched(nuclei: pd.DataFrame, image: int) -> list[int]:
    """Ids of an image's true nuclei that have a partner, ascending."""
    true = nuclei[(nuclei["image"] == image) & (nuclei["side"].astype(str) == "true")]
    return sorted(true.loc[true["match"] != 0, "id"].tolist())


def outline(instances: np.ndarray) -> np.ndarray:
    """bool (H, W): pixels of a nucleus with a 4-neighbour of another label; the image's edge is no outline."""
    out = np.zeros(instances.shape, bool)
    for axis in (0, 1):
        differ = np.diff(instances, axis=axis) != 0
        low, high = [slice(None)] * 2, [slice(None)] * 2
        low[axis], high[axis] = slice(None, -1), slice(1, None)
        out[tuple(low)] |= differ
        out[tuple(high)] |= differ
    return out & (instances > 0)


def _scored(run: Run, types: np.ndarray) -> tuple[list[str], np.ndarray]:
    """(names of types 1, 2, …, true types) as they were scored, weights from other data by the classes of both."""
    classes = [str(name) for name in run.config["classes"]]
    table = (run.config.get("transfer") or {}).get("true_types")
    if not isinstance(table, list) or len(table) < types.max(initial=0):
        return classes, types
    return [*classes, "another class"], np.array([0, *table], np.uint8)[types]


def _first_runs(group: Group, observed: Observed) -> dict[str, Run]:
    """Row label -> its run of the group's first split and seed, of drawn rows that have one with records."""
    out = {}
    for row in group.drawn:
        run = observed.runs(row).get((group.splits[0], group.seeds[0]))
        if run is not None:
            out[row.label] = run
    return out


def _of_one_test_set(runs: dict[str, Run], observed: Observed) -> dict[str, Run]:
    """The runs whose test images are those of the first, in its order; others are named on stderr."""
    out, first = {}, None
    for label, run in runs.items():
        names = observed.images[run.folder]["name"].tolist()
        first = first or names
        if names == first:
            out[label] = run
        else:
            skipped(run.folder, "no pictures of this run, its test images are others than those of the first run")
    return out


def _folds(cache: Path, dataset: str) -> list[CachedFold]:
    """The prepared folds of a data set, whatever its version; one with other bytes than it had is named on stderr."""
    out = []
    for folder in sorted(cache.glob(f"{escape(dataset)}-fold*")):
        with contextlib.suppress(ValueError):  # a conversion under way
            fold = CachedFold(folder)
            if damaged := fold.damaged():
                skipped(folder / damaged, "its content is not what was prepared; `prepare` makes it anew")
            else:
                out.append(fold)
    return out


def _sample(folds: list[CachedFold], image_id: str, nuclei: pd.DataFrame, image: int):
    """The prepared image of this id whose nuclei have the recorded areas: other versions of the data may share ids."""
    own = nuclei[(nuclei["image"] == image) & (nuclei["side"].astype(str) == "true")]
    recorded = dict(zip(own["id"].tolist(), own["area"].tolist()))
    for fold in folds:
        for i, name in enumerate(fold.meta["image_ids"]):
            if name != image_id:
                continue
            sample = fold[i]
            areas = np.bincount(sample.nuclei.instances.ravel())
            if {k: int(area) for k, area in enumerate(areas) if k and area} == recorded:
                return sample
    return None


def _predictions(run: Run, places: list[int], mpp: float) -> dict[int, Nuclei]:
    """Position in the test set -> stored prediction; {} when there are none or, with a line on stderr, when they are
    damaged."""
    folder = RunFolder(run.folder)
    if not folder.predictions.exists():
        return {}  # an adopted run has none; the page says so of all such runs together
    try:
        folder.check(folder.predictions)
        nuclei = predictions.load(folder.predictions, places, mpp)
    except InputError as error:
        skipped(run.folder, f"no pictures of this run ({error})")
        return {}
    return dict(zip(places, nuclei))
