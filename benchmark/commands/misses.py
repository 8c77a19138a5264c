"""`misses`: why the true nuclei of a run's test set were missed, by size."""

import sys
from pathlib import Path

from benchmark.commands import _options as shared
from benchmark.runtime.errors import InputError

HELP = "Why nuclei were missed, by size: not proposed, below the threshold, removed, merged, split. Needs kept maps."
EXAMPLE = "--runs results/synthetic/cellvta@small/fold1-seed0 results/synthetic/decoder_only@small/fold1-seed0"


def arguments(parser) -> None:
    parser.add_argument("--runs", type=Path, nargs="+", required=True, help="folders of runs made with KEEP_MAPS=1")
    shared.dataset(parser, None, "such as pannuke or folder (default: the runs')")
    shared.cache(parser)
    shared.reports(parser)


def run(options) -> int:
    from benchmark.commands.postprocess import test_set
    from benchmark.evaluation import misses
    from benchmark.evaluation.decode_grid import Truths
    from benchmark.methods import registry
    from benchmark.report.figures.misses import misses_figure
    from benchmark.report.render.table import save
    from benchmark.report.render.terminal import shown
    from benchmark.report.tables.misses import misses_table
    from benchmark.results.collect import finished
    from benchmark.results.raw_maps import StoredMaps
    from benchmark.results.run_folder import RunFolder
    from benchmark.runtime import terminal
    from benchmark.runtime.progress import Progress

    counted = {}
    for folder in options.runs:
        finished_run = finished(folder)
        maps, subset = StoredMaps(RunFolder(folder)), test_set(options, finished_run)
        if maps.images != list(range(len(subset))):
            raise InputError(
                f"{folder}: its maps are of {len(maps.images)} images, the test set has {len(subset)}; run the cell "
                "again with KEEP_MAPS=1."
            )
        show = Progress(f"{finished_run.id}:", "images")
        config = finished_run.config
        way = registry.stored_representation(config)
        settings = way.settings(config["mpp"])
        try:
            counted[str(finished_run.id)] = misses.count(maps, Truths(subset), settings, progress=show)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from error
    table = misses_table(counted)
    folder = options.reports / "misses"
    save(table, folder)
    misses_figure(counted, folder)
    print(shown(table, terminal.room(), folder / table.name))
    print(f"written to {folder}", file=sys.stderr)
    return 0
