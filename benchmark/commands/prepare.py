"""`prepare`: a dataset into the cache."""

from benchmark.commands import _options as shared
from benchmark.runtime.errors import InputError

HELP = "Convert a dataset once into its cache."
EXAMPLE = "--dataset pannuke --data-root /data/pannuke"


def arguments(parser) -> None:
    shared.dataset(parser, root="folder or archive of the dataset")
    shared.scheme(parser)
    shared.cache(parser)


def run(options) -> int:
    from benchmark.data.registry import dataset
    from benchmark.data.store.prepare import prepare as convert

    data = convert(dataset(shared.with_scheme(options.dataset, options.scheme), options.data_root), options.cache)
    folds = ", ".join(f"{number} ({len(fold)} images)" for number, fold in data.folds.items())
    print(f"{data.name}: folds {folds}; {len(data.classes)} types; in {options.cache}")
    print(_runnable(data))
    return 0


def _runnable(data) -> str:
    """A sentence on which splits have all their folds."""
    complete, lacking = [], []
    for k in data.splits():
        try:
            data.split(k)
            complete.append(str(k))
        except InputError:
            lacking.append(str(k))
    *others, last = complete or [""]
    names = f"{', '.join(others)} or {last}" if others else last
    text = f"FOLD={names} can be run" if complete else "No split can be run"
    return text + (f"; {', '.join(lacking)} need folds that do not lie under DATA_ROOT." if lacking else ".")
