"""Folders of the benchmark; no other module derives them."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXPERIMENTS = ROOT / "experiments"
RESULTS = Path(os.environ.get("BENCHMARK_RESULTS", ROOT / "results"))
REPORTS = Path(os.environ.get("BENCHMARK_REPORTS", ROOT / "reports"))
CACHE = Path(os.environ.get("BENCHMARK_CACHE", ROOT / "cache"))
