"""`score`: anyone's predictions, from any tool, against ground truth."""

import sys
from pathlib import Path

from benchmark.commands import _options as shared
from benchmark.runtime.errors import InputError

HELP = "Score anyone's predictions against ground truth, files matched by name; see docs/score.md."
EXAMPLE = "--true labels/ --pred predictions/ --mpp 0.25 --types classes.toml --out scores/"
LARGEST = 20_000  # pixels a side of --shape


def arguments(parser) -> None:
    parser.add_argument("--true", type=Path, required=True, metavar="DIR|FILE", help="ground truth")
    parser.add_argument("--pred", type=Path, required=True, metavar="DIR|FILE", help="predictions")
    parser.add_argument("--protocol", default="all", help="a protocol's name, or all (default)")
    parser.add_argument("--mpp", type=float, help="micrometres per pixel; needed unless a file says it")
    parser.add_argument("--types", type=Path, metavar="FILE", help="classes.toml: the classes and what files call them")
    shared.class_map(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="write metrics.json, images.csv and the records there")
    parser.add_argument(
        "--shape", type=int, nargs=2, metavar=("H", "W"), help="image size in pixels where both sides are outlines"
    )
    shared.reading(parser)


def run(options) -> int:
    from benchmark.data.files.class_names import read_map
    from benchmark.evaluation import foreign, known_classes
    from benchmark.formats import type_names
    from benchmark.formats.collection import collection
    from benchmark.report.render.terminal import shown
    from benchmark.report.select.protocols import protocols
    from benchmark.report.tables.foreign import tables
    from benchmark.results.run_folder import predictions_of
    from benchmark.runtime import terminal
    from benchmark.runtime.progress import Progress

    protocols(options.protocol)  # an unknown one is refused before anything is read
    if options.shape and not all(0 < side <= LARGEST for side in options.shape):
        raise InputError(
            f"--shape is {options.shape[0]} {options.shape[1]}; expected two sides of 1..{LARGEST} pixels."
        )
    true_path, pred_path = map(predictions_of, (options.true, options.pred))
    settings = type_names.read(options.types, outside=options.types_outside == "ignore")
    settings = known_classes.settle(settings, true_path, pred_path, read_map(options.classes))
    true = collection(true_path, settings.true, options.vertices)
    pred = collection(pred_path, settings.pred, options.vertices)
    mpp = resolution(options.mpp, {options.types: settings.mpp, options.true: true.mpp, options.pred: pred.mpp})
    pairs = foreign.paired(true, pred, options.missing)
    shape = tuple(options.shape) if options.shape else None
    progress = Progress("scored", "images", end=False)
    scored = foreign.score(pairs, mpp, settings.classes, shape, progress, options.protocol)
    if options.out:
        write(options.out, scored)
    of_protocols = tables(scored.summaries, scored.records, scored.classes, scored.tissues)
    print("\n".join(shown(table, terminal.room()) for table in of_protocols))
    if options.out:
        print(f"written to {options.out}", file=sys.stderr)
    return 0


def resolution(option: float | None, of_files: dict) -> float:
    """Micrometres per pixel: the value of --mpp, else that of the files.

    Args:
        of_files: path -> value, None where a file has none.

    Raises:
        InputError: there is no value, files disagree, or it is not between 0 and 100.
    """
    known = {path: value for path, value in of_files.items() if value is not None}
    if option is None and not known:
        raise InputError("--mpp is missing: give the micrometres per pixel (such as --mpp 0.25); sizes depend on it.")
    if option is None and len(set(known.values())) > 1:
        values = ", ".join(f"{path} {value:g}" for path, value in known.items())
        raise InputError(f"files disagree on mpp: {values}; give --mpp.")
    value = option if option is not None else next(iter(known.values()))
    if not 0 < value < 100:
        raise InputError(f"mpp is {value:g}; expected micrometres per pixel above 0 and below 100, such as 0.25.")
    return value


def write(folder: Path, scored) -> None:
    """Write the records, images.csv and, last, metrics.json.

    Where metrics.json exists, the files beside it are complete and belong to it.
    """
    from benchmark.report.render.table import to_csv, write_file
    from benchmark.results.run_folder import RunFolder

    with RunFolder(folder).replacing(scored.summaries):
        write_file(folder / "images.csv", to_csv(scored.rows()).encode())
        scored.records.save(folder)
