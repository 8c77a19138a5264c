"""`make report`: all tables, all figures and the page, of every group of complete runs."""

import re
import sys
from pathlib import Path

from benchmark.report.cards import cards
from benchmark.report.figures import scores as figures
from benchmark.report.figures.accuracy import accuracy_figure
from benchmark.report.figures.budget import budget_figure
from benchmark.report.figures.curves import curves_figure, gain_figure
from benchmark.report.figures.examples import panels_figure
from benchmark.report.figures.gallery import Panel, gallery
from benchmark.report.figures.representations import representations_figure
from benchmark.report.page.html import write_page
from benchmark.report.page.section import Figure, Section, Topic
from benchmark.report.render.table import Block, Table, save, to_csv, write_file
from benchmark.report.select.groups import Group, groups
from benchmark.report.select.observations import Observed
from benchmark.report.select.protocols import protocols
from benchmark.report.select.store import Store
from benchmark.report.select.transfer import matrices
from benchmark.report.sentences import summary
from benchmark.report.stats.curves import curves
from benchmark.report.tables.common import run_list
from benchmark.report.tables.leaderboard import leaderboard
from benchmark.report.transfer import FOLDER as TRANSFER
from benchmark.report.transfer import sections as transfer_sections
from benchmark.report.transfer import write_matrices
from benchmark.report.write import group_tables
from benchmark.results.collect import no_runs, runs
from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import as_called
from benchmark.runtime.progress import Progress

TITLE = "Nuclei segmentation with foundation models, measured fairly"
CURVES = {
    "d_um": ("pq_by_size", "PQ and recall against nucleus diameter, with 95 % bands"),
    "neighbour_um": ("pq_by_crowding", "PQ and recall against crowding, with 95 % bands"),
}
CAPTIONS = {
    "accuracy": "bPQ of each method, with its 95 % interval where there are enough images",
    "gain": "Gain of the adapter by size and by crowding",
    "tissues": "bPQ per tissue, with 95 % intervals where a tissue has enough source images",
    "accuracy_cost": "Accuracy against cost, with the front",
    "representations": "The adapter's gain with each instance representation, and less its gain with HV maps",
    "forest": "Adapter components: difference to the full model",
    "training": "Training loss and validation bPQ",
    "budget": "Accuracy against the length of the training",
    "confusion": "How nuclei of each true type are typed",
    "examples": "Images chosen by rule",
}
FULL_WIDTH = ("confusion", "examples")
LEAD = ("accuracy", "gain")  # the figures beside the finding
# title -> (first words of the tables' names, stems of the figures)
TOPICS = {
    "Scores": (("main", "published", "averagings"), ()),
    "Size and crowding": (("sizes", "crowding"), ("pq_by_size", "pq_by_crowding")),
    "Tissues and types": (("tissues", "types"), ("tissues", "confusion")),
    "Comparisons": (
        ("claim", "representations", "significance", "components", "tuning"),
        ("representations", "forest"),
    ),
    "Cost and training": (("cost",), ("accuracy_cost", "training", "budget")),
    "Examples": ((), ("examples",)),
    "Runs": (("runs",), ()),
}
BROWSED = 4  # images per rule in the page; the figure has one
RUN_COLUMNS = ("method", "fold", "seed", "commit", "hardware", "op_backend", "finished", "command")


def build(
    results: Path,
    out: Path,
    cache: Path,
    *,
    dataset: str | None = None,
    protocol: str = "cellvit",
    experiment_methods: list[str] | None = None,
) -> Path:
    """Write everything below `out` and return the page.

    Args:
        out: folder of the report.
        cache: where the prepared images lie; without them the report has no pictures, and its summary says so.
        dataset: only this one, and no matrix of several; None takes all.
        protocol: name of a protocol, or "all" (main tables of each; figures under the first).
        experiment_methods: canonical names of methods that get a row even when they have no run.

    Raises:
        InputError: unknown protocol, no complete run, or `out` cannot be written.
    """
    names = protocols(protocol)
    complete = runs(results)
    shown = [group for group in groups(complete, dataset, None, experiment_methods) if group.runs]
    if not shown:
        raise InputError(no_runs(results, complete, dataset))
    sections, store, show = [], Store(out), Progress("report:", "groups", True)
    for i, group in enumerate(shown):
        show(i, len(shown))
        anchor = f"g{i}-" + re.sub(r"[^A-Za-z0-9]+", "-", group.folder.as_posix())
        sections.append(_section(group, Path(out), Path(cache), names, anchor, store))
    show(len(shown), len(shown))
    if dataset is None:
        sections += transfer_sections(write_matrices(complete, Path(out), names[0], store), Path(out))
    elif any(dataset in one.tested for one in matrices(complete)):
        # of one data set it would be a part, in the place of the whole
        print(
            f"the matrices of several data sets in {Path(out) / TRANSFER} stay as they are; `report` without --dataset "
            "writes them",
            file=sys.stderr,
        )
    page = Path(out) / "index.html"
    called = as_called("report")
    subtitle = f"Generated by {called} from stored records; numbers of different protocols are not comparable."
    write_page(page, sections, TITLE, subtitle, "Every number here has its csv beside it.")
    return page


def _section(group: Group, out: Path, cache: Path, protocols: list[str], anchor: str, store: Store) -> Section:
    """Write the tables and figures of a group and return its part of the page."""
    folder = out / group.folder
    tabled = group_tables(group, protocols, store)
    for table in (*tabled.main, *tabled.rest):
        save(table, folder)
    records = run_list(group)
    write_file(folder / "runs.csv", to_csv(records).encode())
    panels = gallery(group, tabled.observed, cache, BROWSED)
    firm = next((table.conclusion for table in tabled.rest if table.name == "significance"), "")
    sentences = summary(group, protocols[0], tabled.observed, tabled.scores, panels, firm)
    of_first = {table.name: table for table in tabled.rest}
    drawn = _figures(group, tabled.observed, panels, of_first.get("representations"), folder)
    main, published = tabled.main[0], of_first.get(f"published-{protocols[0]}")
    return Section(
        anchor=anchor,
        title=f"{group.dataset}: {group.kind}, {group.scale}",
        folder=group.folder.as_posix(),
        compared=sentences.compared,
        finding=sentences.finding,
        limits=sentences.limits,
        lead=[drawn[stem] for stem in LEAD if stem in drawn],
        board=leaderboard(group, main, of_first.get("cost"), published, tabled.observed),
        main=main,
        panels=panels,
        topics=topics([*tabled.main, *tabled.rest, _provenance(records)], drawn),
        cards=cards(group),
        runs=len(group.runs),
    )


def topics(tables: list[Table], figures: dict[str, Figure]) -> list[Topic]:
    """The tables and figures by topic, each once; what is in none of TOPICS comes last, topics without any are left
    out."""
    taken = {name for names, _ in TOPICS.values() for name in names}
    by_topic = []
    for title, (names, stems) in TOPICS.items():
        own = [table for table in tables if table.name.partition("-")[0] in names]
        by_topic.append(Topic(title, own, [figures[stem] for stem in stems if stem in figures]))
    rest = [table for table in tables if table.name.partition("-")[0] not in taken]
    drawn = {stem for _, stems in TOPICS.values() for stem in (*stems, *LEAD)}
    by_topic.append(Topic("More", rest, [figure for stem, figure in figures.items() if stem not in drawn]))
    return [topic for topic in by_topic if topic.tables or topic.figures]


def _figures(
    group: Group, observed: Observed, panels: list[Panel], gains: Table | None, folder: Path
) -> dict[str, Figure]:
    """Write the figures of a group; stem -> each that could be drawn.

    Args:
        gains: the table `representations`, if there is one.
    """
    properties = curves(group)
    one_per_rule = list({panel.rule: panel for panel in reversed(panels)}.values())[::-1]
    written = {}
    for by, of_group in properties.items():
        stem, _ = CURVES[by]
        written[stem] = curves_figure(group, of_group, folder, stem)
    written |= {
        "accuracy": accuracy_figure(group, observed, folder),
        "gain": gain_figure(group, list(properties.values()), folder),
        "tissues": figures.tissue_dots(group, observed, folder),
        "accuracy_cost": figures.pareto(group, observed, folder),
        "representations": gains is not None and representations_figure(gains.records, folder),
        "forest": figures.forest(group, observed, folder),
        "training": figures.training_curves(group, folder),
        "budget": budget_figure(group, observed, folder),
        "confusion": figures.confusions(group, folder),
        "examples": panels_figure(one_per_rule, folder),
    }
    captions = dict(CURVES.values()) | CAPTIONS
    return {stem: Figure(folder / stem, captions[stem], stem in FULL_WIDTH) for stem, drawn in written.items() if drawn}


def _provenance(records: list[dict]) -> Table:
    """Where each run comes from; commits and times short, runs.csv has them whole."""
    lengths = {"commit": 10, "finished": 19}
    lines = [list(RUN_COLUMNS)]
    for record in records:
        line = []
        for column in RUN_COLUMNS:
            value = record.get(column)
            line.append("–" if value is None else str(value)[: lengths.get(column)])
        lines.append(line)
    return Table("runs", "Where each number comes from", blocks=[Block(lines, left=len(RUN_COLUMNS))], records=records)
