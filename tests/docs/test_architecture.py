"""docs/architecture.md and the README's picture agree with the law of imports; the walk names what exists."""

import ast
import re

import pytest

from benchmark.runtime.paths import ROOT
from tests.support.import_law import WINGS, wings_below

PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
README = (ROOT / "README.md").read_text(encoding="utf-8")
STOPS = re.findall(r"^\d+\. (.+?)(?=^\d+\. |^From there|\Z)", PAGE.partition("## From `make run`")[2], re.M | re.S)


def law_table() -> dict[str, set[str]]:
    """folder -> what the page says it imports, in the page's order."""
    lines = PAGE.partition("<!-- law -->")[2].partition("<!-- /law -->")[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("| ").split("|")] for line in lines if line.startswith("| `")]
    names = [row[0].strip("`") for row in rows]
    table = {}
    for name, (_, _, imports) in zip(names, rows):
        listed = set(re.findall(r"`(\w+)`", imports))
        below = set(names[names.index(name) + 1 :])
        table[name] = below - listed if imports.startswith("all below") else listed
    return table


def picture() -> list[list[str]]:
    """The README's floors, from the top: the folders on each."""
    block = README.partition("<!-- floors -->")[2].partition("<!-- /floors -->")[0]
    floors = [re.findall(r"\b[a-z]+\b", line.partition("·")[0]) for line in block.splitlines() if "·" in line]
    return [floor for floor in floors if floor]


def test_the_page_says_what_the_law_says():
    assert law_table() == {wing: wings_below(wing) for wing in WINGS}


def test_the_page_goes_down():
    names = list(law_table())
    for name, imports in law_table().items():
        assert imports <= set(names[names.index(name) + 1 :]), f"{name} imports from a line above it"


def test_the_picture_agrees_with_the_law():
    floors = picture()
    assert sorted(name for floor in floors for name in floor) == sorted(WINGS)
    level = {name: number for number, floor in enumerate(floors) for name in floor}
    for wing in WINGS:
        wrong = {below for below in wings_below(wing) if level[below] <= level[wing]}
        assert not wrong, f"in the picture {wing} does not stand above {sorted(wrong)}"


def test_the_walk_has_at_most_twelve_stops():
    assert 1 < len(STOPS) <= 12


@pytest.mark.parametrize("stop", STOPS, ids=lambda stop: stop.split("`")[1])
def test_a_stop_exists(stop):
    path, name = re.match(r"`([\w/.]+)`:\s+`(\w+)`", stop).groups()
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    assert name in defined, f"{path} defines no {name}"
