"""Images to look at, chosen by rule and never by hand, with truth and every method's hits and misses."""

from dataclasses import dataclass, field
from glob import escape
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.data.store.fold import CachedFold
from benchmark.report.select.groups import Group, Row
from benchmark.report.select.observations import Observed
from benchmark.results import predictions
from benchmark.results.run import Run, skipped
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.errors import InputError

HIT, FALSE, MISSED = 1, 2, 3  # codes of outline pixels


@dataclass
class Panel:
    """One image with what each method made of it.

    Attributes:
        rule: why it was chosen.
        run: of the first row that has it; fold and place give the position in the test set.
        image: uint8 (H, W, 3). truth: int32 (H, W) instance map.
        outlines: row label -> uint8 (H, W): 0, HIT (outline of a predicted nucleus with a partner), FALSE (one
            without) or MISSED (outline of a true nucleus without partner).
        maps: row label -> int32 (H, W) predicted instance map. scores: row label -> bPQ.
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


def gallery(group: Group, observed: Observed, cache: Path, per_rule: int = 1) -> list[Panel]:
    """Panels for the rules of `choose`; images that the cache does not hold are left out.

    Only rows with a run of the group's first fold and seed take part: one panel shows one test set.
    """
    of_row = _of_one_test_set({row.label: run for row in group.rows if (run := _first(observed, row, group))}, observed)
    if not of_row:
        return []
    chosen = choose({label: observed.images[run.folder] for label, run in of_row.items()}, of_row, per_rule)
    name = escape(group.dataset.partition("@")[0])
    folds = [fold for folder in sorted(cache.glob(f"{name}-fold*")) if (fold := _opened(folder))]
    records = {label: run.records() for label, run in of_row.items()}
    label, run = next(iter(of_row.items()))
    rows = records[label].images
    told = {place: (str(rows["image_id"].iloc[place]), int(rows["image"].iloc[place])) for _, place in chosen}
    samples = {place: _sample(folds, known, records[label].nuclei, image) for place, (known, image) in told.items()}
    chosen = [(rule, place) for rule, place in chosen if samples[place] is not None]
    if not chosen:
        return []
    places = [place for _, place in chosen]
    mpp = samples[places[0]].nuclei.mpp
    predicted = {label: _predictions(run, places, mpp) for label, run in of_row.items()}
    panels = []
    for rule, place in chosen:
        row, sample = rows.iloc[place], samples[place]
        panel = Panel(
            rule, str(row["image_id"]), str(row["tissue"]), run.id.split, place, sample.image, sample.nuclei.instances
        )
        for name, other in of_row.items():
            found = predicted[name].get(place)
            if found is None:
                continue
            if found.shape != panel.truth.shape:
                why = f"its images are {found.shape}, the truth {panel.truth.shape}; no pictures of this run"
                skipped(RunFolder(other.folder).predictions, why)
                predicted[name] = {}
                continue
            panel.maps[name] = found
            panel.outlines[name] = marked(panel.truth, found, records[name].nuclei, int(row["image"]))
            panel.scores[name] = float(observed.images[other.folder]["bPQ"].iloc[place])
        panels.append(panel)
    return panels


def choose(frames: dict[str, pd.DataFrame], runs: dict[str, Run], per_rule: int) -> list[tuple[str, int]]:
    """(rule, position in the test set), each position once.

    Rules, on the image's bPQ: best, median and worst of the mean over methods; the largest difference between
    two methods; the images whose true nuclei have the smallest median diameter.
    """
    scores = pd.DataFrame({label: frame["bPQ"].to_numpy() for label, frame in frames.items()})
    whole = scores.dropna()
    if whole.empty:
        return []
    mean = whole.mean(axis=1).sort_values(kind="stable")
    spread = (whole.max(axis=1) - whole.min(axis=1)).sort_values(ascending=False, kind="stable")
    middle = (mean - mean.median()).abs().sort_values(kind="stable")
    nuclei = next(iter(runs.values())).records().nuclei
    true = nuclei[nuclei["side"].astype(str) == "true"]
    images = next(iter(frames.values()))["image"].to_numpy()
    small = true.groupby("image")["d_um"].median().sort_values(kind="stable")
    place = {int(image): i for i, image in enumerate(images)}
    rules = {
        "median of the mean over methods": list(middle.index),
        "best": list(mean.index[::-1]),
        "worst": list(mean.index),
        "largest difference between two methods": list(spread.index),
        "smallest nuclei": [place[int(i)] for i in small.index if place[int(i)] in whole.index],
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


def _first(observed: Observed, row: Row, group: Group) -> Run | None:
    return observed.runs(row).get((group.splits[0], group.seeds[0]))


def _of_one_test_set(of_row: dict[str, Run], observed: Observed) -> dict[str, Run]:
    """The runs whose test images are those of the first, in its order; others are named on stderr."""
    out, first = {}, None
    for label, run in of_row.items():
        names = observed.images[run.folder]["name"].tolist()
        first = first or names
        if names == first:
            out[label] = run
        else:
            skipped(run.folder, "no pictures of this run, its test images are others than those of the first run")
    return out


def _opened(folder: Path) -> CachedFold | None:
    try:
        return CachedFold(folder)
    except ValueError:  # a conversion under way
        return None


def _sample(folds: list[CachedFold], image_id: str, nuclei: pd.DataFrame, image: int):
    """The prepared image of this id whose nuclei have the recorded areas: other versions of the data may share ids."""
    own = nuclei[(nuclei["image"] == image) & (nuclei["side"].astype(str) == "true")]
    recorded = dict(zip(own["id"].tolist(), own["area"].tolist()))
    for fold in folds:
        for i in (i for i, name in enumerate(fold.meta["image_ids"]) if name == image_id):
            sample = fold[i]
            areas = np.bincount(sample.nuclei.instances.ravel())
            if {k: int(a) for k, a in enumerate(areas) if k and a} == recorded:
                return sample
    return None


def _predictions(run: Run, places: list[int], mpp: float) -> dict[int, np.ndarray]:
    """Position in the test set -> int32 (H, W) stored prediction; {} when they cannot be read, said once on stderr."""
    try:
        nuclei = predictions.load(RunFolder(run.folder), places, mpp)
    except InputError as error:
        skipped(run.folder, f"no pictures of this run ({error})")
        return {}
    return {place: one.instances for place, one in zip(places, nuclei)}
