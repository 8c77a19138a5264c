"""The folder of a run: names of its files, and whether results can be written."""

import tempfile
from pathlib import Path

from benchmark.runtime.errors import InputError

LOCK, OWNER, METRICS, FAILED = ".lock", "owner.txt", "metrics.json", "failed.txt"


CHECKPOINT = "checkpoint.pt"


def check_results(results: Path) -> None:
    """Refuse a results folder that is no folder or cannot be written. Raises InputError."""
    for path in [results, *results.parents]:
        if path.exists():
            if not path.is_dir():
                raise InputError(f"{path}: expected a folder for results, found a file; move it away or set RESULTS=.")
            break
    try:
        results.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=results):
            pass
    except OSError as error:
        raise InputError(
            f"{results}: cannot write results there ({error.strerror}); set RESULTS= elsewhere."
        ) from error


WEIGHTS, LOG = "weights.safetensors", "log.jsonl"
