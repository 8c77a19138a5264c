"""Raw folds of Parquet files of images: which file, or which rows of it, belong to which fold.

By the column `fold` where the files have one, else by the words train, val, test or fold<k> at the beginning of the
file's name or of a folder's on the way to it (the nearest one counts), else all is one fold.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmark.data.files import archive, checks, names
from benchmark.data.files.parquet_images import FACTS, ImageFile, Row, Rule
from benchmark.data.files.tally import Tally
from benchmark.runtime.errors import InputError

WORDS = {"train": 1, "test": 2, "val": 3}  # raw folds of the words
_FOLD = r"fold[ _-]*(\d{1,4})"
_SHARD = re.compile(r"(.*-)(\d{1,6})-of-(\d{1,6})(?:-[0-9a-f]+)?\.parquet", re.IGNORECASE)
_WORD = re.compile(rf"(?:(train)|(test)|(val)|{_FOLD})(?:ing|idation|id)?(?![a-z0-9])")


@dataclass(frozen=True)
class Part:
    """Rows of a file that belong to one fold: int64, ascending."""

    file: ImageFile
    rows: np.ndarray


class ParquetFolds:
    """The Parquet files below a root, which is a folder or one of them.

    Attributes:
        root, files: ImageFile each, by their paths in order.

    Raises:
        InputError: a file that cannot be read or is of another schema than the first; a file twice; a part of which
            not all files lie there; files of which some name a fold and others do not.
    """

    def __init__(self, root: Path):
        self.root = root
        paths = listed(root)
        seen: dict[tuple, Path] = {}
        for path in paths:
            other = seen.setdefault((_word_of(path, root), names.key(path.name)), path)
            if other != path:
                raise InputError(f"{other} and {path} are of one name and one fold; keep one of them.")
        _check_whole(paths if root.is_dir() else [])
        self.files = [ImageFile(path) for path in paths]
        for file in self.files[1:]:
            if file.columns != self.files[0].columns:
                raise InputError(
                    f"{file.path}: expected the columns of {self.files[0].path} ({', '.join(self.files[0].columns)}), "
                    f"found {', '.join(file.columns)}; keep the files of one data set below DATA_ROOT."
                )

    @property
    def typed(self) -> bool:
        """Whether the files have types."""
        return self.files[0].typed

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of all files that are read."""
        return self.files[0].columns

    @property
    def named_by(self) -> str:
        """What names the folds: "words" (see WORDS), "numbers", or "" where nothing does and all is fold 1."""
        return self._parts[0]

    def folds(self) -> list[int]:
        """Raw folds."""
        return sorted(self._parts[1])

    def classes(self) -> tuple[str, ...]:
        """Names of the types by the files' metadata, () where they name none; without a leading background."""
        column = "categories" if self.files[0].schema[1] == "instances" else "type"
        words = self._names(column)
        return words[1:] if column == "type" and words and names.key(words[0]) in ("background", "none", "") else words

    def tissues(self) -> tuple[str, ...]:
        """Names of the tissues' numbers by the files' metadata, () where they name none or tissues are text."""
        return self._names("tissue")

    def tissue(self, value: str | int) -> str:
        """What a value of the column tissue is called; "" for Unknown and for a number that nothing names.

        Raises:
            InputError: a number that the metadata's names do not have.
        """
        if isinstance(value, int):
            words = self.tissues()
            if words and not 0 <= value < len(words):
                raise InputError(f"{self.root}: expected tissues 0..{len(words) - 1}, found {value}; fetch it again.")
            value = words[value] if words else ""
        return "" if names.key(value) == "unknown" else value

    def facts(self, fold: int, name: str) -> list[str | int]:
        """The values of one of FACTS of the images of a fold, in order; "" for each where there is no such column."""
        return [value for part in self._of(fold) for value in self._column(part.file, name, part.rows)]

    def identity(self, fold: int) -> dict:
        """Names, digests and rows of the files of a fold."""
        digest = hashlib.sha256()
        for part in self._of(fold):
            path = part.file.path
            words = archive.Member(path, "", (path.name,)).digest()
            digest.update(f"{path.name} {words} {len(part.file)} {part.rows.tobytes().hex()}\n".encode())
        return {"layout": "parquet", "fold": fold, "n": self.count(fold), "files": digest.hexdigest()}

    def count(self, fold: int) -> int:
        return sum(len(part.rows) for part in self._of(fold))

    def rows(self, fold: int, start: int, rule: Rule, name: str) -> Iterator[Row]:
        """The images of a fold from position `start`; what their masks leave out is said on stderr at the end.

        Args:
            rule: see `ImageFile.rows`. name: of the data set, for what is said.
        """
        with Tally(f"{name} fold {fold}") as tally, checks.Doubts(rule.classes or None) as doubts:
            for part in self._of(fold):
                wanted, start = part.rows[start:], max(0, start - len(part.rows))
                for row in part.file.rows(wanted, rule, tally):
                    doubts.add(row.where, row.instances, row.types)
                    yield row

    def _names(self, column: str) -> tuple[str, ...]:
        lists = {file.names(column) for file in self.files}
        if len(lists) > 1:
            raise InputError(
                f"{self.root}: expected one list of names for the column {column} in the metadata of all files, found "
                f"{len(lists)}; keep the files of one data set below DATA_ROOT."
            )
        return lists.pop()

    def _of(self, fold: int) -> list[Part]:
        if fold not in self._parts[1]:
            raise InputError(f"{self.root}: expected fold {fold}, found the folds {self.folds()}; correct DATA_ROOT.")
        return self._parts[1][fold]

    @staticmethod
    def _column(file: ImageFile, name: str, rows: np.ndarray) -> list[str | int]:
        if name not in FACTS or name not in file.columns:
            return [""] * len(rows)
        values = file.facts(name)
        return [values[row] for row in rows.tolist()]

    @cached_property
    def _parts(self) -> tuple[str, dict[int, list[Part]]]:
        """`named_by`, and raw fold -> its parts."""
        labels: dict[str | int, list[Part]] = {}
        for file in self.files:
            rows = np.arange(len(file))
            if "fold" in file.columns:
                of_row = [_fold_of(value, file.path) for value in file.facts("fold")]
            else:
                of_row = [_word_of(file.path, self.root)] * len(file)
            for label in dict.fromkeys(of_row):
                labels.setdefault(label, []).append(Part(file, rows[[each == label for each in of_row]]))
        kinds = {"none" if label == "" else type(label).__name__ for label in labels}
        if len(kinds) > 1:
            shown = ", ".join(sorted(str(label) or "files that name none" for label in labels))
            raise InputError(
                f"{self.root}: expected the folds of all files by words (train, val, test) or all by numbers, found "
                f"{shown}; keep the files of one data set below DATA_ROOT."
            )
        if not kinds:
            raise InputError(f"{self.root}: expected images, found Parquet files without a row; fetch them again.")
        if kinds == {"none"}:
            return "", {1: labels[""]}
        if kinds == {"str"}:
            return "words", {WORDS[label]: parts for label, parts in labels.items()}
        shift = 1 if 0 in labels else 0  # folds that are counted from 0
        return "numbers", {label + shift: parts for label, parts in labels.items()}


def listed(root: Path) -> list[Path]:
    """The Parquet files below a folder, or the one that `root` is; sorted."""
    if root.is_file():
        return [root] if root.suffix.lower() == ".parquet" else []
    return [
        folder / name
        for folder, _, files in archive.walk(root, 4)
        for name in files
        if name.lower().endswith(".parquet")
    ]


def _check_whole(paths: list[Path]) -> None:
    """Raises InputError where a file of several lacks: the hub calls the second of three train-00001-of-00003.parquet.

    Which other hash a name may end with is not known of the one that lacks.
    """
    shards: dict[tuple[Path, str, int], dict[int, Path]] = {}
    for path in paths:
        if match := _SHARD.fullmatch(path.name):
            shards.setdefault((path.parent, match[1], int(match[3])), {})[int(match[2])] = path
    for (folder, name, n), present in shards.items():
        lacking = next((k for k in range(n) if k not in present), None)
        if lacking is not None:
            raise InputError(
                f"{folder}: expected the {n} files of which {next(iter(present.values())).name} is one, found "
                f"{len(present)} and no {name}{lacking:05d}-of-{n:05d}.parquet; fetch all of them."
            )


def _word_of(path: Path, root: Path) -> str | int:
    """The fold that the names of a file and of the folders above it say, "" for none."""
    below = path.relative_to(root).parts if path != root else (path.name,)
    for name in reversed(below):
        if (match := _WORD.match(names.key(name))) is not None:
            return _label(match)
    return ""


def _fold_of(value: str | int, path: Path) -> str | int:
    """The fold that a value of the column `fold` says."""
    if isinstance(value, int) or names.number(value) is not None:
        return int(value)
    match = _WORD.fullmatch(names.key(value))
    if match is None:
        raise InputError(
            f"{path}: expected a number, fold<number>, train, val or test in the column fold, found "
            f"'{value}'; correct it."
        )
    return _label(match)


def _label(match: re.Match) -> str | int:
    return int(match[4]) if match[4] else match[1] or match[2] or match[3]
