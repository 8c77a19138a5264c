"""Panoptic quality against nucleus size."""

from pathlib import Path

import numpy as np

from benchmark.report.groups import Group, Row
from benchmark.report.sizes import CURVE_EDGES, bounds, scores_of
from benchmark.report.stats import summarise
from benchmark.report.style import drawing, look, save

MIN_NUCLEI = 20  # bins with fewer true nuclei are noise: in the csv, not in the figure


def size_curve(group: Group, scores: dict, folder: Path, name: str = "pq_by_size") -> bool:
    """PQ against equivalent diameter (µm), one line per method; below it the number of true nuclei per bin.

    A point stands at the median diameter of its bin's true nuclei; its bar is the sample standard deviation
    over runs. False, and nothing written, when no run has a bin with MIN_NUCLEI nuclei.

    Args:
        scores: run folder -> SizeScores or None.
    """
    lines = [(row, _line(group, row, scores)) for row in group.rows]
    lines = [(row, line) for row, line in lines if any(point["drawn"] for point in line)]
    if not lines:
        return False
    by_fold = {run.id.fold: scores[run.folder].curve["n_true"] for run in group.runs if scores.get(run.folder)}
    counts = np.sum([c.to_numpy() for c in by_fold.values()], axis=0)
    save(_draw(group, lines, counts), Path(folder) / name, [point for _, line in lines for point in line])
    return True


def _line(group: Group, row: Row, scores: dict) -> list[dict]:
    curves = [s.curve for s in scores_of(row, scores)]
    line = []
    for b, (low, high) in enumerate(bounds(CURVE_EDGES)):
        pq = summarise((c["PQ"].iloc[b] for c in curves), group.expected)
        n_true = int(sum(c["n_true"].iloc[b] for c in curves))
        line.append(
            {
                "dataset": group.dataset,
                "kind": group.kind,
                "preset": group.scale,
                "method": row.method,
                "backbone": row.backbone[0],
                "weights": row.backbone[1],
                "d_from_um": low,
                "d_to_um": high,
                "d_um": summarise((c["d_um"].iloc[b] for c in curves), group.expected).mean,
                "PQ_mean": pq.mean,
                "PQ_sd": pq.sd,
                "runs": pq.n,
                "expected": pq.expected,
                "n_true_all_runs": n_true,
                "drawn": int(pq.n > 0 and n_true >= MIN_NUCLEI),
            }
        )
    return line


def _draw(group: Group, lines: list, counts: np.ndarray):
    drawn = [[point for point in line if point["drawn"]] for _, line in lines]
    labels = [_label(group, row) for row, _ in lines]
    longest = max(map(len, labels))
    columns = min(len(lines), 3 if longest < 12 else 2 if longest < 26 else 1)
    with drawing(2.7 + 0.15 * -(-len(lines) // columns)) as figure:
        top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
        for i, points in enumerate(drawn):
            top.errorbar(
                [p["d_um"] for p in points],
                [p["PQ_mean"] for p in points],
                yerr=[_sd(p) for p in points],
                label=labels[i],
                **look(i),
                zorder=3 + len(lines) - i,
                elinewidth=0.7,
                capsize=0,
            )
        everything = [p for points in drawn for p in points]
        top.set_ylim(0, min(1.02, max(0.1, 1.08 * max(p["PQ_mean"] + _sd(p) for p in everything))))
        top.set_ylabel("PQ (mean ± sd)" if any(_sd(p) for p in everything) else "PQ")
        _bars(bottom, counts, [p["d_um"] for p in everything])
        bottom.set_xlabel("equivalent diameter (µm)")
        figure.align_ylabels([top, bottom])
        figure.legend(loc="outside upper center", ncols=columns)
    return figure


def _bars(axes, counts: np.ndarray, diameters: list[float]) -> None:
    """True nuclei per bin; the open bins end where the axis ends, beyond every drawn point."""
    left = min(min(diameters) - 0.8, CURVE_EDGES[0] - 1.5)
    right = max(max(diameters) + 0.8, CURVE_EDGES[-1] + 1.5)
    edges = np.array([left, *CURVE_EDGES, right])
    axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color="#BBBBBB", edgecolor="white", linewidth=0.6)
    axes.set_xlim(left, right)
    axes.set_ylim(0, max(1, counts.max()) * 1.1)
    axes.set_ylabel("nuclei")
    axes.locator_params(axis="y", nbins=2, integer=True)


def _sd(point: dict) -> float:
    """Half length of the point's error bar: 0 where one run gives no spread."""
    return point["PQ_sd"] if np.isfinite(point["PQ_sd"]) else 0.0


def _label(group: Group, row: Row) -> str:
    """The row's label, marked such as (2/3) when runs are missing."""
    done = len(row.runs)
    return row.label if done == group.expected else f"{row.label} ({done}/{group.expected})"
