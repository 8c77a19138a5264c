"""`merge`: results of other machines into the folder of results."""

from collections import Counter
from pathlib import Path

from benchmark.commands import _options as shared

HELP = "Copy finished runs out of results folders of other machines; exit 1 when numbers of one are left out."
EXAMPLE = "/mnt/a/results /mnt/b/results"


def arguments(parser) -> None:
    parser.add_argument("paths", nargs="+", type=Path, metavar="DIR", help="folder of results; it is only read")
    shared.results(parser)


def run(options) -> int:
    from benchmark.results.merge import REFUSED, merge
    from benchmark.results.run_folder import check_results

    check_results(options.results)
    counts: Counter[str] = Counter()
    for name, what, why in merge(options.paths, options.results):
        print(f"{name}: {why}", flush=True)
        counts[what] += 1
    print(f"{options.results}: {', '.join(f'{n} {what}' for what, n in counts.items()) or 'nothing to merge'}")
    return int(any(counts[what] for what in REFUSED))
