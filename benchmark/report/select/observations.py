"""Scores as ratios of sums over clusters of test images, for bootstrap intervals and paired tests.

A cluster is a source image (slide) where the data name it, else the test image itself: patches of one slide are
not independent. Every score here is a ratio of two sums over images, so that a resample of clusters is one
weighted sum: an image mean is sum(score) / count, a pooled F1 is 2 tp / (true + predicted).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmark.report.select.groups import Group, Row
from benchmark.results.run import UNREADABLE, Run, skipped

METRICS = ("bPQ", "mPQ", "bDQ", "bSQ", "AJI", "F1")


@dataclass(frozen=True, eq=False)
class Observed:
    """One protocol's per-image scores of a group of runs.

    Attributes:
        clusters: names of the clusters, sorted; the second axis of all arrays.
        sources: True where the data name the source of every image, so that clusters are sources.
        images: per run folder, the protocol's frame of images with a column `cluster` (position in clusters).
    """

    clusters: list[str]
    sources: bool
    images: dict

    def sums(self, run: Run, metric: str, tissue: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """(numerator, denominator), float64 (C,) each, summed over the run's images (of one tissue) of each cluster."""
        frame = self.images[run.folder]
        if tissue is not None:
            frame = frame[frame["tissue"].astype(str) == tissue]
        top, bottom = _ratio(frame, metric)
        where, n = frame["cluster"].to_numpy(), len(self.clusters)
        return np.bincount(where, top, n), np.bincount(where, bottom, n)

    def stacked(self, runs: list[Run], metric: str, tissue: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """`sums` of several runs, (R, C) each."""
        if not runs:
            empty = np.zeros((0, len(self.clusters)))
            return empty, empty
        tops, bottoms = zip(*(self.sums(run, metric, tissue) for run in runs))
        return np.stack(tops), np.stack(bottoms)

    def only(self, tissue: str) -> "Observed":
        """The same, of the images of one tissue; clusters without any are dropped."""
        frames = {folder: frame[frame["tissue"].astype(str) == tissue] for folder, frame in self.images.items()}
        kept = sorted({int(cluster) for frame in frames.values() for cluster in frame["cluster"]})
        return Observed([self.clusters[i] for i in kept], self.sources, _placed(frames, "cluster", kept))

    def runs(self, row: Row) -> dict[tuple[int, int], Run]:
        """The row's runs that have records, by (fold, seed)."""
        return {(run.id.split, run.id.seed): run for run in row.runs if run.folder in self.images}


def observe(group: Group, protocol: str) -> Observed:
    """Per-image scores of all runs of a group under a protocol.

    Runs whose records are damaged are named on stderr and left out.
    """
    from benchmark.metrics.protocols import PROTOCOLS

    frames, sourced = {}, True
    for run in group.runs:
        try:
            records = run.records()
            frame = PROTOCOLS[protocol].images(records, len(run.config["classes"]))
        except UNREADABLE as error:
            skipped(run.folder, error)
            continue
        source = records.images["source"].astype(str).to_numpy()
        identity = records.images["image_id"].astype(str).to_numpy()
        sourced &= bool((source != "").all())
        # without an id an image is known by its place in its fold's test set
        place = np.array([f"fold{run.id.split}:{i}" for i in records.images["image"]], object)
        frames[run.folder] = frame.assign(source=source, name=np.where(identity != "", identity, place))
    column = "source" if sourced else "name"
    clusters = sorted({str(name) for frame in frames.values() for name in frame[column]})
    return Observed(clusters, sourced and bool(frames), _placed(frames, column, clusters))


def _placed(frames: dict, column: str, clusters: list) -> dict:
    """The frames with `cluster`, the position in `clusters` of each image's value in `column`."""
    position = {name: i for i, name in enumerate(clusters)}
    return {
        folder: frame.assign(cluster=frame[column].map(position).to_numpy(np.int64)) for folder, frame in frames.items()
    }


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
