"""`card`: the card of a finished run, in the form of Hugging Face's model cards."""

from pathlib import Path

HELP = "Print the card of a finished run: method, weights, data, recipe, scores, and what may not be concluded."
EXAMPLE = "results/synthetic/cellvta@small/fold1-seed0"


def arguments(parser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a finished run, also of a kept one")


def run(options) -> int:
    from benchmark.results.card import card
    from benchmark.results.collect import finished
    from benchmark.results.kept import unpacked
    from benchmark.results.run_folder import COMPACT
    from benchmark.results.run_id import RunId

    if (options.run / COMPACT).is_file():
        with unpacked(options.run) as results:
            print(card(finished(RunId.of(options.run.resolve()).folder(results))), end="")
    else:
        print(card(finished(options.run)), end="")
    return 0
