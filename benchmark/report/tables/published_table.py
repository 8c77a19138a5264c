"""The published block of `make table`: figures of the publications, never mixed with measured ones."""

import math

from benchmark.report.render.table import Block, Table
from benchmark.report.select.groups import Group, Row
from benchmark.report.stats.summary import summarise
from benchmark.report.tables import published

AVERAGES = {
    "images": ("mean over test images", {"bPQ": "bPQ", "mPQ": "mPQ"}, "image_mean"),
    "tissues": ("mean over 19 tissues", {"bPQ": "tissue_mean/bPQ", "mPQ": "tissue_mean/mPQ"}, "tissue_mean"),
}


def published_table(group: Group, protocol: str, values: dict) -> Table | None:
    """Published figures of this dataset under this protocol, a block per averaging; None where none exist.

    A figure over several folds is the mean of the published splits where it is not published as such. `measured` is
    the mean over this group's folds of a row with the same method and variant; its difference is shown only when the
    row has every fold that the published mean has, each with the published number of test images.

    Args:
        values: run folder -> flat scores under `protocol`.
    """
    dataset = group.dataset.partition("@")[0]
    found = published.published(dataset=dataset, protocol=protocol)
    table = Table(
        f"published-{protocol}",
        f"Published figures, {dataset}, protocol `{protocol}`: not measured here",
        [
            "Each block has one averaging; figures of different blocks do not compare. Mean of the published splits,"
            " re-averaged from the values of the published test logs; the publications state no interval.",
            "measured: this benchmark's runs of the same method and variant in the table above; difference: measured − "
            "published, only where all published splits are measured, on as many images.",
            "Table: `make table`; the csv names the source of each figure; commits and commands of measured runs stand "
            "below the main table.",
        ],
    )
    others = {row.label: note for row in group.rows if (note := _other_images(row, found))}
    table.notes += [f"{label}: {note}." for label, note in others.items()]
    for average, (text, metrics, ours) in AVERAGES.items():
        names = [m for m in metrics.values() if (found["metric"] == m).any()]
        part = found[(found["average"] == average) & found["metric"].isin(names)]
        if part.empty:
            continue
        heads = [h for m in ("bPQ", "mPQ") for h in (m, "measured", "difference")]
        cells = [["method", "variant", "splits", *heads]]
        for (method, row), lines in part.groupby(["method", "row"], sort=False):
            own = _row(group, method, row)
            splits = sorted({s for s in lines["split"] if s != published.ALL})
            line = [method, row, ", ".join(splits)]
            for name, metric in metrics.items():
                said = _said(lines[lines["metric"] == metric])
                mean = _measured(own, values, (f"{ours}/{name}", name if ours == "image_mean" else metric))
                complete = (
                    own is not None and {str(r.id.split) for r in own.runs} >= set(splits) and own.label not in others
                )
                apart = mean - said if complete else math.nan
                line += [_text(said), _text(mean), _text(apart, sign=True)]
                table.records.append(
                    {"dataset": dataset, "protocol": protocol, "average": average, "method": method, "variant": row}
                    | {"metric": name, "splits": " ".join(splits), "published": said, "measured": mean}
                    | {"difference": apart, "source": lines["source"].iloc[0]}
                )
            cells.append(line)
        table.blocks.append(Block(cells, left=3, title=text))
    return table if table.blocks else None


def _said(lines) -> float:
    """The figure over all splits: as published, else the mean of the splits."""
    whole = lines[lines["split"] == published.ALL]["value"]
    return float(whole.iloc[0]) if len(whole) else float(lines["value"].mean()) if len(lines) else math.nan


def _row(group: Group, method: str, row: str) -> Row | None:
    return next((r for r in group.rows if r.method == f"{method}@{row}" and r.runs), None)


def _other_images(row: Row, found) -> str:
    """In words, where this row's test images are not as many as the published ones; "" where they are."""
    counts = found[(found["metric"] == "n_images") & (found["method"] + "@" + found["row"] == row.method)]
    said = dict(zip(counts["split"], counts["value"].astype(int)))
    pairs = [(r.id.split, r.metrics.get("n_images", "?"), said.get(str(r.id.split))) for r in row.runs]
    wrong = {f"{n} instead of {known} on split {fold}" for fold, n, known in pairs if known not in (None, n)}
    return f"not the published test images, {', '.join(sorted(wrong))}; no difference is shown" if wrong else ""


def _measured(row: Row | None, values: dict, keys: tuple[str, str]) -> float:
    if row is None:
        return math.nan
    scores = [values[run.folder] for run in row.runs]
    return summarise((next((s[k] for k in keys if k in s), None) for s in scores), 1).mean


def _text(value: float, sign: bool = False) -> str:
    return "–" if math.isnan(value) else f"{value:+.3f}" if sign else f"{value:.3f}"
