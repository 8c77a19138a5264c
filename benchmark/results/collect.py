"""What lies below the results folder: complete runs; all else is named on stderr and left out."""

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmark.results.run_id import RunId
from benchmark.runtime.errors import InputError, near_miss
from benchmark.runtime.files import read_json

SCALES = ("debug", "small", "paper")
UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
OPTIONAL = {"backbone": dict, "recipe": dict, "file": dict}
EXPECTED = {
    "dataset": str,
    "method": str,
    "fold": int,
    "seed": int,
    "kind": str,
    "classes": list,
    "tissues": list,
}


@dataclass(frozen=True)
class Run:
    """One complete run: its folder and the JSON files in it as dicts."""

    id: RunId
    folder: Path
    config: dict
    metrics: dict
    cost: dict
    provenance: dict

    @property
    def scale(self) -> str:
        """Preset whose recipe the run was trained under; published variants are of scale "paper"."""
        return scale_of(self.id.method)

    @property
    def backbone(self) -> tuple[str, str]:
        """(name, weights) of the backbone, ("", "") for methods without one."""
        backbone = self.config.get("backbone") or {}
        name = backbone.get("name")
        return (str(name), str(backbone.get("weights") or "random")) if name else ("", "")

    def records(self):
        """The run's records, read from disk at each call. Raises one of UNREADABLE when damaged."""
        from benchmark.metrics.records import Records

        return Records.load(self.folder)


def scale_of(method: str) -> str:
    """ "cellvta@small,points=8" -> "small"; rows that are no preset are published variants: "paper"."""
    row = method.partition("@")[2].split(",")[0]
    return row if row in SCALES else "paper"


def runs(results: Path, stream=None) -> list[Run]:
    """All complete runs below `results`, in the order of their folders' names.

    Runs without metrics.json are unfinished and left out silently; foreign or damaged files are named on
    `stream` (default stderr) and left out.

    Raises:
        InputError: `results` is a file.
    """
    results, stream = Path(results), stream or sys.stderr
    if results.exists() and not results.is_dir():
        raise InputError(f"{results} is a file; expected the results folder. Move the file or name another folder.")
    out = []
    folders = [results] if results.exists() else []
    for _ in range(3):  # dataset, method, run
        folders = [entry for folder in folders for entry in _folders(folder, stream)]
    for folder in folders:
        try:
            run = _read(folder, stream)
        except UNREADABLE as error:
            skipped(folder, error, stream)
            continue
        if run is not None:
            out.append(run)
    return out


def no_runs(results: Path, found: list[Run], dataset: str | None) -> str:
    """The sentence for a report of nothing: there are no complete runs, or none of this dataset."""
    if not found or dataset is None:
        return f"No complete runs in {results}; `make ablation` makes some."
    known = sorted({run.id.dataset for run in found})
    hint = near_miss(dataset, known)
    return f"No complete runs of dataset '{dataset}' in {results}; there are runs of {', '.join(known)}.{hint}"


def skipped(path: Path, why, stream=None) -> None:
    """Say in one line on stderr that `path` is left out, and why."""
    why = " ".join(f"{type(why).__name__}: {why}".split()) if isinstance(why, Exception) else why
    print(f"skipped {path}: {why}", file=stream or sys.stderr)


def _folders(folder: Path, stream) -> list[Path]:
    out = []
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        skipped(folder, error, stream)
        return out
    for entry in entries:
        if entry.name.startswith((".", "_", "README")):
            continue
        if entry.is_dir():
            out.append(entry)
        else:
            skipped(entry, "a file where a folder <dataset>/<method>/fold<k>-seed<s> was expected", stream)
    return out


def _read(folder: Path, stream) -> Run | None:
    identity = RunId.of(folder)
    if not (folder / "metrics.json").exists():
        return None
    config, metrics = _json(folder / "config.json"), _json(folder / "metrics.json")
    for key, kind in EXPECTED.items():
        if not isinstance(config.get(key), kind):
            raise ValueError(f"config.json: '{key}' is {config.get(key)!r}; expected a value of type {kind.__name__}")
    for key, kind in OPTIONAL.items():
        if not isinstance(config.get(key), kind | None):
            raise ValueError(f"config.json: '{key}' is {config[key]!r}; expected an object")
    file = str((config.get("file") or {}).get("tag", ""))
    told = RunId(config["dataset"], config["method"], config["fold"], config["seed"], config["kind"], file)
    if told != identity:
        raise ValueError(f"config.json describes {told}, the folder {identity}; a run moved or copied by hand?")
    if not isinstance(metrics.get("protocols"), dict):
        raise ValueError("metrics.json: 'protocols' is missing")
    for key in ("n_untyped", "n_images"):
        if not isinstance(metrics.get(key), int | None):
            raise ValueError(f"metrics.json: '{key}' is {metrics[key]!r}; expected a whole number")
    for name, values in metrics["protocols"].items():
        if not isinstance(values, dict):
            raise ValueError(f"metrics.json: '{name}' holds a {type(values).__name__}; expected its scores by name")
        wrong = [k for k, v in values.items() if not isinstance(v, int | float | None)]
        if wrong:
            raise ValueError(f"metrics.json: {name}/{wrong[0]} is not a number")
    parts = metrics.get("identity")
    version = parts.get("records") if isinstance(parts, dict) else None
    from benchmark.metrics.records import VERSION

    if isinstance(version, int) and version > VERSION:
        raise ValueError(f"its records are of version {version}, this code reads up to {VERSION}; update the code")
    extra = {}
    for name in ("cost", "provenance"):
        try:
            extra[name] = _json(folder / f"{name}.json")
        except UNREADABLE as error:
            skipped(folder / f"{name}.json", error, stream)
            extra[name] = {}
    return Run(identity, folder, config, metrics, **extra)


def _json(path: Path) -> dict:
    try:
        value = read_json(path)
    except UNREADABLE as error:
        raise ValueError(f"{path.name} cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} holds a {type(value).__name__}; expected an object")
    return value
