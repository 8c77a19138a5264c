"""Pages name all that there is of a kind, and every page can be reached from the README."""

import re

from benchmark.evaluation.misses import FATES
from benchmark.report import build
from benchmark.runtime.paths import ROOT


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_every_page_is_reached_from_the_readme():
    reached, ahead = set(), [ROOT / "README.md"]
    while ahead:
        path = ahead.pop()
        if path not in reached:
            reached.add(path)
            links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", path.read_text(encoding="utf-8"))
            ahead += [(path.parent / link).resolve() for link in links if link.endswith(".md")]
    assert not {*(ROOT / "docs").rglob("*.md")} - reached


def test_the_readme_lists_every_experiment():
    listed = page("README.md").partition("## Experiments\n")[2].partition("\n## ")[0]
    names = {path.stem for path in (ROOT / "experiments").glob("*.py")}
    assert names <= {*re.findall(r"`(\w+)`", listed)}


def test_the_page_on_the_report_lists_every_table_and_figure():
    tables, figures = page("docs/report.md").partition("\n## Figures\n")[::2]
    rows = "\n".join(line.split("|")[1] for line in tables.splitlines() if line.startswith("| `"))
    named = {name for names, _ in build.TOPICS.values() for name in names} - {"runs"}  # a list, not a table of its own
    assert not {name for name in named if not re.search(rf"`{name}\b", rows)}
    drawn = {*build.CAPTIONS, *(stem for stem, _ in build.CURVES.values())}
    assert not {stem for stem in drawn if f"`{stem}`" not in figures.partition("\n## ")[0]}


def test_every_fate_of_a_nucleus_is_explained():
    section = page("docs/postprocess.md").partition("## Why nuclei were missed")[2].partition("\n## ")[0]
    assert [row for row in re.findall(r"^\| ([a-z ]+) \|", section, re.MULTILINE) if row != "fate"] == [*FATES]
