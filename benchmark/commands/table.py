"""`table`: tables from finished runs."""

from pathlib import Path

from benchmark.paths import REPORTS, RESULTS

HELP = "Tables from finished runs."
EXAMPLE = "--protocol pannuke"


def arguments(parser) -> None:
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of results")
    parser.add_argument("--reports", type=Path, default=REPORTS, help="where the tables go")
    parser.add_argument("--dataset", help="only this dataset")
    parser.add_argument("--experiment", default="main", help="whose methods get a row (default main)")
    parser.add_argument("--protocol", default="cellvit", help="name of a protocol, or all (default cellvit)")


def run(options) -> int:
    from benchmark.config import load
    from benchmark.report import tables

    # rows without a run print as missing; the names at full scale depend on the method, so they are left to what ran
    methods = [_canonical(m) for m in load(options.experiment).methods]
    print(
        tables.write(
            options.results,
            options.reports,
            dataset=options.dataset,
            protocol=options.protocol,
            experiment_methods=methods,
        )
    )
    return 0


def _canonical(method: str) -> str:
    if "=" not in method:
        return method if "@" in method else f"{method}@small"
    from benchmark.registry import parse  # imports the methods, and torch with them

    return str(parse(method, "small"))
