"""A complete run as tables read it, and the checks on its files."""

import sys
from dataclasses import dataclass
from pathlib import Path

from benchmark.results import manifest
from benchmark.results.method_name import described
from benchmark.results.run_id import RunId
from benchmark.runtime.files import read_json
from benchmark.runtime.scales import SCALES

UNREADABLE = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError)
OPTIONAL = {"backbone": dict, "recipe": dict, "file": dict, "arguments": dict, "settings": dict, "spec": str}
OPTIONAL |= {"imported": dict, "transfer": dict}
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
        """Scale whose recipe the run was trained under; published variants are of scale "paper"."""
        return self.config.get("scale") or scale_of(self.id.method)

    @property
    def backbone(self) -> tuple[str, str]:
        """(name, weights) of the backbone, ("", "") for methods without one."""
        backbone = self.config.get("backbone") or {}
        name = backbone.get("name")
        return (str(name), str(backbone.get("weights") or "random")) if name else ("", "")

    @property
    def spec(self) -> str:
        """`method@row` with its arguments, without settings."""
        return self.config.get("spec") or self.id.method

    @property
    def settings(self) -> str:
        """What the user changed of the recipe that all runs of its kind share, such as "optimiser.lr 0.0005"; "" for
        nothing, and for runs that were stored before it was kept."""
        return described(self.config.get("settings") or {})

    def records(self):
        """The run's records, read from disk at each call and compared with their hashes.

        Raises one of UNREADABLE when damaged.
        """
        from benchmark.metrics.records import TABLES, Records

        for name in TABLES:
            manifest.check(self.folder / f"{name}.parquet", manifest.files_of(self.metrics))
        return Records.load(self.folder)


def identity_of(config: dict) -> RunId:
    """The identity of the run that a config.json describes."""
    file = str((config.get("file") or {}).get("tag", ""))
    return RunId(config["dataset"], config["method"], config["fold"], config["seed"], config["kind"], file)


def scale_of(method: str) -> str:
    """ "cellvta@small,points=8" -> "small"; rows that are no scale are published variants: "paper"."""
    row = method.partition("@")[2].split(",")[0]
    return row if row in SCALES else "paper"


def updates_of(config: dict) -> int | None:
    """Updates of a run's training; None where its recipe does not say."""
    recipe = config.get("recipe") or {}
    epochs, samples, batch = (recipe.get(key) for key in ("epochs", "samples", "batch"))
    return epochs * max(1, samples // batch) if epochs and samples and batch else None


def words(value) -> str:
    """A value of the provenance on one line: of a dict "key value, key value" in order of the keys, without None."""
    if isinstance(value, dict):
        return ", ".join(f"{key} {value[key]}" for key in sorted(value) if value[key] is not None)
    return " ".join(str(value).split())


def skipped(path: Path, why, stream=None) -> None:
    """Print a line on `stream` (default stderr): `path` is left out, and why (text or an exception)."""
    why = " ".join(f"{type(why).__name__}: {why}".split()) if isinstance(why, Exception) else why
    print(f"skipped {path}: {why}", file=stream or sys.stderr)


def read_object(path: Path) -> dict:
    """A JSON object. Raises ValueError when the file is absent, damaged or holds anything else."""
    try:
        value = read_json(path)
    except UNREADABLE as error:
        raise ValueError(f"{path.name} cannot be read ({error})") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path.name} holds a {type(value).__name__}; expected an object")
    return value


def readable(path: Path, stream=None, files: dict[str, dict] | None = None, expected: bool = False) -> dict:
    """A JSON object that a table can do without; {} where it was removed or cannot be read, which `stream` is told.

    Args:
        files: the list with its hash, see `results.manifest`.
        expected: whether the run had it, when no list says so.
    """
    if not path.exists():
        if expected or path.name in (files or {}):
            print(f"{path} was removed; the run is complete, what stood there is –", file=stream or sys.stderr)
        return {}
    try:
        manifest.check(path, files or {})
        content = read_object(path)
        manifest.check_content(path, content)
        return content
    except UNREADABLE as error:
        skipped(path, error, stream)
        return {}


def checked(identity: RunId, config: dict, metrics: dict) -> None:
    """Check config.json and metrics.json of a run.

    Raises:
        ValueError: an entry is missing or of another type, or they are those of another run.
    """
    for key, kind in EXPECTED.items():
        if not isinstance(config.get(key), kind):
            raise ValueError(f"config.json: '{key}' is {config.get(key)!r}; expected a value of type {kind.__name__}")
    for key, kind in OPTIONAL.items():
        if not isinstance(config.get(key), kind | None):
            what = "an object" if kind is dict else "text"
            raise ValueError(f"config.json: '{key}' is {config[key]!r}; expected {what}")
    own = identity_of(config)
    if own != identity:
        raise ValueError(f"config.json describes {own}, the folder {identity}; a run moved or copied by hand?")
    if config.get("scale") not in (None, *SCALES):
        raise ValueError(
            f"config.json: the scale {config['scale']!r} is none of {', '.join(SCALES)}; update the code that reads it"
        )
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
    from benchmark.metrics.records import VERSION

    parts = metrics.get("identity")
    version = parts.get("records") if isinstance(parts, dict) else None
    if isinstance(version, int) and version > VERSION:
        raise ValueError(f"its records are of version {version}, this code reads up to {VERSION}; update the code")
