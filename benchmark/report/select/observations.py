"""Scores as ratios of sums over clusters of test images: what bootstrap intervals and paired tests are made of.

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
        parts = [self.sums(run, metric, tissue) for run in runs]
        empty = np.zeros((0, len(self.clusters)))
        return tuple(np.stack([p[i] for p in parts]) if parts else empty for i in (0, 1))

    def only(self, tissue: str) -> "Observed":
        """The same, of the images of one tissue; clusters without any are dropped."""
        chosen = {k: f[f["tissue"].astype(str) == tissue] for k, f in self.images.items()}
        kept = sorted({int(c) for f in chosen.values() for c in f["cluster"]})
        place = {c: i for i, c in enumerate(kept)}
        images = {k: f.assign(cluster=f["cluster"].map(place).to_numpy(np.int64)) for k, f in chosen.items()}
        return Observed([self.clusters[c] for c in kept], self.sources, images)

    def runs(self, row: Row) -> dict[tuple[int, int], Run]:
        """The row's runs that have records, by (fold, seed)."""
        return {(run.id.split, run.id.seed): run for run in row.runs if run.folder in self.images}


def observe(group: Group, protocol: str) -> Observed:
    """Per-image scores of all runs of a group; runs whose records are damaged are named on stderr and left out."""
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
    key = "source" if sourced else "name"
    clusters = sorted({str(c) for f in frames.values() for c in f[key]})
    position = {name: i for i, name in enumerate(clusters)}
    images = {k: f.assign(cluster=f[key].map(position).to_numpy(np.int64)) for k, f in frames.items()}
    return Observed(clusters, sourced and bool(frames), images)


def _ratio(frame: pd.DataFrame, metric: str) -> tuple[np.ndarray, np.ndarray]:
    if metric == "F1":
        if "n_paired" not in frame:
            return np.zeros(len(frame)), np.zeros(len(frame))
        counts = {c: frame[c].to_numpy(np.float64) for c in ("n_paired", "n_true", "n_pred")}
        return 2 * counts["n_paired"], counts["n_true"] + counts["n_pred"]
    if metric not in frame:
        return np.zeros(len(frame)), np.zeros(len(frame))
    score = frame[metric].to_numpy(np.float64)
    known = ~np.isnan(score)
    return np.where(known, score, 0.0), known.astype(np.float64)
