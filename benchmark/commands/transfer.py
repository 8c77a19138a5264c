"""`transfer`: trained on one data set, tested on others."""

import sys

from benchmark.commands import _options as shared
from benchmark.data import set_names
from benchmark.runtime.errors import InputError

HELP = "Train a method on one data set, or take the stored run, and test it on others; see docs/transfer.md."
EXAMPLE = (
    "--method hovernet --preset small --train pannuke:/data/pannuke --test monuseg:/data/monuseg consep:/data/consep"
)
SET = "a name, or name:folder"


def arguments(parser) -> None:
    shared.experiment(parser)
    shared.method(parser, "method, or method@row,key=value,recipe.key=value")
    several = f"training sets, each {SET}, or several joined by +, which are trained on together"
    parser.add_argument("--train", nargs="+", required=True, metavar="SET", help=several)
    parser.add_argument("--test", nargs="+", required=True, metavar="SET", help=f"test sets, each {SET}")
    parser.add_argument("--data-root", help="folder of the sets that are named without one")
    shared.fold(parser, "split of the training sets, counted from 1 (default 1)")
    parser.add_argument("--test-fold", type=int, default=1, metavar="FOLD", help="split of the test sets (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training (default 0)")
    shared.protocol(parser, "name of a protocol (default cellvit)")
    shared.preset(parser)
    parser.add_argument("--backbone", help="weights of published encoders, as of `run`")
    shared.results(parser)
    shared.reports(parser)
    shared.cache_and_weights(parser)
    shared.device(parser)
    shared.overrides(parser, "recipe values to replace, as of `run`")


def run(options) -> int:
    from benchmark.report.select.protocols import protocols

    if options.method is None:
        raise InputError("--method is missing; for example: --method hovernet.")
    (protocol,) = protocols(options.protocol, single=True)
    cells, tests = _chosen(options)
    from benchmark.experiment import run as runner
    from benchmark.report.render.terminal import shown
    from benchmark.report.transfer import write_matrices
    from benchmark.results.collect import runs
    from benchmark.runtime import terminal

    first = True
    for test in tests:
        print(f"{test.training.setup.label} -> {test.setup.label}: {test.overlap.sentence}", file=sys.stderr)
    for cell in cells:
        runner.main(cell)
    for test in tests:
        cell = test.cell()
        for sentence in cell.weights.remarks(cell):
            print(f"[{cell.run}] {sentence}", file=sys.stderr)
        first = bool(runner.main(cell))  # of several processes, the first has the values
    if not first:
        return 0
    methods = {(cell.name, cell.run.kind) for cell in cells}
    written = write_matrices(runs(options.results), options.reports, protocol, only=methods)
    for one in written:
        folder = options.reports / one.folder
        print(shown(one.table, terminal.room(), folder / one.table.name))
        print(f"written to {folder}", file=sys.stderr)
    return 0


def _chosen(options):
    """(cells that train, their tests); everything that can be refused is, before anything is trained."""
    sets = [_set(word, options.data_root) for word in (*options.train, *options.test)]
    setups = [shared.setup(options, dataset=name, data_root=root, scheme=None) for name, root in sets]
    from benchmark.experiment.network_check import check_backbone, check_networks
    from benchmark.experiment.transfer import pairs, testing, training

    split, n = options.fold, len(options.train)
    cells = [training(setup, options.method, split, options.seed) for setup in setups[:n]]
    check_backbone(cells)
    check_networks(cells)
    tests = [testing(setup) for setup in setups[n:]]
    return cells, pairs(cells, tests, options.test_fold)


def _set(word: str, data_root: str | None) -> tuple[str, str | None]:
    """(data set, folder of its files) of a word of --train or --test; of several that are joined, the word itself."""
    if len(shared.sets_of(word)) > 1:
        return word, data_root
    name, root = set_names.with_folder(word)
    return name, root or data_root
