"""`report`: tables, figures and the page from finished runs."""

from benchmark.commands import _options as shared

HELP = "Tables, figures and a self-contained page from finished runs."
EXAMPLE = "--dataset synthetic"


def arguments(parser) -> None:
    shared.results(parser)
    shared.reports(parser, "where the report goes")
    shared.cache(parser, "where prepared images lie")
    shared.tables(parser)


def run(options) -> int:
    from benchmark.report.build import build

    page = build(
        options.results,
        options.reports,
        options.cache,
        dataset=options.dataset,
        protocol=options.protocol,
        experiment_methods=shared.expected_methods(options.experiment, options.dataset),
    )
    print(page)
    return 0
