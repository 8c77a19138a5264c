"""`report`: tables, figures and the page from finished runs."""

from pathlib import Path

from benchmark.commands._options import expected_methods
from benchmark.runtime.paths import CACHE, REPORTS, RESULTS

HELP = "Tables, figures and a self-contained page from finished runs."
EXAMPLE = "--dataset synthetic"


def arguments(parser) -> None:
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--reports", type=Path, default=REPORTS, help="where the report goes")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where prepared images lie")
    parser.add_argument("--dataset", help="only this dataset")
    parser.add_argument("--experiment", default="main", help="whose methods get a row (default main)")
    parser.add_argument("--protocol", default="cellvit", help="name of a protocol, or all (default cellvit)")


def run(options) -> int:
    from benchmark.report.build import build

    page = build(
        options.results,
        options.reports,
        options.cache,
        dataset=options.dataset,
        protocol=options.protocol,
        experiment_methods=expected_methods(options.experiment),
    )
    print(page)
    return 0
