"""`postprocess`: the kept maps of a run decoded under every setting of a grid."""

import sys
from pathlib import Path

from benchmark.commands import _options as shared
from benchmark.runtime.errors import InputError

HELP = "Decode a run's kept maps under every setting of a grid: who gains, by nucleus size. Nothing is trained."
EXAMPLE = "--run results/synthetic/cellvta@small/fold1-seed0"
GRIDS = {"stardist": "stardist", "cpp": "stardist", "flows": "flows"}  # the grid of a representation, but of hv


def arguments(parser) -> None:
    parser.add_argument(
        "--run",
        type=Path,
        nargs="+",
        required=True,
        metavar="RUN",
        help="folders of runs made with --keep-maps (KEEP_MAPS=1); one table each, one figure of all",
    )
    parser.add_argument("--grid", default="postprocess", help="an experiment with a grid (default postprocess)")
    shared.dataset(parser, None, "such as pannuke or folder (default: the run's)")
    shared.cache(parser)
    shared.reports(parser)
    shared.protocol(parser, "whose bPQ, mPQ and F1 are shown (default cellvit)")


def run(options) -> int:
    from benchmark.report.figures.settings import settings_figure
    from benchmark.report.render.table import save
    from benchmark.report.render.terminal import shown
    from benchmark.report.select.protocols import protocols
    from benchmark.report.stats.setting_gains import setting_gains
    from benchmark.report.tables import postprocessing
    from benchmark.results.collect import finished
    from benchmark.runtime import terminal

    (protocol,) = protocols(options.protocol, single=True)
    finished_runs = [finished(folder) for folder in options.run]
    gains, methods, out = {}, {}, options.reports / "postprocess"
    for one in finished_runs:
        identity = one.id
        grid, records = _decoded(options, one)
        folder = out / f"{identity.dataset}-{identity.method}-fold{identity.split}-seed{identity.seed}"
        for setting, of_setting in records.items():
            of_setting.save(folder / "records" / "".join(c if c.isalnum() or c in ".-" else "_" for c in setting))
        table = postprocessing.table(one, records, grid, protocol)
        save(table, folder)
        gains[str(identity)] = setting_gains(records, protocol, len(one.config["classes"]))
        methods[str(identity)] = identity.method.partition("@")[0]
        print(shown(table, terminal.room(), folder / table.name))
        print(f"written to {folder}", file=sys.stderr)
    settings_figure(gains, methods, out)
    print(f"settings.png, .pdf and .csv of all written to {out}", file=sys.stderr)
    return 0


def _decoded(options, one):
    """(setting's name -> settings, setting's name -> records) of a run's kept maps."""
    from benchmark.data.tiles import DOWN, UP
    from benchmark.evaluation import decode_grid
    from benchmark.methods import registry
    from benchmark.results.raw_maps import StoredMaps
    from benchmark.results.run_folder import RunFolder
    from benchmark.runtime.progress import Progress

    maps, subset = StoredMaps(RunFolder(one.folder)), test_set(options, one)
    if maps.images != list(range(len(subset))):
        raise InputError(
            f"{one.folder}: its maps are of {len(maps.images)} images, the test set has {len(subset)}; "
            "run the cell again with KEEP_MAPS=1."
        )
    config = one.config
    tiling = config.get("recipe", {}).get("tiling", "none")
    mpp = config["mpp"] if tiling == "none" else config["mpp"] * DOWN / UP
    way = registry.stored_representation(config)
    grid = settings(options.grid, way, mpp)
    show = Progress(f"{one.id}, {len(grid)} settings:", "images")
    show(0, len(subset))
    truths = decode_grid.Truths(subset)
    records = decode_grid.decode(maps, truths, list(grid.values()), way, progress=show, tiling=tiling)
    return grid, dict(zip(grid, records))


def test_set(options, run):
    """The test side of the run's split. Raises InputError when it is not the data that the run was scored on."""
    from benchmark.data.registry import dataset
    from benchmark.data.store.prepare import prepare

    source = dataset(options.dataset or run.config["dataset"], options.data_root)
    data = prepare(source, options.cache, run.id.split)
    fingerprint = run.metrics.get("identity", {}).get("data")
    if fingerprint and fingerprint != data.fingerprint(run.id.split)[:16]:
        raise InputError(f"{run.folder} was scored on other data than these; name its dataset with --data-root.")
    return data.subset(run.id.split, "test")


def settings(experiment: str, way, mpp: float) -> dict:
    """Name -> settings: those published for a representation, with the changes of each entry of the experiment's grid.

    Args:
        way: a `representations.base.Representation`.
        mpp: of the maps, micrometres per pixel.

    Raises:
        InputError: the experiment has no grid, or changes a setting that does not exist or to a wrong value.
    """
    from benchmark.experiment.config import load

    grid = load(experiment).get("postprocess")
    if not grid:
        raise InputError(f"experiment '{experiment}' has no `postprocess` grid; see experiments/postprocess.py.")
    base = way.settings(mpp)
    try:
        return {name: base.updated(dict(changes)) for name, changes in dict(grid).items()}
    except (ValueError, TypeError) as error:
        own = f"postprocess_{GRIDS[way.name]}" if way.name in GRIDS else "postprocess"
        other = "" if experiment == own else f"; --grid names another, such as {own} for instances={way.name}"
        raise InputError(f"experiment '{experiment}': {error}{other}.") from error
