"""PanNuke as Parquet files, in either schema of `benchmark.data.files.parquet_images`.

Tissues are spelt otherwise there ("Bile Duct", "Head & Neck") and are brought back to PanNuke's own names by their
letters; numbers without names count PanNuke's tissues in alphabetical order. Images are numbered by `id`
("fold1_00000") where there is one, else by their place in the fold.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from benchmark.data.files import names
from benchmark.data.files.class_names import matched
from benchmark.data.files.parquet_images import Rule
from benchmark.data.nuclei import Nuclei, Sample
from benchmark.data.sources.parquet_folds import ParquetFolds
from benchmark.runtime.errors import InputError

_ID = re.compile(r"fold[ _-]*\d+[ _-]+(\d{1,9})")


class PanNukeParquet:
    """The folds below `root`, a folder or one Parquet file.

    Args:
        classes, tissues: PanNuke's own names.

    Raises:
        InputError: no folds 1 to 3, no types, or other classes.
    """

    def __init__(self, root: Path, classes: tuple[str, ...], tissues: tuple[str, ...]):
        self.root, self._classes, self._tissues = root, classes, tissues
        self._files = ParquetFolds(root)
        folds = self._files.folds()
        if self._files.named_by != "numbers" or not {*folds} <= {1, 2, 3}:
            raise InputError(
                f"{root}: expected PanNuke's folds 1, 2 and 3, by a column fold or by names such as fold1-0.parquet, "
                "found other parts or none; fetch the files again, or read them as DATASET=parquet."
            )
        if not self._files.typed:
            raise InputError(
                f"{root}: expected the types of PanNuke in the column categories or type, found neither; read the "
                "files as DATASET=parquet."
            )
        own = self._files.classes() or classes
        self._own = own
        self._types = matched(own, classes, f"{root}", "PanNuke").table

    def folds(self) -> list[int]:
        return self._files.folds()

    def identity(self, fold: int) -> dict:
        return self._files.identity(fold)

    def count(self, fold: int) -> int:
        return self._files.count(fold)

    def samples(self, fold: int, start: int, mpp: float, name: str) -> Iterator[Sample]:
        """The images of a fold from `start`; name: of the data set."""
        tissues, patients = self._files.facts(fold, "tissue"), self._files.facts(fold, "patient")
        numbers = self._numbers(fold)
        for i, row in enumerate(self._files.rows(fold, start, Rule(self._own), name), start):
            meta = {"tissue": self._tissue(tissues[i]), "image_id": f"{fold}_{numbers[i]}", "source": str(patients[i])}
            nuclei = Nuclei.from_labels(row.instances, row.types, mpp, **meta)
            yield Sample(row.image, nuclei if self._types is None else nuclei.retyped(self._types))

    def _numbers(self, fold: int) -> list[int]:
        """Number of each image within its fold."""
        ids = self._files.facts(fold, "id")
        matches = [_ID.fullmatch(names.key(str(each))) for each in ids]
        if not all(matches):
            return list(range(len(ids)))
        numbers = [int(match[1]) for match in matches]
        if len(set(numbers)) < len(numbers):
            raise InputError(f"{self.root}: expected each id of fold {fold} once, found one twice; fetch it again.")
        return numbers

    def _tissue(self, value: str | int) -> str:
        """PanNuke's name of a tissue; one that it does not have keeps its own."""
        if isinstance(value, int):
            words = self._files.tissues() or self._tissues
            if not 0 <= value < len(words):
                raise InputError(f"{self.root}: expected tissues 0..{len(words) - 1}, found {value}; fetch it again.")
            value = words[value]
        own = {_letters(tissue): tissue for tissue in self._tissues}
        return own.get(_letters(value), value)


def _letters(word: str) -> str:
    return "".join(letter for letter in names.key(word) if letter.isalpha())
