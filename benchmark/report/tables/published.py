"""Published figures of published methods, as their authors' test logs hold them, to set beside measured ones.

`published.csv` has a line per figure: method, row, dataset, split, protocol, average, metric, value, source, note.

- method and row are this benchmark's names; rows that it has no network for are the publication's variants, such as
  `cellvit_stardist`, row `sam_h-our`.
- split: 1, 2, 3, or "all": the mean of the splits, which is what papers print.
- protocol: the one of `benchmark.metrics.protocols` that computes the same quantity; metric: its name there.
- average: images (mean over images), tissues (mean over 19 tissues of the mean over each one's images), pooled (counts
  of all images together), count. Figures of different averages are not to be compared: 0.506 (CellVTA, images) stands
  against 0.496 of CellViT-SAM-H, 0.509 (tissues) against 0.498.
- note: for a person; one that ends in UNSURE says why the protocol is not certain, and the line stands in no table.
- source: folder of the test log in the authors' published logs, or how the figure follows from the lines above it.

The publications state no confidence interval.
"""

import functools
from pathlib import Path

import pandas as pd

FILE = Path(__file__).with_name("published.csv")
COLUMNS = ["method", "row", "dataset", "split", "protocol", "average", "metric", "value", "source", "note"]
ALL = "all"
UNSURE = "not known"  # end of the note of a figure whose protocol is not certain


@functools.cache
def table(file: Path = FILE) -> pd.DataFrame:
    """All published figures of a file with COLUMNS, a row each; split is text."""
    return pd.read_csv(file, dtype={"split": str}, keep_default_na=False)


def published(
    method: str | None = None,
    row: str | None = None,
    dataset: str | None = None,
    split: int | str | None = None,
    metric: str | None = None,
    protocol: str | None = None,
    file: Path = FILE,
) -> pd.DataFrame:
    """The published figures, only those that match every argument that is not None.

    Args:
        split: 1, 2, 3 or "all".
        file: the table, see `table`.
    """
    conditions = {"method": method, "row": row, "dataset": dataset, "metric": metric, "protocol": protocol}
    conditions["split"] = None if split is None else str(split)
    figures = table(file)
    for column, value in conditions.items():
        if value is not None:
            figures = figures[figures[column] == value]
    return figures.reset_index(drop=True)


def values(method: str, row: str, dataset: str, split: int | str, protocol: str) -> dict[str, float]:
    """metric -> published value of one method on one split under one protocol; {} when none is published."""
    figures = published(method, row, dataset, split, protocol=protocol)
    return dict(zip(figures["metric"], figures["value"], strict=True))
