"""`evaluate`: weights from a file, on the test side of a fold."""

from pathlib import Path

from benchmark.commands import _options as shared
from benchmark.runtime.paths import CACHE, RESULTS

HELP = "Evaluate weights from a file: an officially published one, or those of a run."
EXAMPLE = "--weights CellVTA_UNI_pannuke_split1.pth --dataset pannuke --data-root /data/pannuke --fold 1"


def arguments(parser) -> None:
    parser.add_argument("--weights", type=Path, required=True, help="the file; its layout and method are recognised")
    parser.add_argument("--method", help="method, or method@row,key=value (default: what the file says)")
    parser.add_argument("--dataset", default="pannuke", help="pannuke (default), conic, folder or synthetic")
    parser.add_argument("--data-root", help="folder or archive of the dataset; synthetic needs none")
    parser.add_argument("--fold", type=int, default=1, help="published split, counted from 1 (default 1)")
    parser.add_argument("--any-fold", action="store_true", help="also when the file was trained for another split")
    parser.add_argument(
        "--results", "--out", type=Path, default=RESULTS, metavar="DIR", help="folder of results, which `table` reads"
    )
    parser.add_argument("--cache", type=Path, default=CACHE, help="where prepared data lie")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:<i> (default auto)")
    parser.add_argument(
        "overrides", nargs="*", metavar="recipe.KEY=VALUE", help="recipe.precision, recipe.eval_batch: as at training"
    )


def run(options) -> int:
    from benchmark.experiment import run as runner
    from benchmark.experiment.grid import file_cell
    from benchmark.report.tables.beside import beside

    setup = shared.setup(options, preset="paper", experiment="main", backbone="random")
    cell = file_cell(setup, options.weights, options.method, options.fold, options.any_fold)
    if runner.main(cell):  # of several processes, the first has the values
        print(beside(cell.folder))
    return 0
