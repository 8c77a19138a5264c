"""The optional folder of reference data beside the checkout; tests that need it skip with a reason without it."""

import os
from pathlib import Path

import pytest

SHARED = Path(os.environ.get("BENCHMARK_SHARED", Path(__file__).resolve().parents[3] / "shared"))
GOLDEN = Path(__file__).parents[1] / "golden"


def shared(name: str) -> Path:
    """Path of a reference file or folder, or skip the calling test."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs {name} of the reference data ( '{SHARED}', or set BENCHMARK_SHARED); it is absent")
    return path
