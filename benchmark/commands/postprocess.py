"""`postprocess`: the kept maps of a run decoded under every setting of a grid."""

import sys
from pathlib import Path

from benchmark.runtime.errors import InputError
from benchmark.runtime.paths import CACHE, REPORTS

HELP = "Decode a run's kept maps under every setting of a grid: who gains, by nucleus size. Nothing is trained."
EXAMPLE = "--run results/synthetic/cellvta@small/fold1-seed0"


def arguments(parser) -> None:
    parser.add_argument("--run", type=Path, required=True, help="folder of a run made with --keep-maps (KEEP_MAPS=1)")
    parser.add_argument("--grid", default="postprocess", help="an experiment with a grid (default postprocess)")
    parser.add_argument("--dataset", help="pannuke, conic, folder or synthetic (default: the run's)")
    parser.add_argument("--data-root", help="folder or archive of the dataset; synthetic needs none")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where prepared data lie")
    parser.add_argument("--reports", type=Path, default=REPORTS, help="where the tables go")
    parser.add_argument("--protocol", default="cellvit", help="whose bPQ, mPQ and F1 are shown (default cellvit)")


def run(options) -> int:
    from benchmark.data.tiles import DOWN, UP
    from benchmark.evaluation import decode_grid
    from benchmark.report.render.table import markdown, save
    from benchmark.report.select.protocols import protocols
    from benchmark.report.tables import postprocessing
    from benchmark.results.collect import finished
    from benchmark.results.raw_maps import StoredMaps
    from benchmark.results.run_folder import RunFolder
    from benchmark.runtime.progress import Progress

    made = finished(options.run)
    (protocol,) = protocols(options.protocol, single=True)
    maps = StoredMaps(RunFolder(options.run))
    subset = test_set(options, made)
    if maps.images != list(range(len(subset))):
        raise InputError(
            f"{options.run}: its maps are of {len(maps.images)} images, the test set has {len(subset)}; "
            "run the cell again with KEEP_MAPS=1."
        )
    tiling = made.config.get("recipe", {}).get("tiling", "none")
    mpp = made.config["mpp"] if tiling == "none" else made.config["mpp"] * DOWN / UP
    grid = settings(options.grid, made.config["name"], mpp)
    show = Progress(f"{len(grid)} settings:", "images")
    show(0, len(subset))
    truths = decode_grid.Truths(subset)
    records = decode_grid.decode(maps, truths, list(grid.values()), progress=show, tiling=tiling)
    folder = (
        options.reports / "postprocess" / f"{made.id.dataset}-{made.id.method}-fold{made.id.split}-seed{made.id.seed}"
    )
    for name, one in zip(grid, records):
        one.save(folder / "records" / "".join(c if c.isalnum() or c in ".-" else "_" for c in name))
    table = postprocessing.table(made, dict(zip(grid, records)), grid, protocol)
    save(table, folder)
    print(markdown(table))
    print(f"written to {folder}", file=sys.stderr)
    return 0


def test_set(options, made):
    """The test side of the run's split, checked to hold the data that the run was scored on."""
    from benchmark.data.registry import dataset
    from benchmark.data.store.prepare import prepare

    data = prepare(dataset(options.dataset or made.config["dataset"], options.data_root), options.cache, made.id.split)
    told = made.metrics.get("identity", {}).get("data")
    if told and told != data.fingerprint(made.id.split)[:16]:
        raise InputError(f"{options.run} was scored on other data than these; name its dataset with --data-root.")
    return data.subset(made.id.split, "test")


def settings(experiment: str, method: str, mpp: float) -> dict:
    """Name -> HVSettings: the method's published ones with each entry's changes."""
    from benchmark.experiment.config import load
    from benchmark.postproc.hv import HVSettings

    grid = load(experiment).get("postprocess")
    if not grid:
        raise InputError(f"experiment '{experiment}' has no `postprocess` grid; see experiments/postprocess.py.")
    base = HVSettings.published(method, mpp)
    try:
        return {name: base.updated(dict(changes)) for name, changes in dict(grid).items()}
    except (ValueError, TypeError) as error:
        raise InputError(f"experiment '{experiment}': {error}.") from error
