"""`prepare`: a dataset into the cache, fetched from the Hugging Face hub where that is asked for."""

from pathlib import Path

from benchmark.commands import _options as shared
from benchmark.runtime.counts import counted
from benchmark.runtime.errors import InputError
from benchmark.runtime.plugins import check_name

HELP = "Convert a dataset once into its cache."
EXAMPLE = "--dataset pannuke --data-root /data/pannuke"


def arguments(parser) -> None:
    shared.dataset(parser, root="folder or archive of the dataset")
    shared.scheme(parser)
    shared.cache(parser)
    parser.add_argument(
        "--download",
        action="store_true",
        help="fetch it first, into --data-root (default: the folder data/<dataset> beside the cache)",
    )
    parser.add_argument(
        "--accept", metavar="LICENCE", help="id of the licence that you accept, such as cc-by-nc-sa-4.0"
    )


def run(options) -> int:
    from benchmark.data.registry import dataset, dataset_names
    from benchmark.data.store.prepare import prepare as convert

    root = options.data_root
    if options.download:
        from benchmark.data import download

        if len(shared.sets_of(options.dataset)) > 1:
            raise InputError(
                f"--download fetches one data set at a time; name one of those that {options.dataset} joins."
            )
        name = options.dataset.partition("@")[0]
        check_name("dataset", name, dataset_names())
        root = root or Path(options.cache).parent / "data" / name
        download.fetch(name, Path(root), options.accept)
        print(f"DATA_ROOT={root}")
    data = convert(dataset(shared.with_scheme(options.dataset, options.scheme), root), options.cache)
    folds = ", ".join(f"{number} ({counted(len(fold), 'image')})" for number, fold in data.folds.items())
    print(f"{data.name}: folds {folds}; {counted(len(data.classes), 'type')}; in {options.cache}")
    print(_runnable(data))
    return 0


def _runnable(data) -> str:
    """A sentence on which splits can be run, and for each other one why it cannot."""
    from benchmark.data.store.prepare import FoldMissing

    complete, lacking, refused = [], [], {}
    for k in data.splits():
        try:
            data.split(k)
            complete.append(str(k))
        except FoldMissing:
            lacking.append(str(k))
        except InputError as error:
            refused.setdefault(str(error), []).append(str(k))
    *others, last = complete or [""]
    names = f"{', '.join(others)} or {last}" if others else last
    text = f"FOLD={names} can be run" if complete else "No split can be run"
    text += f"; {', '.join(lacking)} need folds that do not lie under DATA_ROOT." if lacking else "."
    return "\n".join([text, *(f"FOLD={', '.join(splits)}: {reason}" for reason, splits in refused.items())])
