"""`table`: tables from finished runs."""

from pathlib import Path

from benchmark.commands._options import expected_methods
from benchmark.runtime.paths import REPORTS, RESULTS

HELP = "Tables from finished runs."
EXAMPLE = "--protocol pannuke"


def arguments(parser) -> None:
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--reports", type=Path, default=REPORTS, help="where the tables go")
    parser.add_argument("--dataset", help="only this dataset")
    parser.add_argument("--experiment", default="main", help="whose methods get a row (default main)")
    parser.add_argument("--protocol", default="cellvit", help="name of a protocol, or all (default cellvit)")
    parser.add_argument("--format", choices=("md", "csv", "tex"), default="md", help="of what is printed (default md)")


def run(options) -> int:
    from benchmark.report.write import write_tables

    text = write_tables(
        options.results,
        options.reports,
        dataset=options.dataset,
        protocol=options.protocol,
        experiment_methods=expected_methods(options.experiment),
        form=options.format,
    )
    print(text, end="" if options.format == "csv" else "\n")
    return 0
