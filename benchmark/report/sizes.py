"""Scores against nucleus size: each run's records in the bins of the table and of the figure."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd

from benchmark.report.collect import UNREADABLE, Run, skipped
from benchmark.report.groups import Row

TABLE_EDGES = (4.0, 6.0, 8.0)  # metrics.sizes.EDGES, which is imported only when records are read
CURVE_EDGES = (4.5, 6.0, 7.5, 9.0, 10.5, 12.0, 13.5, 15.0)


@dataclass(frozen=True)
class SizeScores:
    """One run's scores per size bin, pooled over its images; bins in ascending order.

    Attributes:
        table: `metrics.sizes.by_size` in the bins of TABLE_EDGES.
        curve: the same in the bins of CURVE_EDGES, with d_um, the median equivalent diameter in µm of the
            true nuclei of the bin (NaN in a bin without).
    """

    table: pd.DataFrame
    curve: pd.DataFrame


def size_scores(run: Run) -> SizeScores | None:
    """Scores of one run; None when its records are damaged, which is said on stderr."""
    from benchmark.metrics.sizes import by_size

    try:
        records = run.records()
        table = by_size(records, edges=TABLE_EDGES).reset_index(drop=True)
        curve = by_size(records, edges=CURVE_EDGES).reset_index(drop=True)
        nuclei = records.nuclei
        diameters = nuclei.loc[nuclei["side"].astype(str) == "true", "d_um"].to_numpy(float)
    except UNREADABLE as error:
        skipped(run.folder, f"its records cannot be read ({type(error).__name__}: {error})")
        return None
    of_bin = np.digitize(diameters, CURVE_EDGES)
    medians = [np.median(diameters[of_bin == b]) if (of_bin == b).any() else np.nan for b in range(len(curve))]
    return SizeScores(table, curve.assign(d_um=medians))


def scores_of(row: Row, scores: dict) -> list[SizeScores]:
    """The scores of a row's runs, without those that have none. `scores` maps run folders to size_scores."""
    found = [scores.get(run.folder) for run in row.runs]
    return [s for s in found if s is not None]


def bin_names(edges: tuple[float, ...]) -> list[str]:
    """Such as ["< 6 µm", "6–9 µm", "≥ 9 µm"]; a diameter equal to an edge belongs to the upper bin."""
    inner = [f"{a:g}–{b:g} µm" for a, b in pairwise(edges)]
    return [f"< {edges[0]:g} µm", *inner, f"≥ {edges[-1]:g} µm"]


def bounds(edges: tuple[float, ...]) -> list[tuple[float | None, float | None]]:
    """(from, to) in µm of each bin; None where it is open."""
    return list(zip([None, *edges], [*edges, None]))
