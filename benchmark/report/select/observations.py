"""Scores as ratios of sums over clusters of test images, for bootstrap intervals and paired tests.

A cluster is a source image (slide) where the data name it, else the test image itself: patches of one slide are
not independent. Every score here is a ratio of two sums over images, so that a resample of clusters is one
weighted sum: an image mean is sum(score) / count, a pooled F1 is 2 tp / (true + predicted).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.metrics.records import Records
from benchmark.report.select.groups import Group, Row
from benchmark.report.select.store import Store, split
from benchmark.results.run import UNREADABLE, Run, skipped

METRICS = ("bPQ", "mPQ", "bDQ", "bSQ", "AJI", "F1")
# of a protocol's images, as far as it has them
COLUMNS = ("image", "tissue", *METRICS[:-1], "n_paired", "n_true", "n_pred")


@dataclass(frozen=True, eq=False)
class Observed:
    """One protocol's per-image scores of a group of runs.

    Attributes:
        clusters: names of the clusters, sorted; the second axis of all arrays.
        sources: True where the data name the source of every image, so that clusters are sources.
        images: per run folder, COLUMNS of the protocol's frame of images and `cluster` (position in clusters).
    """

    clusters: list[str]
    sources: bool
    images: dict
    _known: dict = field(default_factory=dict)

    def sums(self, run: Run, metric: str, tissue: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(numerator, denominator), float64 (C,) each, summed over the run's images (of one tissue) of each cluster."""
        tops, bottoms = self.stacked([run], metric, tissue)
        return tops[0], bottoms[0]

    def once(self, key, compute: Callable):
        """compute(), remembered under `key`: a row is compared with many others."""
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    def stacked(self, runs: list[Run], metric: str, tissue: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """`sums` of several runs, (R, C) each."""
        shape = len(runs), len(self.clusters)
        if not runs:
            return np.zeros(shape), np.zeros(shape)
        images, where = self.once(("images", *(run.folder for run in runs)), lambda: self._joined(runs))
        top, bottom = _ratio(images, metric)
        if tissue is not None:
            chosen = np.concatenate([self._tissues(run.folder) for run in runs]) == tissue
            top, bottom, where = top[chosen], bottom[chosen], where[chosen]
        return tuple(np.bincount(where, part, math.prod(shape)).reshape(shape) for part in (top, bottom))

    def only(self, tissue: str) -> "Observed":
        """The same, of the images of one tissue; clusters without any are dropped."""
        frames = {folder: frame[self._tissues(folder) == tissue] for folder, frame in self.images.items()}
        kept = sorted({int(cluster) for frame in frames.values() for cluster in frame["cluster"]})
        of_images = {folder: frame["cluster"].to_numpy() for folder, frame in frames.items()}
        return Observed([self.clusters[i] for i in kept], self.sources, _placed(frames, of_images, kept))

    def _joined(self, runs: list[Run]) -> tuple[pd.DataFrame, np.ndarray]:
        """(images of the runs, one after the other, place of each in an array (R, C), int64 (N,)): a call of pandas for
        each run costs more than all sums."""
        frames = [self.images[run.folder] for run in runs]
        images = pd.concat(frames, ignore_index=True)
        row = np.repeat(np.arange(len(runs)), [len(frame) for frame in frames])
        return images, row * len(self.clusters) + images["cluster"].to_numpy()

    def _tissues(self, folder: Path) -> np.ndarray:
        """Tissue of each image of a run, str (N,)."""
        return self.once(("tissues", folder), lambda: self.images[folder]["tissue"].astype(str).to_numpy(object))

    def runs(self, row: Row) -> dict[tuple[int, int], Run]:
        """The row's runs that have records, by (fold, seed)."""
        return {(run.id.split, run.id.seed): run for run in row.runs if run.folder in self.images}


def observe(group: Group, protocol: str, store: Store | None = None) -> Observed:
    """Per-image scores of all runs of a group under a protocol.

    Runs whose records are damaged are named on stderr and left out.

    Args:
        store: where they are kept between two calls.
    """
    store = store or Store()
    known, frames = [], []
    for run in group.runs:
        try:
            frames.append(image_scores(run, protocol, store))
            known.append(run)
        except UNREADABLE as error:
            skipped(run.folder, error)
    return joined([run.folder for run in known], frames, [run.id.split for run in known])


def joined(keys: list, frames: list[pd.DataFrame], folds: list[int]) -> Observed:
    """The scores of several tests of images, each known by a key.

    Args:
        frames: as from `image_frame`, with equal columns.
        folds: of each: an image without an id is known by its place in its fold's test set.
    """
    if not frames:
        return Observed([], False, {})
    whole = pd.concat(frames, ignore_index=True).rename(columns={"image_id": "name"})
    lengths = [len(frame) for frame in frames]
    names, sources = (whole[column].to_numpy(object) for column in ("name", "source"))
    if not names.all():
        fold = np.repeat(folds, lengths)
        place = np.array([f"fold{f}:{i}" for f, i in zip(fold, whole["image"], strict=True)], object)
        names = np.where(names != "", names, place)
    sourced = bool((sources != "").all())
    cluster, clusters = pd.factorize(sources if sourced else names, sort=True)
    whole = whole.assign(name=names, cluster=cluster)
    images = dict(zip(keys, split(whole, lengths), strict=True))
    return Observed(list(map(str, clusters)), sourced, images)


def image_scores(run: Run, protocol: str, store: Store) -> pd.DataFrame:
    """`image_frame` of a run. Raises one of UNREADABLE."""

    def compute(records: Records) -> pd.DataFrame:
        return image_frame(records, protocol, len(run.config["classes"]))

    return store.of(run, f"images-{protocol}", compute).copy(deep=False)


def image_frame(records: Records, protocol: str, n_classes: int) -> pd.DataFrame:
    """COLUMNS of the images under a protocol, with `source` and `image_id`."""
    from benchmark.metrics.protocols import PROTOCOLS

    columns = PROTOCOLS[protocol].columns(records, n_classes)
    frame = pd.DataFrame({name: columns[name] for name in COLUMNS if name in columns})
    images = records.columns.images
    texts = {name: pd.Series(images[name]).astype(str).to_numpy(object) for name in ("source", "image_id")}
    return frame.assign(**texts)


def _placed(frames: dict, of_images: dict, clusters: list) -> dict:
    """The frames with `cluster`, the position in `clusters` of what each image has in `of_images`: per run (N,)."""
    position = {name: i for i, name in enumerate(clusters)}
    placed = {}
    for folder, frame in frames.items():
        cluster = np.array([position[name] for name in of_images[folder].tolist()], np.int64)
        placed[folder] = frame.assign(cluster=cluster)
    return placed


def _ratio(frame: pd.DataFrame, metric: str) -> tuple[np.ndarray, np.ndarray]:
    """(numerator, denominator) of each image, float64 (N,); both 0 where the image has no score."""
    if ("n_paired" if metric == "F1" else metric) not in frame:
        return np.zeros(len(frame)), np.zeros(len(frame))
    if metric == "F1":
        counts = {c: frame[c].to_numpy(np.float64) for c in ("n_paired", "n_true", "n_pred")}
        return 2 * counts["n_paired"], counts["n_true"] + counts["n_pred"]
    score = frame[metric].to_numpy(np.float64)
    known = ~np.isnan(score)
    return np.where(known, score, 0.0), known.astype(np.float64)
