"""`contact-sheet`: prepared images with their outlines."""

from pathlib import Path

from benchmark.commands import _options as shared
from benchmark.runtime.errors import InputError

HELP = "A picture of prepared images with their outlines."
EXAMPLE = "--out sheet.png"


def arguments(parser) -> None:
    shared.dataset(parser, root="folder or archive of the dataset")
    shared.scheme(parser)
    shared.cache(parser)
    shared.fold(parser, "published split (default 1)")
    parser.add_argument("--side", choices=("train", "val", "test"), default="test", help="side of the split")
    parser.add_argument("--count", type=int, default=24, help="number of images (default 24)")
    parser.add_argument("--run", type=Path, help="a run folder: its predictions stand below the truth (test side)")
    parser.add_argument("--out", type=Path, required=True, help="PNG to write")


def run(options) -> int:
    from benchmark.data import pictures
    from benchmark.data.registry import dataset
    from benchmark.data.store.prepare import prepare as convert
    from benchmark.results import predictions
    from benchmark.results.run_folder import RunFolder

    data = convert(
        dataset(shared.with_scheme(options.dataset, options.scheme), options.data_root),
        options.cache,
        split=options.fold,
    )
    subset = data.subset(options.fold, options.side)
    if options.count < 1:
        raise InputError(f"--count is {options.count}; expected at least 1.")
    if options.run:
        _same_images(options, data)
    # evenly over the subset: neighbours are often of one slide
    rows = sorted({round(k * (len(subset) - 1) / max(1, options.count - 1)) for k in range(options.count)})
    predicted = None
    if options.run:
        folder = RunFolder(options.run)
        folder.check(folder.predictions)
        predicted = predictions.load(folder.predictions, rows, data.mpp)
    pictures.write_sheet([subset[i] for i in rows], options.out, predicted=predicted)
    print(options.out)
    return 0


def _same_images(options, data) -> None:
    """Raises InputError when the run predicted other images than those to be drawn."""
    from benchmark.results.run import readable
    from benchmark.results.run_folder import RunFolder

    fingerprint = readable(RunFolder(options.run).provenance).get("data_fingerprint")  # without it their number decides
    if options.side != "test" or (fingerprint is not None and fingerprint != data.fingerprint(options.fold)):
        raise InputError(
            f"{options.run} predicted other images than the {options.side} side of {options.dataset}, "
            f"FOLD={options.fold}; name the --dataset, --data-root and --fold of the run (it predicts the test side)."
        )
