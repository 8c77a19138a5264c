"""The table of published figures beside measured ones, each in columns of its own."""

import math

from benchmark.report.render.table import Block, Table
from benchmark.report.select.groups import Group, Row
from benchmark.report.stats.summary import summarise
from benchmark.report.tables import published
from benchmark.results.run_id import data_set
from benchmark.runtime.paths import as_called

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
    dataset = data_set(group.dataset)
    figures = published.published(dataset=dataset, protocol=protocol)
    unsure = figures["note"].str.endswith(published.UNSURE)
    left_out = figures[unsure][["method", "row", "note"]].drop_duplicates().values.tolist()
    figures = figures[~unsure]
    table = Table(
        f"published-{protocol}",
        f"Published figures, {dataset}, protocol `{protocol}`: not measured here",
        [
            "Each block has one averaging; figures of different blocks do not compare. Mean of the published splits,"
            " re-averaged from the values of the published test logs; the publications state no interval.",
            "measured: this benchmark's runs of the same method and variant in the table above; difference: measured − "
            "published, only where all published splits are measured, on as many images.",
            f"Table: `{as_called('table')}`; the csv names the source of each figure; commits and commands of measured "
            "runs stand "
            "below the main table.",
        ],
    )
    plain = [row for row in group.rows if not row.settings]
    others = {row.label: note for row in plain if (note := _other_images(row, figures))}
    table.notes += [f"{label}: {note}." for label, note in others.items()]
    table.notes += [f"Left out: {method}, {row} ({note})." for method, row, note in left_out]
    for average, (title, metrics, _) in AVERAGES.items():
        part = figures[(figures["average"] == average) & figures["metric"].isin(metrics.values())]
        if part.empty:
            continue
        lines = [
            ["method", "variant", "splits", *("bPQ", "measured", "difference"), *("mPQ", "measured", "difference")]
        ]
        for (method, variant), of_row in part.groupby(["method", "row"], sort=False):
            candidates = _rows(group, method, variant)
            row = candidates[0] if candidates else None
            if len(candidates) > 1:
                which = f"measured of {method}, {variant}: {row.label}, the first of {len(candidates)} rows of it."
                table.notes = list(dict.fromkeys([*table.notes, which]))
            splits = sorted({split for split in of_row["split"] if split != published.ALL})
            measured_splits = {str(run.id.split) for run in row.runs} if row else set()
            complete = row is not None and measured_splits >= set(splits) and row.label not in others
            line = [method, variant, ", ".join(splits)]
            for name, metric in metrics.items():
                value = _over_splits(of_row[of_row["metric"] == metric])
                measured = _measured(row, values, average, name)
                difference = measured - value if complete else math.nan
                line += [_text(value), _text(measured), _text(difference, sign=True)]
                table.records.append(
                    {"dataset": dataset, "protocol": protocol, "average": average, "method": method, "variant": variant}
                    | {"metric": name, "splits": " ".join(splits), "published": value, "measured": measured}
                    | {"difference": difference, "source": of_row["source"].iloc[0]}
                )
            lines.append(line)
        table.blocks.append(Block(lines, left=3, title=title))
    return table if table.blocks else None


def _over_splits(figures) -> float:
    """The figure over all splits: as published, else the mean of the splits; NaN without any."""
    whole = figures[figures["split"] == published.ALL]["value"]
    if len(whole):
        return float(whole.iloc[0])
    return float(figures["value"].mean()) if len(figures) else math.nan


def _rows(group: Group, method: str, row: str) -> list[Row]:
    """The rows of a published variant that have runs: with several weights there are several. Of settings none is
    published."""
    return [r for r in group.rows if r.spec == f"{method}@{row}" and r.runs and not r.settings]


def _other_images(row: Row, figures) -> str:
    """In words, where this row's test images are not as many as the published ones; "" where they are."""
    of_row = figures["method"] + "@" + figures["row"] == row.spec
    counts = figures[(figures["metric"] == "n_images") & of_row]
    published_counts = dict(zip(counts["split"], counts["value"].astype(int)))
    wrong = set()
    for run in row.runs:
        count, expected = run.metrics.get("n_images", "?"), published_counts.get(str(run.id.split))
        if expected not in (None, count):
            wrong.add(f"{count} instead of {expected} on split {run.id.split}")
    return f"not the published test images, {', '.join(sorted(wrong))}; no difference is shown" if wrong else ""


def _measured(row: Row | None, values: dict, average: str, metric: str) -> float:
    """Mean over the row's runs of bPQ or mPQ under an averaging of AVERAGES; NaN without any."""
    if row is None:
        return math.nan
    _, _, ours = AVERAGES[average]
    key = f"{ours}/{metric}"
    other = metric if average == "images" else key  # where the image mean is not stored by its name
    means = []
    for run in row.runs:
        scores = values[run.folder]
        means.append(scores.get(key, scores.get(other)))
    return summarise(means, 1).mean


def _text(value: float, sign: bool = False) -> str:
    if math.isnan(value):
        return "–"
    return f"{value:+z.3f}" if sign else f"{value:.3f}"
