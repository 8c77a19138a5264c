"""Scores as ratios of sums over clusters of test images, for bootstrap intervals and paired tests.

A cluster is a source image (slide) where the data name it, else the test image itself: patches of one slide are
not independent. Every score here is a ratio of two sums over images, so that a resample of clusters is one
weighted sum: an image mean is sum(score) / count, a pooled F1 is 2 tp / (true + predicted).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from benchmark.metrics.records import Records
from benchmark.report.select.groups import Group, Row
from benchmark.report.select.store import Store
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
        frame, n = self.images[run.folder], len(self.clusters)
        top, bottom = _ratio(frame, metric)
        where = frame["cluster"].to_numpy()
        if tissue is not None:
            chosen = self._tissues(run.folder) == tissue
            top, bottom, where = top[chosen], bottom[chosen], where[chosen]
        return np.bincount(where, top, n), np.bincount(where, bottom, n)

    def once(self, key, compute: Callable):
        """compute(), remembered under `key`: a row is compared with many others."""
        if key not in self._known:
            self._known[key] = compute()
        return self._known[key]

    def stacked(self, runs: list[Run], metric: str, tissue: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """`sums` of several runs, (R, C) each."""
        if not runs:
            empty = np.zeros((0, len(self.clusters)))
            return empty, empty
        tops, bottoms = zip(*(self.sums(run, metric, tissue) for run in runs))
        return np.stack(tops), np.stack(bottoms)

    def only(self, tissue: str) -> "Observed":
        """The same, of the images of one tissue; clusters without any are dropped."""
        frames = {folder: frame[self._tissues(folder) == tissue] for folder, frame in self.images.items()}
        kept = sorted({int(cluster) for frame in frames.values() for cluster in frame["cluster"]})
        of_images = {folder: frame["cluster"].to_numpy() for folder, frame in frames.items()}
        return Observed([self.clusters[i] for i in kept], self.sources, _placed(frames, of_images, kept))

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
    frames, sources, names = {}, {}, {}
    for run in group.runs:
        try:
            frame = image_scores(run, protocol, store)
        except UNREADABLE as error:
            skipped(run.folder, error)
            continue
        sources[run.folder], names[run.folder] = (frame[c].to_numpy(object) for c in ("source", "image_id"))
        frame = frame.rename(columns={"image_id": "name"})
        if not names[run.folder].all():  # without an id an image is known by its place in its fold's test set
            place = np.array([f"fold{run.id.split}:{i}" for i in frame["image"]], object)
            names[run.folder] = np.where(names[run.folder] != "", names[run.folder], place)
            frame = frame.assign(name=names[run.folder])
        frames[run.folder] = frame
    sourced = all((source != "").all() for source in sources.values())
    of_images = sources if sourced else names
    clusters = sorted(map(str, set().union(*(of_run.tolist() for of_run in of_images.values()))))
    return Observed(clusters, sourced and bool(frames), _placed(frames, of_images, clusters))


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
