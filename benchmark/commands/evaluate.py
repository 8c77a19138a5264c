"""`evaluate`: weights from a file, on the test side of a fold."""

from pathlib import Path

from benchmark.commands import _options as shared

HELP = "Evaluate weights from a file: an officially published one, or those of a run."
EXAMPLE = "--weights CellVTA_UNI_pannuke_split1.pth --dataset pannuke --data-root /data/pannuke --fold 1"


def arguments(parser) -> None:
    parser.add_argument("--weights", type=Path, required=True, help="the file; its layout and method are recognised")
    shared.method(parser)
    shared.dataset(parser, "pannuke", "such as consep, or consep@classes=4 (default pannuke); `datasets` lists all")
    shared.fold(parser)
    parser.add_argument("--any-fold", action="store_true", help="also when the file was trained for another split")
    shared.class_map(parser)
    shared.results(parser, "--out", metavar="DIR", help="folder of results, which `table` reads")
    shared.cache(parser)
    shared.device(parser)
    shared.overrides(
        parser, "recipe.precision, recipe.eval_batch, and recipe.tiling of x20 images: as at training; no other"
    )


def run(options) -> int:
    from benchmark.data.files import class_names

    class_map = class_names.read_map(options.classes)
    setup = shared.setup(options, preset="paper", experiment="main", backbone="random")
    from benchmark.experiment import evaluation_overrides
    from benchmark.experiment import run as runner
    from benchmark.experiment.config import parse_row
    from benchmark.experiment.grid import file_cell
    from benchmark.report.render.terminal import shown
    from benchmark.report.tables.beside import beside
    from benchmark.runtime import terminal

    of_method = parse_row(options.method or "")[1]
    evaluation_overrides.check_overrides([*dict(setup.overrides), *of_method])
    cell = file_cell(setup, options.weights, options.method, options.fold, options.any_fold, class_map)
    evaluation_overrides.check_tiling(cell)
    if runner.main(cell):  # of several processes, the first has the values
        print(shown(beside(cell.folder), terminal.room()))
    return 0
