"""`recipe`: the values that a method is trained with."""

from benchmark.commands import _options as shared

HELP = "Every value that a method is trained with: what it is, who set it, what it means."
EXAMPLE = "hovernet recipe.optimiser.lr=1e-3 --preset small"


def arguments(parser) -> None:
    parser.add_argument("method", metavar="METHOD", help="method@row,key=value, such as cellvta@small")
    shared.experiment(parser)
    parser.add_argument("--dataset", help=shared.OF_EXPERIMENT)
    shared.preset(parser)
    shared.overrides(parser, "recipe values to replace")


def run(options) -> int:
    values = shared.with_defaults(shared.setting(options))
    from benchmark.experiment.grid import row_for
    from benchmark.experiment.setup import Setup
    from benchmark.methods import registry
    from benchmark.runtime.paths import CACHE, RESULTS
    from benchmark.training.scales import origins, steps

    setup = Setup(data_root=None, results=RESULTS, cache=CACHE, **values)
    spec = registry.parse(options.method, row_for(setup, options.method))
    rows = origins(steps(setup.config, spec, dict(setup.overrides), setup.dataset_name))
    rows = [("key", "value", "set by", "meaning"), *rows]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    print(f"{spec}, experiment {setup.experiment}, data set {setup.dataset}")
    if not registry.method_class(spec.name).trainable:
        print(f"{spec.name} is not trained: of these values only those of the prediction count.")
    for row in rows:
        print("  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[3]]))
    return 0
