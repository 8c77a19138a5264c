"""`reference`: keep the runs on the embedded data under docs/reference, renew the README's results and the ledger."""

from pathlib import Path

from benchmark.commands import _options as shared
from benchmark.runtime.paths import ROOT

HELP = (
    "Keep the finished runs on the embedded data under docs/reference, renew the README's results from them, and add "
    "reproduced figures to the ledger."
)
EXAMPLE = ""


def arguments(parser) -> None:
    shared.results(parser)
    shared.reports(parser, "where `make report` wrote")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "reference" / "embedded", help="where they go")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="file with the marks of the results")
    parser.add_argument(
        "--ledger", type=Path, default=ROOT / "docs" / "reference" / "ledger.csv", help="where reproduced figures go"
    )
    parser.add_argument("--only-ledger", action="store_true", help="add to the ledger, and do nothing else")


def run(options) -> int:
    from benchmark.report.papers import ledger, paper
    from benchmark.results.collect import runs

    papers = [paper.find(name) for name in paper.names()]
    added = ledger.append(papers, runs(options.results), options.ledger)
    print(f"{added} new lines in {options.ledger}")
    if options.only_ledger:
        return 0
    import os

    from benchmark.experiment.config import load
    from benchmark.report import readme

    kept = readme.keep(options.results, options.reports, options.out)
    link = os.path.relpath(options.out, options.readme.parent)
    methods = [f"{m}@small" for m in load("main").methods]
    readme.put(options.readme, readme.section(options.out, methods, link))
    print(f"{len(kept)} runs kept in {options.out}; {options.readme} renewed")
    return 0
