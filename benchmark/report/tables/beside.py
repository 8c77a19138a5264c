"""Measured values of one run beside the published ones."""

from benchmark.metrics.protocols import PROTOCOLS
from benchmark.report.render.table import Block, Table
from benchmark.report.tables import published
from benchmark.results.method_name import described
from benchmark.results.run import read_object
from benchmark.results.run_folder import RunFolder
from benchmark.results.run_id import data_set
from benchmark.runtime.paths import as_called

# the protocol under which the figures of a dataset are published
PUBLISHED_UNDER = {"pannuke": "cellvit", "conic": "cellvta_conic"}
SCORES = ("bPQ", "mPQ", "tissue_mean/bPQ", "tissue_mean/mPQ", "bDQ", "bSQ", "F1", "precision", "recall", "Dice")


def beside(folder: RunFolder) -> Table:
    """Table of a complete run: metric, measured, published, difference.

    Published figures are those of the same method, row, dataset, split and protocol. Where none exist, the line below
    the table says so, and where the images are not the same ones in number. Raises InputError for a damaged run.
    """
    folder.check(folder.config)
    config, metrics = read_object(folder.config), read_object(folder.metrics)
    dataset, file = data_set(config["dataset"]), config.get("file") or {}
    protocol = PUBLISHED_UNDER.get(dataset, "cellvit")
    protocol = protocol if protocol in metrics["protocols"] else next(iter(metrics["protocols"]))
    measured = metrics["protocols"][protocol]
    known = {}
    settings = described(config.get("settings") or {})
    plain = not settings and "," not in config.get("spec", config["method"])
    if file.get("split") in (None, config["fold"]) and plain:
        known = published.values(config["name"], config["row"], dataset, config["fold"], protocol)
    names = [*SCORES, *(f"{m}_{c}" for m in ("PQ", "F1") for c in config["classes"])]
    lines = [["metric", "measured", "published", "difference"]]
    for name in names:
        value, reference = measured.get(name), known.get(name)
        if value is None and reference is None:
            continue
        difference = f"{value - reference:+z.4f}" if value is not None and reference is not None else "–"
        lines.append([name, *(f"{v:.4f}" if v is not None else "–" for v in (value, reference)), difference])
    table = Table(
        "beside",
        f"{config['method']} on {config['dataset']}, FOLD={config['fold']}, test side: protocol `{protocol}` "
        f"version {PROTOCOLS[protocol].version}",
        blocks=[Block(lines)],
    )
    if file:
        table.notes.append(
            f"Weights: {file['name']}, sha256 {file['sha256'][:12]}, {file['layout']}; not trained here."
        )
    table.notes += file.get("remarks", [])
    if settings:
        table.notes.append(f"Published: none for these settings ({settings}).")
    elif not known:
        table.notes.append("Published: none for this method, row, dataset, split and protocol.")
    elif known.get("n_images") not in (None, metrics["n_images"]):
        table.notes.append(
            f"The published figures are of {known['n_images']:.0f} images, these of {metrics['n_images']}: not the "
            "same test set."
        )
    table.notes.append(f"Stored in {folder}; `{as_called('table')}` shows it as a row of its own.")
    return table
