"""PQ and recall as smooth functions of nucleus size and crowding, per row and between two rows."""

from dataclasses import dataclass

import numpy as np

from benchmark.report.select.groups import Group, Row
from benchmark.report.stats.bootstrap import FEWEST, LEVEL, weights
from benchmark.results.run import UNREADABLE, Run, skipped

BY = {"d_um": "equivalent diameter (µm)", "neighbour_um": "distance to the nearest nucleus (µm)"}
FEW = 20  # true nuclei in weight below which a point is noise: in the csv, not in the figure


@dataclass(frozen=True, eq=False)
class Curves:
    """Weighted sums of all rows of a group against one property.

    Attributes:
        by: key of BY. grid: (X,) um.
        clusters: names of the sources (or images) over all runs.
        sums: run folder -> (positions in clusters of the run's own, float32 (own, 4, X) of tp, fp, fn and IoU).
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

        total = np.zeros((len(self.clusters), 4, len(self.grid)))
        for run in runs:
            place, sums = self.sums[run.folder]
            total[place] += sums
        return curve_scores(total.sum(0) if draws is None else np.tensordot(draws, total, 1).transpose(1, 0, 2))


def curves(group: Group) -> dict[str, Curves]:
    """The curves of a group, by property; properties that no run has recorded are left out.

    The grid follows from the first run of each fold: the truth is the same for all.
    """
    from benchmark.metrics.curves import cluster_sums, default_grid

    first = {run.id.split: run for run in reversed(group.runs)}
    some = [found for run in first.values() if (found := _records(run)) is not None]
    grids = {by: default_grid([r for r in some if by in r.nuclei], by) for by in BY}
    parts: dict[str, dict] = {by: {} for by in BY}
    for run in group.runs:
        found = _records(run)
        if found is None:
            continue
        for by, grid in grids.items():
            if len(grid) and by in found.nuclei:  # records of older runs have no distances
                names, sums = cluster_sums(found, by, grid)
                own = _named(names.tolist(), found, run.id.split)
                parts[by][run.folder] = own, sums.astype(np.float32)
    out = {}
    for by, of_run in parts.items():
        clusters = sorted({name for names, _ in of_run.values() for name in names})
        place = {name: i for i, name in enumerate(clusters)}
        placed = {folder: (np.array([place[n] for n in names]), sums) for folder, (names, sums) in of_run.items()}
        if placed:
            out[by] = Curves(by, grids[by], clusters, placed)
    return out


def _named(names: list[str], records, fold: int) -> list[str]:
    """Names of one run's clusters that hold in all runs.

    A source keeps its own. An image without one is known by its id, so that a test set that two splits share counts
    once, as in `observations`; without an id it is another image in another fold.
    """
    identity = dict(zip(records.images["image"].astype(str), records.images["image_id"].astype(str)))
    return [n if n[0] == "s" else f"i{identity[n[1:]]}" if identity[n[1:]] else f"{fold}{n}" for n in names]


def _records(run: Run):
    try:
        return run.records()
    except UNREADABLE as error:
        skipped(run.folder, error)
        return None


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
    runs = [{(r.id.split, r.id.seed): r for r in found.runs(row)} for row in (a, b)]
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
