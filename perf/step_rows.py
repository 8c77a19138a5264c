"""The rows of perf/train_step.py: what their notes say, how they are printed and written."""

import csv
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parent))
from bench_ops import hardware
from csv_rows import command, commit
from step_variants import HARNESS

from benchmark.training.scales import SCALES

COLUMNS = (
    "part",
    "method",
    "what",
    "steps",
    "images_per_s",
    "ms_per_step",
    "ratio",
    "memory_gib",
    "of_peak",
    "loss",
    "note",
)
FACTS = ("hardware", "torch", "scale", "batch", "commit", "command")


def of_outcomes(outcomes: dict[str, str], more: str = "") -> str:
    """A row's note: what came of "compile" and "graph", where the recipe asks for them, and `more`.

    It begins with "failed: " where the network was not compiled or not graphed: then the row is not what its name says.
    """
    missing = [one for one in outcomes.values() if one.startswith(("network not graphed", "blocks compiled: 0"))]
    return ("failed: " if missing else "") + "; ".join([*outcomes.values(), *([more] if more else [])])


def failed(row: dict) -> bool:
    """Whether a row was not measured, or not as what it is named."""
    return row.get("note", "").startswith("failed")


def shown(value) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def write(bench) -> None:
    """All rows so far of a `train_step.Bench`, to train_step.csv; their ratios are to what is there by now."""
    bench.out.mkdir(parents=True, exist_ok=True)
    for row in bench.rows:
        if "images_per_s" in row:
            row["ratio"] = row["images_per_s"] / base(bench.rows, row["part"])["images_per_s"]
    facts = (hardware(bench.world.device), torch.__version__, bench.scale, SCALES[bench.scale].batch)
    same = dict(zip(FACTS, (*facts, commit(), command())))
    with open(bench.out / "train_step.csv", "w", newline="", encoding="utf-8") as file:
        out = csv.DictWriter(file, (*COLUMNS, *FACTS))
        out.writeheader()
        out.writerows(row | same for row in bench.rows)


def base(rows: list[dict], part: str) -> dict:
    """The row that a part's ratios refer to: the harness's default where the part has it, else the part's first."""
    timed = [row for row in rows if row["part"] == part and "images_per_s" in row]
    return next((row for row in timed if row["what"] == HARNESS.what), timed[0])


def table(rows: list[dict]) -> None:
    print(f"\ntimes faster than '{HARNESS.what}' where the part has it, else than its first row:")
    for row in rows:
        if "images_per_s" in row or failed(row):
            rate = f"{row['images_per_s']:9.2f} images/s {row['ratio']:6.2f}x" if "images_per_s" in row else " " * 27
            name = f"{row['part']:8s} {row['method'][:28]:28s} {row['what']:44s}"
            print(f"  {name} {rate}  {row.get('note', '')}".rstrip())
