"""`prepare`: a dataset into the cache."""

from pathlib import Path

from benchmark.paths import CACHE

HELP = "Convert a dataset once into its cache."
EXAMPLE = "--dataset pannuke --data-root /data/pannuke"


def arguments(parser) -> None:
    parser.add_argument("--dataset", default="synthetic", help="pannuke, conic, folder or synthetic")
    parser.add_argument("--data-root", help="folder or archive of the dataset")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where prepared data lie")


def run(options) -> int:
    from benchmark.data.prepare import prepare as convert
    from benchmark.registry import dataset

    data = convert(dataset(options.dataset, options.data_root), options.cache)
    print(f"{data.name}: splits {', '.join(map(str, data.splits()))}; {len(data.classes)} types; in {options.cache}")
    return 0
