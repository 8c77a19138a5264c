"""Scores of runs by nucleus size and by crowding, in the bins of the tables."""

from dataclasses import dataclass
from itertools import pairwise

import pandas as pd

from benchmark.metrics.records import Records
from benchmark.report.select.groups import Row
from benchmark.report.select.store import Store
from benchmark.results.run import UNREADABLE, Run, skipped

TABLE_EDGES = (4.0, 6.0, 8.0)  # metrics.sizes.EDGES, which is imported only when records are read
CROWDING_EDGES = (4.0, 6.0, 8.0)  # metrics.sizes.NEIGHBOUR_EDGES


@dataclass(frozen=True)
class SizeScores:
    """One run's scores per bin, pooled over its images; bins in ascending order.

    Attributes:
        table: `metrics.sizes.by_size` in the bins of TABLE_EDGES.
        inner: the same without nuclei that touch the image's edge.
        crowding: `metrics.sizes.by_crowding` in the bins of CROWDING_EDGES; None for records without distances.
    """

    table: pd.DataFrame
    inner: pd.DataFrame
    crowding: pd.DataFrame | None


def size_scores(run: Run, store: Store | None = None) -> SizeScores | None:
    """Scores of one run; None when its records are damaged: the run is then named on stderr.

    Args:
        store: where they are kept between two calls.
    """
    store = store or Store()
    try:
        table, inner, crowding = (store.of(run, name, compute) for name, compute in FRAMES.items())
    except UNREADABLE as error:
        skipped(run.folder, f"its records cannot be read ({type(error).__name__}: {error})")
        return None
    return SizeScores(table, inner, None if crowding.empty else crowding)


def _sizes(records: Records) -> pd.DataFrame:
    from benchmark.metrics.sizes import by_size

    return by_size(records, edges=TABLE_EDGES)


def _inner(records: Records) -> pd.DataFrame:
    from benchmark.metrics.sizes import by_size

    return by_size(records, edges=TABLE_EDGES, border=False)


def _crowding(records: Records) -> pd.DataFrame:
    """Without columns for records that hold no distances."""
    from benchmark.metrics.sizes import by_crowding

    known = "neighbour_um" in records.columns.side["true"]
    return by_crowding(records, edges=CROWDING_EDGES) if known else pd.DataFrame()


# name in `Store` -> what is computed of a run's records, of `Several` a set's lines after another's
FRAMES = {"sizes": _sizes, "sizes-inner": _inner, "crowding": _crowding}


def scores_of(row: Row, scores: dict) -> list[SizeScores]:
    """The scores of a row's runs, without those that have none. `scores`: run folder -> SizeScores or None."""
    of_runs = [scores.get(run.folder) for run in row.runs]
    return [run_scores for run_scores in of_runs if run_scores is not None]


def bin_names(edges: tuple[float, ...]) -> list[str]:
    """Such as ["< 6 µm", "6–9 µm", "≥ 9 µm"]; a diameter equal to an edge belongs to the upper bin."""
    inner = [f"{a:g}–{b:g} µm" for a, b in pairwise(edges)]
    return [f"< {edges[0]:g} µm", *inner, f"≥ {edges[-1]:g} µm"]


def bounds(edges: tuple[float, ...]) -> list[tuple[float | None, float | None]]:
    """(from, to) in µm of each bin; None where it is open."""
    return list(zip([None, *edges], [*edges, None]))
