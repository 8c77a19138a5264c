"""`table`: tables from finished runs."""

from benchmark.commands import _options as shared

HELP = "Tables from finished runs."
EXAMPLE = "--protocol pannuke"


def arguments(parser) -> None:
    shared.results(parser)
    shared.reports(parser)
    shared.tables(parser)
    shared.form(parser, "md", "csv", "tex")


def run(options) -> int:
    from benchmark.report.write import write_tables
    from benchmark.runtime import terminal

    text = write_tables(
        options.results,
        options.reports,
        dataset=options.dataset,
        protocol=options.protocol,
        experiment_methods=shared.expected_methods(options.experiment, options.dataset),
        form=options.format or "md",
        room=None if options.format else terminal.room(),
    )
    print(text, end="" if options.format == "csv" else "\n")
    return 0
