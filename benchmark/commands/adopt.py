"""`adopt`: committed runs into the folder of results."""

from pathlib import Path

from benchmark.commands import _options as shared

HELP = "Put runs that `keep` wrote into the folder of results, so that `status` and `ablation` take them for done."
EXAMPLE = "docs/reference/embedded"


def arguments(parser) -> None:
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="folder that `keep` wrote, or a part of it")
    shared.results(parser)


def run(options) -> int:
    from benchmark.results.kept import adopt
    from benchmark.results.run_folder import check_results

    check_results(options.results)
    outcomes = []
    for name, outcome in adopt(options.paths, options.results):
        print(f"{name}: {outcome}", flush=True)
        outcomes.append(outcome)
    adopted = sum(outcome.startswith("adopted") for outcome in outcomes)
    print(f"{adopted} of {len(outcomes)} runs adopted into {options.results}")
    return 0
