"""Where a result came from: command, commit, versions, hardware, op backend."""

import datetime
import hashlib
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

from benchmark import __version__
from benchmark.runtime.paths import ROOT

COMMAND = "BENCHMARK_COMMAND"  # set by the grid for its cells: the command that the user typed
PACKAGES = ("torch", "torchvision", "timm", "numpy", "scipy", "scikit-image", "pandas", "mmengine")


def describe(seed: int, device: str, op_backend: str, data_fingerprint: str, package: str | None = None) -> dict:
    """Provenance of a run that starts now; `finished` is added by the harness.

    Args:
        package: the package and version that its method comes from; None for our own, whose commit says it.
    """
    return {
        "command": os.environ.get(COMMAND) or shlex.join(["python", "-m", "benchmark", *sys.argv[1:]]),
        **commit(),
        "seed": seed,
        "hardware": hardware(device),
        "versions": versions(),
        **({"package": package} if package else {}),
        "op_backend": op_backend,
        "data_fingerprint": data_fingerprint,
        "started": now(),
    }


def now() -> str:
    """UTC time, ISO 8601 to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def commit() -> dict:
    """{"commit": hash or None, "dirty": hash of the uncommitted difference, new files included, or None}."""

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.decode("utf-8", "surrogateescape") if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", "--", "benchmark/results/provenance.py") is None:
        return {"commit": None, "dirty": None}  # no repository, or one that this code merely lies in
    head = git("rev-parse", "HEAD")
    code = ("--", "benchmark", "experiments")
    difference = (git("diff", "HEAD", *code) or "").encode("utf-8", "surrogateescape")
    for name in (git("ls-files", "-z", "--others", "--exclude-standard", *code) or "").split("\0"):
        if name and (ROOT / name).is_file():  # a method of one's own is such a file: its content counts
            difference += name.encode("utf-8", "surrogateescape") + (ROOT / name).read_bytes()
    dirty = hashlib.sha256(difference).hexdigest()[:12] if difference.strip() else None
    return {"commit": head.strip() if head else None, "dirty": dirty}


def versions() -> dict:
    """Versions of Python, of this package and of those that decide results."""
    of_package: dict[str, str | None] = {"python": platform.python_version(), "benchmark": __version__}
    for package in PACKAGES:
        try:
            of_package[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            of_package[package] = None
    return of_package


def hardware(device: str) -> dict:
    """Processor, usable cores, memory and, when `device` is a GPU, its name."""
    facts = {
        "cpu": _cpu_name(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gb": _memory_gb(),
        "platform": platform.platform(),
        "gpu": None,
    }
    if device.startswith("cuda"):
        import torch

        facts["gpu"] = torch.cuda.get_device_name(torch.device(device))
        facts["cuda"] = torch.version.cuda
    return facts


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory_gb() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None
