"""The cards of a group's runs, as the page shows them."""

from benchmark.report.page.section import Card
from benchmark.report.select.groups import Group
from benchmark.results.card import card, unescaped
from benchmark.results.run import UNREADABLE, skipped

MOST = 500  # cards of a page, 4 KB each


def cards(group: Group) -> list[Card]:
    """The first MOST cards of the group's runs, in the order of its rows; runs whose files yield none are named on
    stderr."""
    labelled, out = [(row.label, run) for row in group.rows for run in row.runs], []
    for label, run in labelled[:MOST]:
        try:
            _, _, text = card(run).partition("\n---\n")  # below the front matter, which is for programs
        except UNREADABLE as error:
            skipped(run.folder, error)
            continue
        _, _, text = text.partition("\n\n")  # below the title, which is the page's
        out.append(Card(f"{label}, fold {run.id.split}, seed {run.id.seed}", unescaped(text.strip())))
    return out
