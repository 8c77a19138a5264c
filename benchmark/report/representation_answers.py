"""The adapter's gain with each instance representation, from kept runs: for docs/representations.md.

The rows with HV maps are the claim's own runs and are kept there; the others have a folder of their own.
"""

from pathlib import Path

from benchmark.report.claim_answers import answers, body, ran
from benchmark.report.figures.representations import representations_figure
from benchmark.report.render.table import to_csv, write_file
from benchmark.report.tables.common import run_list

MARKS = ("<!-- representations -->", "<!-- /representations -->")
NAME = "representations"  # of the table, the figure and their csv
SHOWS = "The adapter's gain with each instance representation, and that gain less the one with HV maps, with intervals"


def renewed(kept: list[Path], out: Path, methods: list[str], splits: list[int], seeds: list[int], link: str) -> str:
    """Write representations.csv, .png and runs.csv to `out`; returns the section of the page as Markdown.

    Args:
        kept: folders of kept runs, together those of the experiment.
        methods: canonical names of the experiment's rows. splits, seeds: those that each row should have.
        link: path of `out` relative to the page.

    Raises:
        InputError: as `claim_answers.answers`.
    """
    with answers(kept, methods, splits, seeds) as found:
        table = found.table(NAME)
        if table is None:
            return f"{ran(found)}\n\nNo second representation has runs of both arms."
        lines = run_list(found.arms)
        representations_figure(table.records, out)
        text = f"{ran(found)}\n\n{body(table)}"
    write_file(out / f"{NAME}.csv", to_csv(table.records).encode())
    write_file(out / "runs.csv", to_csv(lines).encode())
    (out / f"{NAME}.pdf").unlink(missing_ok=True)  # png and csv are kept
    picture = f"![{SHOWS}]({link}/{NAME}.png)"
    return f"{text}\n\n{picture}\n\nRecords and csv: [{link}]({link})."
