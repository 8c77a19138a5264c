"""Folders of the benchmark; no other module derives them.

Results, reports and cache lie where an option says, else where BENCHMARK_RESULTS, BENCHMARK_REPORTS or BENCHMARK_CACHE
says, else below NUCLEI_BENCHMARK_HOME, else below the checkout that the current folder or this code lies in, else below
the current folder.
"""

import os
from pathlib import Path


def is_checkout(folder: Path) -> bool:
    """Whether a folder holds the sources of this project, not merely folders of the same names."""
    return all((folder / name).is_file() for name in ("benchmark/runtime/paths.py", "experiments/main.py"))


def _current() -> Path:
    try:
        return Path.cwd()
    except FileNotFoundError:  # it was removed: whoever writes there will say so
        return Path(".")


PACKAGE = Path(__file__).resolve().parents[1]
ROOT = PACKAGE.parent  # of an installed package the folder of all packages
IN_CHECKOUT = is_checkout(ROOT)
# the one whose results these are, and whose documents `reference` renews
CHECKOUT = next(filter(is_checkout, (_current(), *_current().parents, ROOT)), None)
# the sources have at top level what the wheel has below the package (setup.py)
EXPERIMENTS = ROOT / "experiments" if IN_CHECKOUT else PACKAGE / "experiments"
REFERENCE = ROOT / "docs" / "reference" if IN_CHECKOUT else PACKAGE / "reference"


def as_called(command: str) -> str:
    """A command as the user calls it: a checkout has a Makefile, an installed copy the program alone."""
    return f"{'make' if IN_CHECKOUT else 'benchmark'} {command}"


def _home() -> tuple[Path, str]:
    if named := os.environ.get("NUCLEI_BENCHMARK_HOME"):
        return Path(named).expanduser().absolute(), "NUCLEI_BENCHMARK_HOME"
    if CHECKOUT:
        return CHECKOUT, "the checkout of this code" if CHECKOUT == ROOT else "the checkout around the current folder"
    return _current(), "the current folder, which lies in no checkout"


def _folder(name: str) -> tuple[Path, str]:
    """Path of a folder, and what decided it."""
    variable = f"BENCHMARK_{name.upper()}"
    if named := os.environ.get(variable):
        return Path(named), variable
    home, why = _home()
    return home / name, why


(RESULTS, _results), (REPORTS, _reports), (CACHE, _cache) = map(_folder, ("results", "reports", "cache"))
WHY = {"results": _results, "reports": _reports, "cache": _cache}  # what decided where they lie
