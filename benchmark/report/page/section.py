"""What the page shows: sections, their topics, figures and cards, as plain data."""

from dataclasses import dataclass, field
from pathlib import Path

from benchmark.report.figures.gallery import Panel
from benchmark.report.render.table import Table
from benchmark.report.tables.leaderboard import Board


@dataclass
class Figure:
    """A figure that is on disk.

    Attributes:
        stem: its path without suffix.
        caption: one line, its text for screen readers too.
        full: whether it takes the whole width.
    """

    stem: Path
    caption: str
    full: bool = False


@dataclass
class Topic:
    """Tables and figures that are folded together, in order."""

    title: str
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)


@dataclass
class Card:
    """What one run is: a title, and the text of its `card.md` without front matter."""

    title: str
    text: str


@dataclass
class Section:
    """What the page shows of one group of runs, in this order.

    Attributes:
        anchor: id within the page.
        title: heading.
        folder: of the csv files, relative to the page.
        compared: what was compared, one sentence.
        finding: at most three sentences, generated from the numbers.
        limits: sentences on what is missing and what may not be concluded.
        lead: the main figures, side by side.
        board: the leaderboard; None without runs.
        main: the table that the leaderboard stands for, shown where scripts do not run.
        panels: images for the browser.
        topics: the details.
        cards: one per run, of the first ones.
        runs: how many runs there are.
    """

    anchor: str
    title: str
    folder: str
    compared: str = ""
    finding: list[str] = field(default_factory=list)
    limits: list[str] = field(default_factory=list)
    lead: list[Figure] = field(default_factory=list)
    board: Board | None = None
    main: Table | None = None
    panels: list[Panel] = field(default_factory=list)
    topics: list[Topic] = field(default_factory=list)
    cards: list[Card] = field(default_factory=list)
    runs: int = 0

    @property
    def shown_methods(self) -> list[str]:
        """Labels of the methods that some image has predictions of."""
        return list(dict.fromkeys(label for panel in self.panels for label in panel.outlines))

    @property
    def typed(self) -> bool:
        """Whether the images' nuclei have types."""
        return any(panel.classes for panel in self.panels)

    def key(self, table: Table, block: int) -> str:
        """Of a table's block, within the page."""
        return f"{self.anchor}-{table.name}-{block}"
