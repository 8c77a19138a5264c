"""The page's leaderboard: a row per method with ranks, intervals, cost, and published figures among them."""

import math
from dataclasses import dataclass, field

from benchmark.report.render.table import Table
from benchmark.report.select.groups import KINDS, Group, Row
from benchmark.report.select.observations import Observed
from benchmark.report.stats.bootstrap import difference
from benchmark.report.tables.common import named
from benchmark.report.tables.headline import SHOWN

RANKED = "bPQ"
DIGITS = 3  # of a score as it is printed; equal printed scores share a rank
DEFAULT = ("rank", "tuned", "settings", "bPQ", "mPQ", "F1", "ours", "trainable", "images_per_second")
# key of the csv -> (title, factor, digits)
COST = {
    "params": ("params (M)", 1e-6, 2),
    "trainable": ("trainable (M)", 1e-6, 2),
    "gflops": ("GFLOPs", 1.0, 1),
    "images_per_second": ("images/s", 1.0, 1),
    "decode_ms": ("decoding (ms)", 1.0, 1),
    "train_seconds": ("training (min)", 1 / 60, 1),
}
FACETS = {
    "dataset": "data set",
    "preset": "preset",
    "experiment": "experiment",
    "backbone": "backbone",
    "tuned": "tuned parameters",
    "origin": "figures",
}
MEASURED, PUBLISHED = "measured here", "published"
RANKS = (
    f"Rank r in {RANKED}: r − 1 rows are higher by a paired difference whose 95 % interval is wholly above zero. Rows "
    "of equal printed figures share a rank, and none stands behind a lower figure. Where no interval can be computed, "
    "nothing is told apart: all have rank 1. Whether two rows of different rank differ, the paired comparisons say."
)
LINES = "The line in a cell is the 95 % interval of its figure, the dot the figure; one column has one scale."
FIGURES = (
    "Published figures are the authors' own, not measured here: mean over test images, over the published splits. "
    "ours − published: the same method and variant measured here on all published splits, as many images."
)


@dataclass
class Column:
    """A column of the leaderboard.

    Attributes:
        key: of the cells.
        title: heading.
        left: whether it holds text.
        shown: whether it is shown before the reader chooses.
    """

    key: str
    title: str
    left: bool = False
    shown: bool = False


@dataclass
class Board:
    """The leaderboard of one group.

    Attributes:
        columns: in order.
        rows: `facets` (key of FACETS -> text), and `cells` (key of a column -> [text, value, low, high, in words], as
            long as it has them; what is missing is –).
        notes: sentences on how to read it.
    """

    columns: list[Column]
    rows: list[dict]
    notes: list[str] = field(default_factory=list)


def leaderboard(group: Group, main: Table, cost: Table | None, published: Table | None, observed: Observed) -> Board:
    """The rows of a group's main table with their ranks and cost, then the published figures of its data set.

    Args:
        main, cost, published: tables of `group`, all under one protocol; `published` and `cost` may be None.
        observed: scores per image under that protocol.
    """
    columns, scores = _columns(group, main)
    cost_of = cost.records if cost else [{} for _ in group.rows]
    rows = []
    place = ranks(group.rows, observed, [facts[f"{RANKED}_mean"] for facts in main.records])
    for row, rank, facts, used in zip(group.rows, place, main.records, cost_of, strict=True):
        cells = {"method": [named(group, row)[0]], "settings": [row.settings or "–"], "backbone": [row.backbone_text]}
        cells |= {"tuned": [tuned(row)], "rank": ["–"] if rank is None else [str(rank), rank]}
        cells |= {key: _score(facts, key) for key in scores}
        cells |= {key: _number(used.get(f"{key}_mean"), *how) for key, (_, *how) in COST.items()}
        cells["runs"] = [f"{len(row.runs)}/{group.expected}", len(row.runs)]
        rows.append({"facets": _facets(group, row.backbone_text, tuned(row), MEASURED), "cells": _known(cells)})
    notes = [RANKS, LINES]
    shown = _published(group, published)
    if shown:
        rows += shown
        notes.append(FIGURES)
    filled = {key for row in rows for key in row["cells"]}
    return Board([column for column in columns if column.key in filled], rows, notes)


def ranks(rows: list[Row], observed: Observed, values: list[float], metric: str = RANKED) -> list[int | None]:
    """Rank of each row by its printed value, None without one; see RANKS.

    A row never stands behind one with a lower printed value: it shares that one's rank, where its own is worse.

    Args:
        values: printed value of each row, NaN without one.
    """
    printed = [round(value, DIGITS) if value == value else -math.inf for value in values]
    out: list[int | None] = [None] * len(rows)
    above = [0] * len(rows)
    for i, a in enumerate(rows):
        for j in range(i + 1, len(rows)):
            estimate = difference(observed, a, rows[j], metric)
            if estimate is None or math.isnan(estimate.low):
                continue
            above[j] += printed[i] > printed[j] and estimate.low > 0
            above[i] += printed[j] > printed[i] and estimate.high < 0
    best = len(rows)
    for value in sorted({value for value in printed if value > -math.inf}):
        alike = [i for i in range(len(rows)) if printed[i] == value]
        best = min(best, *(1 + above[i] for i in alike))
        for i in alike:
            out[i] = best
    return out


def tuned(row: Row) -> str:
    """What a row trains: its argument `tune`, `full` where it trains all that it has, `nothing`, or –."""
    if not row.runs:
        return "–"
    run = row.runs[0]
    strategy = (run.config.get("arguments") or {}).get("tune")
    if strategy:
        return str(strategy)
    if run.cost.get("trainable") == 0:
        return "nothing"
    return "full" if run.cost.get("trainable") and run.cost.get("trainable") == run.cost.get("params") else "–"


def _columns(group: Group, main: Table) -> tuple[list[Column], list[str]]:
    """All columns, and the keys of those with scores."""
    types = {f"F1_{name}": f"F1 {name}" for name in group.names("classes") if f"F1_{name}_mean" in main.records[0]}
    titles = SHOWN | types
    columns = [Column("method", "method", True), Column("rank", "rank"), Column("tuned", "tuned", True)]
    columns += [Column("settings", "settings", True), Column("backbone", "backbone (weights)", True)]
    for key, title in titles.items():
        columns.append(Column(key, title))
        if key == RANKED:
            columns.append(Column("ours", f"ours − published ({RANKED})"))
        elif key == "mPQ":
            columns.append(Column("ours_mPQ", "ours − published (mPQ)"))
    columns += [Column(key, title) for key, (title, *_) in COST.items()]
    columns += [Column("runs", "runs"), Column("source", "source of the figure", True)]
    if not any(row.settings for row in group.rows):
        columns = [column for column in columns if column.key != "settings"]
    for column in columns:
        column.shown = column.key in (*DEFAULT, "method")
    return columns, list(titles)


def _score(facts: dict, key: str) -> list:
    """Cell of a score: its mean, and its interval with the spread over runs in words."""
    mean, spread, n = (facts.get(f"{key}_{what}", math.nan) for what in ("mean", "sd", "n"))
    low, high = (facts.get(f"{key}_{end}", math.nan) for end in ("low", "high"))
    cell = _number(mean, 1.0, DIGITS)
    words = [] if math.isnan(spread) else [f"± {spread:.{DIGITS}f} over {n} runs"]
    if cell and not math.isnan(low):
        words.append(f"95 % interval {low:.{DIGITS}f} to {high:.{DIGITS}f}")
        return [*cell, low, high, "; ".join(words)]
    return [*cell, None, None, "; ".join(words)] if cell and words else cell


def _number(value: float | None, factor: float, digits: int, sign: bool = False) -> list:
    """Cell of a number; [] without one."""
    if value is None or math.isnan(value):
        return []
    return [f"{value * factor:{'+' if sign else ''}z.{digits}f}", value * factor]


def _published(group: Group, table: Table | None) -> list[dict]:
    """Rows of the published means over test images; [] where none exist."""
    rows: dict[tuple[str, str], dict] = {}
    for record in table.records if table else []:
        if record["average"] != "images":
            continue
        cells = rows.setdefault((record["method"], record["variant"]), {})
        metric, ours = record["metric"], "ours" if record["metric"] == RANKED else f"ours_{record['metric']}"
        cells |= {metric: _number(record["published"], 1.0, DIGITS), "source": [str(record["source"])]}
        cells[ours] = _number(record["difference"], 1.0, DIGITS, sign=True)
    out = []
    for (method, variant), cells in rows.items():
        facets = _facets(group, "–", "–", PUBLISHED)
        out.append({"facets": facets, "cells": _known({"method": [f"{method}@{variant}"]} | cells)})
    return out


def _facets(group: Group, backbone: str, strategy: str, origin: str) -> dict[str, str]:
    kind = f"{KINDS.get(group.kind, 'experiment')} ({group.kind})"
    place = {"dataset": group.dataset, "preset": group.scale, "experiment": kind}
    return place | {"backbone": backbone, "tuned": strategy, "origin": origin}


def _known(cells: dict[str, list]) -> dict[str, list]:
    return {key: cell for key, cell in cells.items() if cell and cell[0] != "–"}
