"""The matrix of a method: trained on each data set (rows), tested on each (columns)."""

import math

from benchmark.report.render.table import Block, Table
from benchmark.report.select.observations import Observed
from benchmark.report.select.transfer import METRICS, Matrix, Tested
from benchmark.report.stats.bootstrap import Interval, runs_interval
from benchmark.report.stats.summary import summarise


def transfer_table(matrix: Matrix, protocol: str, values: dict, observed: dict[str, Observed]) -> Table:
    """bPQ, mPQ and detection F1, training sets × test sets, each with its 95 % interval.

    Args:
        values: run folder -> flat scores under `protocol`.
        observed: test set -> per-image scores under `protocol`.
    """
    versions = sorted({str(scores["version"]) for scores in values.values() if "version" in scores})
    version = f" version {', '.join(versions)}" if versions else ""
    caption = f"Trained here, tested there: {matrix.name}, protocol `{protocol}`{version}. {_overlaps(matrix)}"
    table = Table(f"transfer-{protocol}", caption, _notes(matrix, observed))
    for metric, title in METRICS.items():
        lines = [["trained on", *matrix.tested]]
        for trained in matrix.trained:
            line = [trained]
            for tested in matrix.tested:
                cell = matrix.cells.get((trained, tested))
                estimate = _estimate(cell, metric, values, observed) if cell else None
                line.append("–" if estimate is None else estimate.text())
                if cell and estimate:
                    facts = {
                        "method": matrix.method,
                        "kind": matrix.kind,
                        "protocol": protocol,
                        "protocol_version": ", ".join(versions),
                    }
                    table.records.append(facts | _record(cell, metric, estimate))
            lines.append(line)
        table.blocks.append(Block(lines, title=title))
    return table


def _estimate(cell: Tested, metric: str, values: dict, observed: dict[str, Observed]) -> Interval:
    """Mean over the runs of a score, with its interval over test images."""
    mean = summarise((values[run.folder].get(metric) for run in cell.runs), len(cell.runs)).mean
    tissues = list(dict.fromkeys(str(name) for run in cell.runs for name in run.config["tissues"]))
    of_test = observed[cell.tested]
    runs = [run for run in cell.runs if run.folder in of_test.images]
    if math.isnan(mean) or not runs:
        return Interval(mean, math.nan, math.nan, 0)
    return runs_interval(of_test, runs, metric, tissues, mean)


def _record(cell: Tested, metric: str, estimate: Interval) -> dict:
    """A csv line."""
    overlap, classes = cell.facts.get("overlap") or {}, cell.facts.get("classes")
    return {
        "trained": cell.trained,
        "tested": cell.tested,
        "metric": metric,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "clusters": estimate.clusters,
        "runs": len(cell.runs),
        "images": cell.runs[0].metrics.get("n_images"),
        "left_out": overlap.get("left_out"),
        "by_name": overlap.get("by_name"),
        "by_pixels": overlap.get("by_pixels"),
        "overlap_unknown": overlap.get("unknown"),
        "classes": None if classes is None else "; ".join(map(str, classes)),
        "seen_mpp": cell.facts.get("seen_mpp"),
    }


def _overlaps(matrix: Matrix) -> str:
    """Images that were left out, and pairs of which the overlap is not known."""
    left_out, unknown, unseen = [], [], []
    for cell in matrix.cells.values():
        pair, overlap = f"{cell.trained} → {cell.tested}", cell.facts.get("overlap")
        if cell.own:
            continue
        if not isinstance(overlap, dict):
            unseen.append(pair)
            continue
        if overlap.get("left_out"):
            left_out.append(f"{pair} {overlap['left_out']} of {overlap.get('images')} images")
        if overlap.get("unknown"):
            unknown.append(pair)
    parts = [f"Left out for overlap: {'; '.join(left_out) or 'none'}."]
    parts += [f"Overlap unknown: {'; '.join(unknown)}."] if unknown else []
    parts += [f"Overlap not looked into: {'; '.join(unseen)}."] if unseen else []
    return " ".join(parts)


def _notes(matrix: Matrix, observed: dict[str, Observed]) -> list[str]:
    notes = [
        "Rows: training set; columns: test side of the named set. 95 % interval: bootstrap over source images where "
        "the data name them, else over test images; none below 5 of them. –: no run, or no value."
    ]
    for cell in matrix.cells.values():
        if cell.own:
            notes.append(f"{cell.trained}: its own test side, {_runs(cell)}.")
            continue
        facts, sentences = cell.facts, [_runs(cell)]
        classes = facts.get("classes")
        metrics = cell.runs[0].metrics
        if classes is None:
            sentences.append("the training saw no types, hence no mPQ")
        elif metrics.get("n_untyped") and metrics["n_untyped"] == metrics.get("n_images"):
            sentences.append("the test images have no types, hence no mPQ")
        else:
            sentences.append(
                f"mPQ over {', '.join(map(str, classes))}" if classes else "no class of both, hence no mPQ"
            )
        if facts.get("seen_mpp") is not None:
            own = cell.runs[0].config.get("mpp")
            sentences.append(
                f"images resampled from {own:g} to {facts['seen_mpp']:g} µm/px, nuclei brought back (rule "
                f"{facts.get('resampling')})"
            )
        overlap = facts.get("overlap")
        if isinstance(overlap, dict):
            known = f"{overlap.get('by_name')} by name, {overlap.get('by_pixels')} by pixels"
            sentences.append(f"{overlap.get('left_out')} of {overlap.get('images')} test images left out ({known})")
            if overlap.get("unknown"):
                sentences.append(f"overlap unknown beyond that: {overlap['unknown']}")
        notes.append(f"{cell.trained} → {cell.tested}: {'; '.join(sentences)}.")
    return notes


def _runs(cell: Tested) -> str:
    n, images = len(cell.runs), cell.runs[0].metrics.get("n_images")
    return f"{n} run{'s' * (n > 1)}, {images} test images"
