"""Time and memory of `status`, `table` and `report` on a grid of generated runs.

    python perf/scale.py [--cells 5000] [--out FOLDER] [--threads 2]

Without --cells 50 of them, in seconds. A run is as one on `synthetic@patches=64` leaves it, without weights: identity,
configuration, log, cost, scores of all protocols, records of 64 images with about 38 true and as many predicted nuclei
each, and predictions, 0.5 MB in all. The truth is that of the prepared data; the predictions are the true nuclei moved,
some lost, in a few qualities that the runs of a split share, so that 5,000 runs take a minute or two to write and 3 GB.
The rows are CellVTA's arms and its rivals, then the same at other learning rates; three splits; up to 20 seeds.

Each command runs in a process of its own, as it is typed. FOLDER keeps the runs: a second call with as many cells
measures the same ones.
"""

import argparse
import itertools
import json
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmark.data.nuclei import Nuclei
from benchmark.data.store.prepare import Prepared, prepare
from benchmark.evaluation.scoring import collect, protocol_scores, score_image
from benchmark.experiment import config
from benchmark.experiment.cell import Cell
from benchmark.experiment.grid import cells
from benchmark.experiment.run import describe
from benchmark.experiment.setup import Setup
from benchmark.results import manifest, predictions, provenance
from benchmark.results.run import words
from benchmark.results.run_folder import RunFolder
from benchmark.runtime.files import write_json
from benchmark.runtime.paths import ROOT

DATASET, PRESET = "synthetic@patches=64", "small"
SPLITS, SEEDS, QUALITIES = (1, 2, 3), 20, 8
RIVALS = ("hovernet", "cellvit", "classical")
RATES = [round(0.0001 * step, 4) for step in range(1, 200)]  # of the rows beyond the arms
LIMITS = {"status": (10, None), "table": (30, None), "report": (600, 4096)}  # seconds, MiB; at 5,000 cells


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=int, default=50)
    parser.add_argument("--out", type=Path, help="where the runs go and stay (default: a temporary folder)")
    parser.add_argument("--threads", type=int, default=2, help="of each command (default 2)")
    parser.add_argument("--commands", nargs="+", choices=LIMITS, default=list(LIMITS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        out = (options.out or Path(temporary)).resolve()
        generate(out, options.cells)
        print(words(provenance.hardware("cpu")), f"{options.threads} threads", words(provenance.commit()), sep="; ")
        print(f"{'command':8} {'wall s':>8} {'user+sys s':>11} {'peak MiB':>9}  limit at 5,000 cells")
        for command in options.commands:
            wall, processor, peak, lines = measured(out, command, options.threads)
            seconds, most = LIMITS[command]
            limit = f"{seconds} s" + (f", {most} MiB" if most else "")
            print(f"{command:8} {wall:8.1f} {processor:11.1f} {peak:9.0f}  {limit}", flush=True)
            if command == "status":
                print(f"  {lines[-1]}")
        size = sum(path.stat().st_size for path in out.rglob("reports/**/*") if path.is_file())
        print(f"reports: {size / 1e6:.1f} MB", *_page(out / "reports/index.html"))


def _page(path: Path) -> list[str]:
    """Size of the page and its cells of tables, where there is one."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return [f"page: {len(text) / 1e6:.1f} MB, {text.count('<td') + text.count('<th'):,} cells of tables"]


def measured(out: Path, command: str, threads: int) -> tuple[float, float, float, list[str]]:
    """(wall seconds, seconds of processor time, peak memory in MiB, lines printed) of one command in a new process."""
    options = ["--results", "results"]
    if command == "status":
        options += ["--dataset", DATASET, "--preset", PRESET, "--cache", "cache", "--device", "cpu"]
    else:
        options += ["--reports", "reports"]
        options += ["--cache", "cache"] if command == "report" else []
    line = [sys.executable, "-m", "benchmark", command, "--experiment", "grid.py", *options]
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    environment["PYTHONPATH"] = str(ROOT)
    began = time.perf_counter()
    with open(out / f"{command}.txt", "w+", encoding="utf-8") as stream, open(out / f"{command}.err", "w") as errors:
        child = subprocess.Popen(line, cwd=out, env=environment, stdout=stream, stderr=errors)
        _, status, used = os.wait4(child.pid, 0)  # the peak of this child alone
        wall = time.perf_counter() - began
        if status:
            sys.exit(f"{command} failed: {(out / f'{command}.err').read_text()[-2000:]}")
        stream.seek(0)
        lines = stream.read().splitlines()
    return wall, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, lines


def generate(out: Path, count: int) -> None:
    """Write an experiment of `count` cells or a few more, its data and its finished runs, where they are not there."""
    marker = out / "generated.json"
    if marker.exists() and json.loads(marker.read_text())["cells"] == count:
        return
    shutil.rmtree(out / "results", ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    seeds = min(SEEDS, math.ceil(count / 100))
    rows = math.ceil(count / (len(SPLITS) * seeds))
    names: dict[str, str] = {}
    for name in _rows():  # an arm that spells its row's own value is that row
        names.setdefault(cells(Setup(DATASET, None, PRESET, "main", out, out), [name], [1], [0])[0].name, name)
        if len(names) == rows:
            break
    base = ROOT / "experiments/_base_/matched.py"
    text = f"_base_ = [{str(base)!r}]\nmethods = {list(names.values())!r}\n"
    text += f"folds = {list(SPLITS)!r}\nseeds = {list(range(seeds))!r}\n"
    (out / "grid.py").write_text(text, encoding="utf-8")
    setup = Setup(DATASET, None, PRESET, str(out / "grid.py"), out / "results", out / "cache")
    data = prepare(setup.source, setup.cache)
    chosen = cells(setup)
    began = time.perf_counter()
    templates = {}
    qualities = min(QUALITIES, rows * seeds)
    for split, quality in itertools.product(SPLITS, range(qualities)):
        templates[split, quality] = _template(out / f"templates/{split}-{quality}", data, split, quality)
    for number, cell in enumerate(chosen):
        _run(cell, data, *templates[cell.split, (number * 7 + cell.seed) % qualities], number)
    shutil.rmtree(out / "templates")
    marker.write_text(json.dumps({"cells": count}))
    size = sum(path.stat().st_size for path in (out / "results").rglob("*") if path.is_file())
    spent = time.perf_counter() - began
    print(f"{len(chosen)} runs of {rows} rows, {len(SPLITS)} splits, {seeds} seeds: {size / 1e6:.0f} MB, {spent:.0f} s")


def _rows() -> Iterator[str]:
    """Names of the grid's rows: the arms of experiments/adapter.py and the rivals, then others by learning rate."""
    yield from dict.fromkeys(("cellvta", *RIVALS, *config.load("adapter").methods))
    for rate, method in itertools.product(RATES, ("cellvta", "decoder_only", "full_finetune", *RIVALS[:2])):
        yield f"{method}@recipe.optimiser.lr={rate}"


def _template(folder: Path, data: Prepared, split: int, quality: int) -> tuple[Path, dict, dict]:
    """(folder with records and predictions, scores, entries of the files) of predictions of one quality."""
    rng = np.random.default_rng((split, quality))
    subset = data.subset(split, "test")
    images = []
    for index in range(len(subset)):
        truth = subset[index].nuclei
        images.append(score_image(index, truth, _predicted(truth, len(data.classes), rng, quality), True, keep=True))
    records = collect(images)
    records.save(folder)
    files = RunFolder(folder)
    predictions.write(files.predictions, [image.prediction for image in images])
    listed = manifest.listed({}, files.records, [files.predictions])[manifest.FILES]
    return folder, protocol_scores(records, list(data.classes), list(data.tissues)), listed


def _predicted(truth: Nuclei, classes: int, rng, quality: int) -> Nuclei:
    """The true nuclei moved by a pixel or two, some lost, some of another type; the higher the quality, the fewer."""
    lost = 0.08 + 0.2 * (QUALITIES - quality) / QUALITIES
    kept = np.flatnonzero(rng.random(len(truth.types)) > lost) + 1
    number = np.zeros(len(truth.types) + 1, np.int32)
    number[kept] = np.arange(1, len(kept) + 1)
    moved = np.roll(number[truth.instances], rng.integers(-2, 3, 2), (0, 1))
    left = np.unique(moved)
    left = left[left > 0]
    again = np.zeros(len(kept) + 1, np.int32)
    again[left] = np.arange(1, len(left) + 1)
    types = truth.types[kept[left - 1] - 1]
    wrong = rng.random(len(types)) < lost
    types = np.where(wrong, rng.integers(1, classes + 1, len(types)), types).astype(np.uint8)
    return Nuclei(again[moved], types, truth.mpp)


def _run(cell: Cell, data: Prepared, template: Path, scores: dict, files: dict, number: int) -> None:
    """Write the folder of a finished run as `results.run_folder` describes it."""
    folder = cell.folder
    folder.path.mkdir(parents=True)
    for path in template.iterdir():
        shutil.copyfile(path, folder.path / path.name)
    write_json(folder.config, describe(cell, data, cell.encoder))
    rng = np.random.default_rng(number)
    epochs = cell.recipe.epochs if cell.trains else 0
    losses = 3 * np.exp(-np.arange(epochs) / 6) + rng.random(epochs) / 10
    lines = [
        {"epoch": k, "loss": loss, "lr": 1e-3, "phase": 0, "seconds": 9.0, "terms": {"np": loss / 2, "hv": loss / 2}}
        | ({"val_bPQ": 0.6 - loss / 8} if k % 5 == 4 else {})
        for k, loss in enumerate(losses.tolist())
    ]
    if lines:
        folder.log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    cost = {"params": 3_031_104, "trainable": 1_338_048, "gflops": 8.2, "precision": "fp32", "processes": 1}
    cost |= {"images_per_second": 15 + rng.random(), "decode_ms": 6.7, "forward_ms": 59.8, "epochs": epochs}
    cost |= {"train_seconds": 144 + rng.random(), "peak_memory_bytes": 2**31, "peak_memory_kind": "rss"}
    write_json(folder.cost, cost)
    origin = _provenance(cell, data)
    write_json(folder.provenance, manifest.listed(origin, removable=[folder.cost, folder.log]))
    metrics = {"key": cell.key, "identity": cell.identity, "protocols": scores, "n_images": 64, "n_untyped": 0}
    metrics |= {"best_epoch": epochs - 1, "val_bPQ": 0.5, "ceiling": None}
    metrics = manifest.listed(metrics, [folder.config], absent=files)
    write_json(folder.metrics, metrics)


def _provenance(cell: Cell, data: Prepared) -> dict:
    """What the harness notes of a run, with the same times for all."""
    origin = _MACHINE | {"data_fingerprint": data.fingerprint(cell.split), "seed": cell.seed}
    command = "python -m benchmark ablation --experiment grid.py"
    return origin | {"command": command, "commit": "0" * 40, "dirty": None, "op_backend": "cpu"}


_MACHINE = {
    "hardware": provenance.hardware("cpu"),
    "versions": provenance.versions(),
    "started": "2026-12-01T00:00:00+00:00",
    "finished": "2026-12-01T00:03:00+00:00",
}


if __name__ == "__main__":
    main()
