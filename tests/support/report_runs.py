"""Run folders made for the report's tests."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np

from benchmark.metrics.match import match
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.metrics.records import Records
from benchmark.results.run_id import RunId

CLASSES = ["Neoplastic", "Inflammatory"]
TISSUES = ["Breast", "Colon_x"]
MAIN = Path("synthetic/main-small")


class Stub:
    """A run as far as statistics look at it."""

    def __init__(self, folder, fold=1, seed=0):
        self.folder, self.config, self.cost, self.metrics = folder, {"classes": CLASSES}, {}, {}
        self.id = type("Id", (), {"split": fold, "seed": seed})()


def squares() -> Records:
    """Two images of squares of 12, 28 and 56 px at 0.25 µm/px; half of the small are missed, all shifted."""
    matches = []
    for image in range(2):
        true, pred = np.zeros((2, 512, 512), np.int32)
        types = []
        n = 0
        for row, side in enumerate((12, 12, 12, 28, 28, 56, 56)):
            for column in range(8):
                n += 1
                y, x = 4 + 64 * row, 4 + 64 * column
                true[y : y + side, x : x + side] = n
                if side > 12 or column % 2 == image:
                    pred[y + 1 : y + 1 + side, x : x + side] = n
                types.append(1 + n % 2)
        kept = np.unique(pred)[1:]
        matches.append(match(true, np.array(types), pred, np.array(types)[kept - 1], mpp=0.25))
    meta = [{"image": i, "image_id": str(i), "tissue": t, "source": "s", "typed": True} for i, t in enumerate(TISSUES)]
    return Records.collect(matches, meta)


def make_run(
    results,
    stored,
    method="cellvta@small",
    fold=1,
    seed=0,
    bpq=0.5,
    *,
    dataset="synthetic",
    kind="main",
    weights="random",
    version=None,
    cost=None,
    **config,
):
    """Write a complete run folder whose bPQ is `bpq`."""
    file = (config.get("file") or {}).get("tag", "")
    folder = RunId(dataset, method, fold, seed, kind, file).folder(results)
    shutil.copytree(stored, folder)
    name, _, row = method.partition("@")
    backbone = {"name": None, "weights": "random"} if name == "classical" else {"name": "tiny", "weights": weights}
    scores = {"bPQ": bpq, "mPQ": bpq / 2, "bDQ": 0.7, "bSQ": 0.7, "F1": 0.8, "Dice": 0.8, "AJI": None}
    scores |= {f"PQ_{c}": 0.3 for c in CLASSES} | {f"F1_{c}": 0.4 for c in CLASSES} | {"PQ_Inflammatory": None}
    scores |= {f"tissue/{t}/{m}": bpq for t in TISSUES for m in ("bPQ", "mPQ")}
    files = {
        "config": {
            "dataset": dataset,
            "method": method,
            "name": name,
            "row": row,
            "fold": fold,
            "seed": seed,
            "kind": kind,
            "classes": CLASSES,
            "tissues": TISSUES,
            "mpp": 0.25,
            "backbone": backbone,
            "recipe": {"epochs": 5, "optimiser": {"lr": 1e-3}},
        }
        | config,
        "cost": {
            "params": 1_500_000,
            "trainable": 250_000,
            "gflops": 7.5,
            "images_per_second": 10.0 + fold,
            "decode_ms": 3.0,
            "peak_memory_bytes": 512 * 2**20,
            "peak_memory_kind": "rss",
            "train_seconds": 60.0,
        }
        | (cost or {}),
        "provenance": {
            "command": f"python -m benchmark run --method {name} --fold {fold}",
            "commit": "0123456789abcdef",
            "dirty": False,
            "hardware": "2 cores",
            "data_fingerprint": f"f{fold}",
        },
        "metrics": {
            "key": "00ff",
            "n_images": 2,
            "n_untyped": 0,
            "best_epoch": 4,
            "protocols": {n: scores | {"version": version or p.version} for n, p in PROTOCOLS.items()},
        },
    }
    for stem, value in files.items():
        (folder / f"{stem}.json").write_text(json.dumps(value))
    return folder


def table_rows(text):
    """Cells of all Markdown table lines."""
    return [[c.strip() for c in line.strip("|").split(" | ")] for line in text.splitlines() if line.startswith("| ")]


def read_csv(path):
    return list(csv.DictReader(io.StringIO(path.read_text())))
