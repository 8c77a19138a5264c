"""A headless chromium for tests of the page, and a page by hand for it."""

import contextlib
import shutil
from collections.abc import Iterator

import numpy as np
import pytest

from benchmark.report.figures.gallery import HIT, MISSED, Panel, outline
from benchmark.report.page.section import Card, Section, Topic
from benchmark.report.render.table import Block, Table
from benchmark.report.tables.leaderboard import MEASURED, PUBLISHED, Board, Column

HOSTILE = "</script><script>alert(1)</script>"
COLUMNS = [
    Column("method", "method", True, True),
    Column("rank", "rank", shown=True),
    Column("tuned", "tuned", True, True),
    Column("bPQ", "bPQ", shown=True),
    Column("mPQ", "mPQ", shown=True),
    Column("ours", "ours − published (bPQ)", shown=True),
    *(Column(f"F1_{k}", f"F1 of the type {k}") for k in range(12)),
]


@contextlib.contextmanager
def chromium(width: int = 1280, height: int = 800) -> Iterator:
    """A selenium driver of a window of that size; the test is skipped where a program is missing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    programs = {name: shutil.which(name) for name in ("chromium", "chromedriver")}
    if missing := [name for name, path in programs.items() if not path]:
        pytest.skip(f"no {' and no '.join(missing)} on this machine (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = programs["chromium"]
    for word in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", f"window-size={width},{height}"):
        options.add_argument(f"--{word}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(programs["chromedriver"]))
    try:
        driver.implicitly_wait(10)
        yield driver
    finally:
        driver.quit()


def media(driver, scheme: str = "light", medium: str = "screen") -> None:
    """Show the page as a system of that colour scheme does, or as paper does (`medium` print)."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": medium, "features": features})


def resize(driver, width: int, height: int = 800) -> None:
    """The page in a view of that size; headless windows themselves are not narrower than 500 px."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")


def until(driver, condition, what: str) -> None:
    """Wait up to 5 s."""
    for _ in range(100):
        if condition():
            return
        driver.execute_async_script("setTimeout(arguments[0], 50)")
    raise AssertionError(what)


def board(methods: list[str], dataset: str = "one", published: tuple[str, ...] = ()) -> Board:
    """A leaderboard whose k-th method has bPQ 0.9 − k / 100, rank k + 1, and every other tunes an adapter."""
    place = {"dataset": dataset, "preset": "small", "experiment": "main", "backbone": "tiny"}
    rows = []
    for k, name in enumerate(methods):
        value, strategy = 0.9 - k / 100, ("decoder", "adapter")[k % 2]
        cells = {"method": [name], "rank": [str(k + 1), k + 1], "tuned": [strategy]}
        cells["bPQ"] = [f"{value:.3f}", value, value - 0.02, value + 0.02, "95 % interval"]
        cells |= {f"F1_{n}": ["0.500", 0.5] for n in range(12)}
        rows.append({"facets": place | {"tuned": strategy, "origin": MEASURED}, "cells": cells})
    for name in published:
        cells = {"method": [name], "bPQ": ["0.885", 0.885], "ours": ["+0.015", 0.015]}
        rows.append({"facets": place | {"backbone": "–", "tuned": "–", "origin": PUBLISHED}, "cells": cells})
    return Board(COLUMNS, rows, ["How ranks are made."])


def panel(
    name: str, truth: np.ndarray, matched: dict[str, list[int]], rule: str = "best", diameter: float = 5.0
) -> Panel:
    """An image on which each method predicts the true nuclei that it finds, as they are, and nothing else."""
    n = int(truth.max())
    out = Panel(rule, name, "Breast", 1, 0, np.full((*truth.shape, 3), 90, np.uint8), truth)
    out.classes, out.diameter = ["lymphocyte", HOSTILE], diameter
    out.true_types = np.array([1 + k % 2 for k in range(n)], np.uint8)
    for label, ids in matched.items():
        order = np.zeros(n + 1, np.int32)
        order[np.array(ids, int)] = np.arange(1, len(ids) + 1)
        out.maps[label] = order[truth]
        out.types[label] = out.true_types[np.array(ids, int) - 1]
        out.matched[label] = ids
        marks = np.where(np.isin(truth, ids), HIT, MISSED) * outline(truth)
        out.outlines[label] = marks.astype(np.uint8)
        out.scores[label] = len(ids) / n
    return out


def table(name: str, count: int, first: str = "row") -> Table:
    """A table of `count` rows of two columns: a name and the number of the row."""
    rows = [["name", "number"], *([f"{first} {k:05d}", str(k)] for k in range(count))]
    return Table(name, f"Table {first}", ["a note"], [Block(rows, ranks={(1, 1): 1})])


def section(anchor: str = "g0", methods: tuple[str, ...] = ("a", "b", "c"), count: int = 60, **more) -> Section:
    """A section with all parts but figures."""
    main = Table("main-cellvit", "Main", [], [Block([["method", "bPQ"], *([name, "0.5"] for name in methods)])])
    whole = {
        "compared": f"{len(methods)} methods.",
        "finding": [f"{methods[0]} is above."],
        "limits": ["One fold."],
        "board": board(list(methods)),
        "main": main,
        "topics": [Topic("Runs", [table("runs", count, methods[0])])],
        "cards": [Card(f"run {k}", f"- method: {methods[0]}") for k in range(3)],
    }
    return Section(anchor, f"title {anchor}", "folder", **(whole | more))
