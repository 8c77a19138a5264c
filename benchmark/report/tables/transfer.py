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
    classes = cell.facts.get("classes")
    return {
        "trained": cell.trained,
        "tested": cell.tested,
        "metric": metric,
        "value": estimate.value,
        "low": estimate.low,
        "high": estimate.high,
        "clusters": estimate.clusters,
        "runs": len(cell.runs),
        "images": _each(_images(cell)),
        **{key: _each([one.get(key) for one in cell.overlaps]) for key in ("left_out", "by_name", "by_pixels")},
        "overlap_unknown": _unknown(cell),
        "classes": None if classes is None else "; ".join(map(str, classes)),
        "seen_mpp": cell.facts.get("seen_mpp"),
    }


def _images(cell: Tested) -> list:
    """Test images of each run."""
    return [run.metrics.get("n_images") for run in cell.runs]


def _each(values: list):
    """The value of all runs in a csv; where they differ, each once: "24; 0"; None without any."""
    once = list(dict.fromkeys(values))
    return "; ".join(map(str, once)) if len(once) > 1 else once[0] if once else None


def _unknown(cell: Tested) -> str | None:
    """Why the overlap is unknown, in a csv; None on the own test side."""
    if cell.own:
        return None
    return "; ".join(_doubts(cell)) if cell.overlaps else "not looked into"


def _doubts(cell: Tested) -> list[str]:
    return list(dict.fromkeys(str(one["unknown"]) for one in cell.overlaps if one.get("unknown")))


def _left_out(cell: Tested) -> list[str]:
    """ "3 of 5" of each run's test images, each once."""
    return list(dict.fromkeys(f"{one.get('left_out')} of {one.get('images')}" for one in cell.overlaps))


def _overlaps(matrix: Matrix) -> str:
    """Images that were left out, and pairs of which the overlap is not known."""
    left_out, unknown, unseen = [], [], []
    for cell in matrix.cells.values():
        pair = f"{cell.trained} → {cell.tested}"
        if cell.own:
            continue
        if not cell.overlaps:
            unseen.append(pair)
            continue
        if any(one.get("left_out") for one in cell.overlaps):
            left_out.append(f"{pair} {' and '.join(_left_out(cell))} images")
        if _doubts(cell):
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
        sentences += _known(cell)
        notes.append(f"{cell.trained} → {cell.tested}: {'; '.join(sentences)}.")
    return notes


def _known(cell: Tested) -> list[str]:
    """What is known of the images that the training has seen."""
    known = (
        f"{one.get('left_out')} of {one.get('images')} test images left out ({one.get('by_name')} by name, "
        f"{one.get('by_pixels')} by pixels)"
        for one in cell.overlaps
    )
    sentences = list(dict.fromkeys(known))
    if not cell.overlaps:
        sentences.append("whether the training has seen test images was not looked into")
    if doubts := _doubts(cell):
        sentences.append(f"overlap unknown beyond that: {', '.join(doubts)}")
    if n := len(cell.beside):
        sentences.append(f"{n} other run{'s' * (n > 1)}, whose overlap was not looked into, not averaged with these")
    return sentences


def _runs(cell: Tested) -> str:
    n, images = len(cell.runs), " and ".join(map(str, dict.fromkeys(_images(cell))))
    return f"{n} run{'s' * (n > 1)}, {images} test images"
