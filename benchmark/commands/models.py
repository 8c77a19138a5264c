"""`models`: what can be built, how large it is and what it needs."""

from benchmark.commands import _options as shared
from benchmark.runtime.scales import SCALES

HELP = "Every row of every method: parameters, FLOPs, licences, weights needed."
EXAMPLE = "--experiment adapter --format csv"

NOTES = (
    "Parameters for the given classes and tissues; trainable in at least one phase of the matched recipe.",
    "GFLOPs of the forward passes that one 256 x 256 px image takes, and of one pass over one input (side in px); they "
    "differ where valid convolutions need several inputs an image. A multiply-add counts as 2; counted are "
    "convolutions, matrix products and attention, the sampling of deformable attention included. –: no network.",
)
FIRST = ("params (M)", "trainable (M)", "GFLOPs / image", "weights", "licence of weights", "licence of code")


def arguments(parser) -> None:
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--methods", nargs="+", help="only these, such as cellvta@paper,points=8 (default: all rows)")
    chosen.add_argument("--experiment", help="the methods of an experiment, each at the row that --preset gives it")
    parser.add_argument("--preset", choices=SCALES, default="paper", help="scale (default paper)")
    parser.add_argument("--classes", type=int, default=5, help="nucleus types (default 5, PanNuke's)")
    parser.add_argument("--tissues", type=int, default=19, help="tissues (default 19, PanNuke's)")
    shared.form(parser, "md", "csv")


def run(options) -> int:
    from benchmark.report.render.table import Block, Table, to_csv
    from benchmark.report.render.terminal import shown
    from benchmark.runtime import terminal
    from benchmark.runtime.errors import InputError

    if options.classes < 0 or options.tissues < 0:
        raise InputError(f"--classes {options.classes} --tissues {options.tissues}: expected whole numbers from 0 on.")
    records = [_record(spec, options.classes, options.tissues) for spec in _specs(options)]
    if options.format == "csv":
        print(to_csv(records), end="")
        return 0
    header = ["method", "reference", "weights", "licence of code", "licence of weights"]
    lines = [[*header, "params (M)", "trainable (M)", "GFLOPs / image", "GFLOPs / input", "input (px)"]]
    for record in records:
        texts = [record[key] for key in ("method", "reference", "weights", "licence", "weights_licence")]
        sizes = [f"{record[key] / 1e6:.2f}" for key in ("params", "trainable")]
        work = ["–" if record[key] is None else f"{record[key]:.1f}" for key in ("gflops", "gflops_input")]
        lines.append([*texts, *sizes, *work, str(record["input"])])
    caption = f"Methods, {options.classes} types and {options.tissues} tissues"
    order = [lines[0].index(name) for name in FIRST]
    table = Table("models", caption, list(NOTES), [Block(lines, left=5, importance=order)])
    print(shown(table, None if options.format else terminal.room()), end="")
    return 0


def _specs(options) -> list:
    """The methods that the options choose, each once."""
    from pathlib import Path

    from benchmark.experiment.config import parse_row
    from benchmark.experiment.grid import row
    from benchmark.experiment.setup import Setup
    from benchmark.methods import registry

    if options.methods:
        specs = [registry.parse(parse_row(name)[0], options.preset) for name in options.methods]
    elif options.experiment:
        unused = Path()
        setup = Setup("synthetic", None, options.preset, options.experiment, results=unused, cache=unused)
        specs = [row(setup, name)[0] for name in setup.config.methods]
    else:
        names = [(name, row) for name in registry.method_names() for row in registry.method_class(name).presets]
        specs = [registry.parse(f"{name}@{row}") for name, row in names]
    return list({str(spec): spec for spec in specs}.values())


def _record(spec, classes: int, tissues: int) -> dict:
    from benchmark.experiment import flops
    from benchmark.experiment.cost import trainable
    from benchmark.methods import registry

    cls = registry.method_class(spec.name)
    method = flops.on_meta(spec, classes, tissues)
    # a method with valid convolutions has an input size of its own, the others take the image as it is
    side = method.tile if method.margin and method.tile else method.input_side(256)
    of_image = sum(flops.count(method, 256, 256, tiled=True).values()) / 1e9
    of_input = sum(flops.count(method, side, side, tiled=False).values()) / 1e9
    weights, licence = _weights(cls, spec.arguments)
    return {
        "method": str(spec),
        "reference": cls.reference,
        "weights": weights,
        "licence": cls.licence,
        "weights_licence": licence,
        "params": sum(p.numel() for p in method.parameters()),
        "trainable": trainable(method, method.phases(False)) if cls.trainable else 0,
        "gflops": of_image or None,
        "gflops_input": of_input or None,
        "input": side,
    }


def _weights(cls, arguments: dict) -> tuple[str, str]:
    """(pretrained weights that a run needs, their licence)."""
    import inspect

    from benchmark.layers.backbones import BACKBONES
    from benchmark.training.pretrain import BACKBONES as PRETRAINED_HERE

    name = cls.backbone_of(arguments)
    if name is None:
        optional = "weights" in inspect.signature(cls).parameters
        return ("none (a file may be given)" if optional else "none"), "–"
    if name in PRETRAINED_HERE:
        return f"{name}: made here (synthetic pretext)", "–"
    facts = BACKBONES.get(name, {"hub": name})
    where = "file or hub" if "hub" in facts else "file"
    return f"{name}: {where}{', gated' if facts.get('gated') else ''}", facts.get("licence", "see the hub")
