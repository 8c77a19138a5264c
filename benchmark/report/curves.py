"""PQ and recall as smooth functions of nucleus size and crowding, per row and between two rows."""

from dataclasses import dataclass

import numpy as np

from benchmark.report.bootstrap import FEWEST, LEVEL, weights
from benchmark.report.collect import UNREADABLE, Run, skipped
from benchmark.report.groups import Group, Row

BY = {"d_um": "equivalent diameter (µm)", "neighbour_um": "distance to the nearest nucleus (µm)"}
FEW = 20  # true nuclei in weight below which a point is noise: in the csv, not in the figure


@dataclass(frozen=True, eq=False)
class Curves:
    """Weighted sums of all rows of a group against one property.

    Attributes:
        by: key of BY. grid: (X,) um.
        clusters: names of the sources (or images) over all runs; first axis of the sums.
        sums: run folder -> float64 (clusters, 4, X) of tp, fp, fn and IoU.
    """

    by: str
    grid: np.ndarray
    clusters: list[str]
    sums: dict

    def runs(self, row: Row) -> list[Run]:
        """The row's runs that have sums."""
        return [run for run in row.runs if run.folder in self.sums]

    def of(self, runs: list[Run], draws: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """PQ, recall and n against the grid, runs pooled: (X,), or (resamples, X) with draws (resamples, clusters)."""
        from benchmark.metrics.curves import curve_scores

        total = sum(self.sums[run.folder] for run in runs)
        return curve_scores(total.sum(0) if draws is None else np.tensordot(draws, total, 1).transpose(1, 0, 2))


def curves(group: Group, by: str) -> Curves | None:
    """The curves of a group; None when no run has records that hold the property."""
    from benchmark.metrics.curves import cluster_sums, default_grid

    records = {}
    for run in group.runs:
        try:
            found = run.records()
            if by not in found.nuclei:
                continue  # written before the property was recorded
            records[run.folder] = (run, found)
        except UNREADABLE as error:
            skipped(run.folder, error)
    grid = default_grid([found for _, found in records.values()], by)
    if not len(grid):
        return None
    parts = {}
    for folder, (run, found) in records.items():
        names, sums = cluster_sums(found, by, grid)
        # an image without a source is another one in another fold
        parts[folder] = [n if n.startswith("s") else f"{run.id.fold}{n}" for n in names.tolist()], sums
    clusters = sorted({name for names, _ in parts.values() for name in names})
    place = {name: i for i, name in enumerate(clusters)}
    placed = {}
    for folder, (names, sums) in parts.items():
        placed[folder] = np.zeros((len(clusters), *sums.shape[1:]))
        placed[folder][[place[n] for n in names]] = sums
    return Curves(by, grid, clusters, placed)


def lines(group: Group, found: Curves) -> list[tuple[Row, dict[str, np.ndarray]]]:
    """Per row: n, PQ, recall and their bands PQ_low, PQ_high, recall_low, recall_high against the grid."""
    out = []
    for row in group.rows:
        runs = found.runs(row)
        if runs:
            values = found.of(runs)
            drawn = found.of(runs, weights(len(found.clusters)))
            bands = {f"{m}_{end}": band for m in ("PQ", "recall") for end, band in _band(drawn[m], found).items()}
            out.append((row, {k: values[k] / (len(runs) if k == "n" else 1) for k in ("n", "PQ", "recall")} | bands))
    return out


def gain(found: Curves, a: Row, b: Row) -> dict[str, np.ndarray] | None:
    """PQ of row a minus that of row b against the grid, with the paired band; None without a common fold and seed."""
    runs = [{(r.id.fold, r.id.seed): r for r in found.runs(row)} for row in (a, b)]
    both = sorted(runs[0].keys() & runs[1].keys())
    if not both:
        return None
    sides = [[of[k] for k in both] for of in runs]
    values = [found.of(side) for side in sides]
    drawn = [found.of(side, weights(len(found.clusters)))["PQ"] for side in sides]
    n = values[0]["n"] / len(both)
    return {"n": n, "PQ": values[0]["PQ"] - values[1]["PQ"]} | {
        f"PQ_{end}": band for end, band in _band(drawn[0] - drawn[1], found).items()
    }


def _band(drawn: np.ndarray, found: Curves) -> dict[str, np.ndarray]:
    """Percentile band over resamples; NaN with too few clusters or where no resample has a value."""
    out = {end: np.full(drawn.shape[1], np.nan) for end in ("low", "high")}
    some = ~np.isnan(drawn).all(0)
    if len(found.clusters) >= FEWEST and some.any():
        tail = (1 - LEVEL) / 2
        out["low"][some], out["high"][some] = np.nanquantile(drawn[:, some], [tail, 1 - tail], axis=0)
    return out
