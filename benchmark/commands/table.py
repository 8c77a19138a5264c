"""`table`: tables from finished runs."""

from benchmark.commands import _options as shared

HELP = "Tables from finished runs."
EXAMPLE = "--protocol pannuke"


def arguments(parser) -> None:
    shared.results(parser)
    shared.reports(parser)
    shared.tables(parser)
    parser.add_argument("--format", choices=("md", "csv", "tex"), default="md", help="of what is printed (default md)")


def run(options) -> int:
    from benchmark.report.write import write_tables

    text = write_tables(
        options.results,
        options.reports,
        dataset=options.dataset,
        protocol=options.protocol,
        experiment_methods=shared.expected_methods(options.experiment, options.dataset),
        form=options.format,
    )
    print(text, end="" if options.format == "csv" else "\n")
    return 0
