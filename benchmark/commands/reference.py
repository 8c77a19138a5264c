"""`reference`: keep the runs on the embedded data under docs/reference and renew the README's results."""

from pathlib import Path

from benchmark.commands import _options as shared
from benchmark.runtime.paths import ROOT

HELP = "Keep the finished runs on the embedded data under docs/reference, and renew the README's results from them."
EXAMPLE = ""


def arguments(parser) -> None:
    shared.results(parser)
    shared.reports(parser, "where `make report` wrote")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "reference" / "embedded", help="where they go")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md", help="file with the marks of the results")


def run(options) -> int:
    import os

    from benchmark.experiment.config import load
    from benchmark.report import readme

    kept = readme.keep(options.results, options.reports, options.out)
    link = os.path.relpath(options.out, options.readme.parent)
    methods = [f"{m}@small" for m in load("main").methods]
    readme.put(options.readme, readme.section(options.out, methods, link))
    print(f"{len(kept)} runs kept in {options.out}; {options.readme} renewed")
    return 0
