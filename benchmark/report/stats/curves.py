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
        by: key of BY.
        grid: float64 (X,), µm.
        clusters: names of the sources (or images) over all runs.
        sums: run folder -> (positions of the run's clusters in `clusters`, float32 (own, 4, X) of tp, fp, fn and IoU).
    """

    by: str
    grid: np.ndarray
    clusters: list[str]
    sums: dict

    def runs(self, row: Row) -> list[Run]:
        """The row's runs that have sums."""
        return [run for run in row.runs if run.folder in self.sums]

    def of(self, runs: list[Run], draws: np.ndarray | None = None) -> dict[str, np.ndarray]:
        """PQ, recall and n (true nuclei in weight) against the grid, runs pooled.

        Args:
            draws: float64 (resamples, clusters), how often each cluster is drawn; None: each once.

        Returns:
            Arrays (X,), or (resamples, X) with draws.
        """
        from benchmark.metrics.curves import curve_scores

        total = np.zeros((len(self.clusters), 4, len(self.grid)))
        for run in runs:
            place, sums = self.sums[run.folder]
            total[place] += sums
        if draws is None:
            return curve_scores(total.sum(0))
        return curve_scores(np.tensordot(draws, total, 1).transpose(1, 0, 2))


def curves(group: Group) -> dict[str, Curves]:
    """The curves of a group, by property; properties that no run has recorded are left out.

    The grid follows from the first run of each fold: the truth is the same for all.
    """
    from benchmark.metrics.curves import cluster_sums, default_grid

    first = {run.id.split: run for run in reversed(group.runs)}
    firsts = [records for run in first.values() if (records := _records(run)) is not None]
    grids = {by: default_grid([records for records in firsts if by in records.nuclei], by) for by in BY}
    parts: dict[str, dict] = {by: {} for by in BY}
    for run in group.runs:
        records = _records(run)
        if records is None:
            continue
        for by, grid in grids.items():
            if len(grid) and by in records.nuclei:  # records of older runs have no distances
                names, sums = cluster_sums(records, by, grid)
                own = _shared_names(names.tolist(), records, run.id.split)
                parts[by][run.folder] = own, sums.astype(np.float32)
    return {by: _joined(by, grids[by], of_run) for by, of_run in parts.items() if of_run}


def _joined(by: str, grid: np.ndarray, of_run: dict) -> Curves:
    """Curves of runs; of_run: run folder -> (names of its clusters, float32 (own, 4, X))."""
    clusters = sorted({name for names, _ in of_run.values() for name in names})
    place = {name: i for i, name in enumerate(clusters)}
    sums = {}
    for folder, (names, own) in of_run.items():
        sums[folder] = np.array([place[name] for name in names]), own
    return Curves(by, grid, clusters, sums)


def _shared_names(names: list[str], records, split: int) -> list[str]:
    """Names of one run's clusters that mean the same in all runs.

    A source keeps its own. An image without one is known by its id, so that a test set that two splits share counts
    once, as in `observations`; without an id it is another image in another fold.

    Args:
        names: "s" and the name of a source, or "i" and the number of an image.
    """
    image_ids = dict(zip(records.images["image"].astype(str), records.images["image_id"].astype(str)))
    out = []
    for name in names:
        if name[0] != "s":
            image_id = image_ids[name[1:]]
            name = f"i{image_id}" if image_id else f"{split}{name}"
        out.append(name)
    return out


def _records(run: Run):
    """The run's records; None when they are damaged: the run is then named on stderr."""
    try:
        return run.records()
    except UNREADABLE as error:
        skipped(run.folder, error)
        return None


def lines(group: Group, curves: Curves) -> list[tuple[Row, dict[str, np.ndarray]]]:
    """Per row: n, PQ, recall and their bands PQ_low, PQ_high, recall_low, recall_high, float64 (X,) each."""
    out = []
    for row in group.rows:
        runs = curves.runs(row)
        if not runs:
            continue
        values = curves.of(runs)
        drawn = curves.of(runs, weights(len(curves.clusters)))
        line = {"n": values["n"] / len(runs), "PQ": values["PQ"], "recall": values["recall"]}
        for metric in ("PQ", "recall"):
            line |= _band(metric, drawn[metric], len(curves.clusters))
        out.append((row, line))
    return out


def gain(curves: Curves, a: Row, b: Row) -> dict[str, np.ndarray] | None:
    """PQ of row a minus that of row b against the grid, with the paired band; None without a common fold and seed."""
    of_a = {(run.id.split, run.id.seed): run for run in curves.runs(a)}
    of_b = {(run.id.split, run.id.seed): run for run in curves.runs(b)}
    both = sorted(of_a.keys() & of_b.keys())
    if not both:
        return None
    sides = [of_a[key] for key in both], [of_b[key] for key in both]
    values = [curves.of(side) for side in sides]
    drawn = [curves.of(side, weights(len(curves.clusters)))["PQ"] for side in sides]
    difference = {"n": values[0]["n"] / len(both), "PQ": values[0]["PQ"] - values[1]["PQ"]}
    return difference | _band("PQ", drawn[0] - drawn[1], len(curves.clusters))


def _band(metric: str, drawn: np.ndarray, clusters: int) -> dict[str, np.ndarray]:
    """Percentile band <metric>_low, <metric>_high over resamples, float64 (X,) each.

    NaN with fewer than FEWEST clusters and where no resample has a value.

    Args:
        drawn: float64 (resamples, X).
    """
    low, high = np.full((2, drawn.shape[1]), np.nan)
    some = ~np.isnan(drawn).all(0)
    if clusters >= FEWEST and some.any():
        tail = (1 - LEVEL) / 2
        low[some], high[some] = np.nanquantile(drawn[:, some], [tail, 1 - tail], axis=0)
    return {f"{metric}_low": low, f"{metric}_high": high}
