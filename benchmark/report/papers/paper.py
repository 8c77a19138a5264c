"""What a paper's TOML file says: the method, the figures to reach, how far off is still equal, and the official files.

title = "CellVTA (Yang et al. 2025) on PanNuke"
method = "cellvta"
dataset = "pannuke"
splits = [1, 2, 3]
protocol = "cellvit"
magnification = 40                      # of the images that the weights were trained on
pretrained = true                       # whether the published training begins with an encoder's published weights
published = "published.csv"             # optional: a table of the same form, beside this file
reservation = "…"                       # in place of [tolerance]: why the two figures can only stand side by side
remarks = ["…"]                         # optional: sentences below the table

[metrics]                               # averaging of the published table -> its metrics
images = ["bPQ", "mPQ"]

[tolerance]
weights = 0.002                         # of the official weights
weights_reason = "…"
trained = 0.01                          # of weights trained here with the published recipe
trained_reason = "…"

[[files]]                               # one for each row and split; without `split` where nobody knows it
row = "paper"
split = 1
name = "CellVTA_UNI_pannuke_split1.pth"
published_at = "…"
licence = "…"
size = "…"
"""

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from benchmark.data.files import text
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.report.tables import published
from benchmark.runtime.errors import InputError, near_miss

FOLDER = Path(__file__).parent
REQUIRED = {
    "title": str,
    "method": str,
    "dataset": str,
    "splits": list,
    "protocol": str,
    "magnification": int,
    "pretrained": bool,
    "metrics": dict,
    "files": list,
}
OPTIONAL = {"published": str, "tolerance": dict, "reservation": str, "remarks": list}
TOLERANCE = {"weights": float, "weights_reason": str, "trained": float, "trained_reason": str}
FILE = {"row": str, "name": str, "published_at": str, "licence": str, "size": str}
WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", list: "a list", dict: "a table"}


@dataclass(frozen=True)
class OfficialFile:
    """A file of weights as its authors published it, or would have.

    Attributes:
        row: of the method.
        split: that it was trained for; None where nobody knows.
        name: its published name, or in words that it is not known.
        published_at, licence, size: in words, "not stated" where the authors say nothing.
    """

    row: str
    split: int | None
    name: str
    published_at: str
    licence: str
    size: str


@dataclass(frozen=True)
class Paper:
    """A paper's figures and files, see the module.

    Attributes:
        name: what the command line calls it: the stem of its file.
        metrics: averaging -> names of metrics in the published table.
        tolerance: kind of run ("official", "published") -> (largest difference that counts as none, why); empty with a
            reservation.
        table: the file of published figures.
    """

    name: str
    title: str
    method: str
    dataset: str
    splits: tuple[int, ...]
    protocol: str
    magnification: int
    pretrained: bool
    metrics: dict[str, tuple[str, ...]]
    tolerance: dict[str, tuple[float, str]]
    files: tuple[OfficialFile, ...]
    reservation: str
    remarks: tuple[str, ...]
    table: Path

    @property
    def rows(self) -> list[str]:
        """Rows of the method, in the order of the files."""
        return list(dict.fromkeys(file.row for file in self.files))

    @property
    def figures(self) -> pd.DataFrame:
        """Published figures of the method on this data set under this protocol, as `tables.published.published`."""
        return published.published(self.method, None, self.dataset, protocol=self.protocol, file=self.table)

    def value(self, row: str, split: str, average: str, metric: str) -> float:
        """A published figure; NaN where there is none."""
        lines = self.figures.query("row == @row and split == @split and average == @average and metric == @metric")
        return float(lines["value"].iloc[0]) if len(lines) else math.nan


def names() -> list[str]:
    """Papers that the benchmark knows."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def find(name: str) -> Paper:
    """A paper by its name, or by the path of a TOML file.

    Raises:
        InputError: there is none of this name, or its file is not as the module says.
    """
    if not name.endswith(".toml"):
        if name not in names():
            raise InputError(f"Unknown paper '{name}'; known are {', '.join(names())}.{near_miss(name, names())}")
        return read(FOLDER / f"{name}.toml")
    if not Path(name).is_file():
        raise InputError(f"{name}: expected the file of a paper, found none; name one of {', '.join(names())}.")
    return read(Path(name))


def read(path: Path) -> Paper:
    """The paper in a TOML file. Raises InputError when it is not as the module says."""
    content = text.toml(path)
    _check(path, content, REQUIRED, OPTIONAL)
    if ("tolerance" in content) == ("reservation" in content):
        raise InputError(f"{path}: expected either [tolerance] or a 'reservation'; leave one of them.")
    tolerance = content.get("tolerance", {})
    if "tolerance" in content:
        _check(f"{path}, [tolerance]", tolerance, TOLERANCE)
        for key in ("weights", "trained"):
            if not 0 <= tolerance[key] < math.inf:
                raise InputError(
                    f"{path}: expected '{key}' to be a number of at least 0, found {tolerance[key]}; correct it."
                )
    splits = content["splits"]
    if not content["files"] or not splits or not all(type(k) is int for k in splits) or len({*splits}) < len(splits):
        raise InputError(
            f"{path}: expected at least one file and one split, splits as whole numbers, each once; found {splits}."
        )
    for i, file in enumerate(content["files"], 1):
        _check(f"{path}, file {i}", file, FILE, {"split": int})
        if file.get("split") not in (None, *content["splits"]):
            raise InputError(f"{path}, file {i}: split {file['split']} is none of {content['splits']}; correct it.")
    if content["protocol"] not in PROTOCOLS:
        raise InputError(f"{path}: unknown protocol '{content['protocol']}'; known are {', '.join(PROTOCOLS)}.")
    if not any(content["metrics"].values()):
        raise InputError(f"{path}: expected at least one metric under [metrics], found none; add one.")
    for average, metrics in content["metrics"].items():
        if not isinstance(metrics, list) or not all(isinstance(metric, str) for metric in metrics):
            raise InputError(f"{path}: expected '{average}' of [metrics] to be a list of names, found {metrics!r}.")
    return Paper(
        name=path.stem,
        **{key: content[key] for key in ("title", "method", "dataset", "protocol", "magnification", "pretrained")},
        splits=tuple(content["splits"]),
        metrics={average: tuple(metrics) for average, metrics in content["metrics"].items()},
        tolerance={
            kind: (float(tolerance[key]), tolerance[f"{key}_reason"])
            for kind, key in (("official", "weights"), ("published", "trained"))
            if tolerance
        },
        files=tuple(OfficialFile(**{"split": None} | file) for file in content["files"]),
        reservation=content.get("reservation", ""),
        remarks=tuple(content.get("remarks", ())),
        table=_table(path, content),
    )


def _check(where, table, required: dict[str, type], optional: dict[str, type] | None = None) -> None:
    """Raises InputError for a key that is missing, unknown or of another type."""
    known = required | (optional or {})
    for key in table if isinstance(table, dict) else ():
        if key not in known:
            raise InputError(f"{where}: unknown key '{key}'; known are {', '.join(known)}.{near_miss(key, known)}")
    for key, kind in known.items():
        value = table.get(key) if isinstance(table, dict) else None
        if value is None and key not in required:
            continue
        fits = isinstance(value, (int, float) if kind is float else kind) and (kind is bool or value is not True)
        if not fits or (value is False and kind is not bool):
            raise InputError(f"{where}: expected '{key}' to be {WORDS[kind]}, found {value!r}; correct it.")


def _table(path: Path, content: dict) -> Path:
    """The file of published figures: the paper's own, with the columns that it must have, or the benchmark's."""
    if "published" not in content:
        return published.FILE
    file = path.with_name(content["published"])
    try:
        columns = list(pd.read_csv(file, nrows=0).columns)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: expected the table of published figures of {path} ({error}); add it.") from error
    if columns != published.COLUMNS:
        raise InputError(f"{file}: expected the columns {', '.join(published.COLUMNS)}, found {', '.join(columns)}.")
    for line, value in enumerate(pd.read_csv(file, dtype=str, keep_default_na=False)["value"], 2):
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise InputError(f"{file}, line {line}: expected a number as value, found {value!r}; correct or remove it.")
    return file
