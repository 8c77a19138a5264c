"""`prepare`: a dataset into the cache."""

from pathlib import Path

from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import CACHE

HELP = "Convert a dataset once into its cache."
EXAMPLE = "--dataset pannuke --data-root /data/pannuke"


def arguments(parser) -> None:
    parser.add_argument("--dataset", default="synthetic", help="pannuke, conic, folder or synthetic")
    parser.add_argument("--data-root", help="folder or archive of the dataset")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where prepared data lie")


def run(options) -> int:
    from benchmark.data.registry import dataset
    from benchmark.data.store.prepare import prepare as convert

    data = convert(dataset(options.dataset, options.data_root), options.cache)
    folds = ", ".join(f"{number} ({len(fold)} images)" for number, fold in data.folds.items())
    print(f"{data.name}: folds {folds}; {len(data.classes)} types; in {options.cache}")
    print(_runnable(data))
    return 0


def _runnable(data) -> str:
    """Which splits have all their folds."""
    complete, lacking = [], []
    for k in data.splits():
        try:
            data.split(k)
            complete.append(str(k))
        except InputError:
            lacking.append(str(k))
    several = " or ".join(filter(None, [", ".join(complete[:-1]), *complete[-1:]]))
    told = f"FOLD={several} can be run" if complete else "No split can be run"
    return told + (f"; {', '.join(lacking)} need folds that do not lie under DATA_ROOT." if lacking else ".")
