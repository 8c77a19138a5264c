"""`recipe`: the values that a method is trained with."""

from benchmark.commands import _options as shared

HELP = "Every value that a method is trained with: what it is, who set it, what it means."
EXAMPLE = "hovernet recipe.optimiser.lr=1e-3 --preset small"


def arguments(parser) -> None:
    parser.add_argument("method", metavar="METHOD", help="method@row,key=value,recipe.key=value, such as cellvta@small")
    shared.experiment(parser)
    parser.add_argument("--dataset", help=shared.OF_EXPERIMENT)
    shared.preset(parser)
    shared.overrides(parser, "recipe values to replace")


def run(options) -> int:
    values = shared.with_defaults(shared.setting(options))
    from benchmark.experiment.grid import row
    from benchmark.experiment.setup import Setup
    from benchmark.methods import registry
    from benchmark.runtime import terminal
    from benchmark.runtime.paths import CACHE, RESULTS
    from benchmark.training.scales import origins, steps

    setup = Setup(data_root=None, results=RESULTS, cache=CACHE, **values)
    spec, own = row(setup, options.method)
    lines = origins(steps(setup.config, spec, dict(setup.overrides) | own, setup.dataset_name))
    lines = [("key", "value", "set by", "meaning"), *lines]
    print(f"{spec}, experiment {setup.experiment}, data set {setup.dataset}")
    if not registry.method_class(spec.name).trainable:
        print(f"{spec.name} is not trained: of these values only those of the prediction count.")
    print(terminal.columns(lines, terminal.room()))
    return 0
