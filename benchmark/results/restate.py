"""A complete result whose config.json can say more than when it was stored; its scores stay as they are."""

from benchmark.results import manifest
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.files import write_json


def restate(folder: RunFolder, config: dict) -> None:
    """Store another config.json with a complete result; only for who holds the lock.

    A kill in between leaves a folder without a result, which is run again.

    Args:
        config: contents of config.json, of the same identity.
    """
    metrics, cost, provenance = map(folder.stored, (folder.metrics, folder.cost, folder.provenance))
    with folder.replacing(metrics):
        write_json(folder.config, config)
        metrics |= manifest.listed(metrics, [folder.config], absent=manifest.files_of(metrics))
        folder.describe(config, metrics, cost, provenance)
