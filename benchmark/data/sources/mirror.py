"""A data set of a training and a test part as the Parquet files of its mirror on the Hugging Face hub.

Where masks overlap, the earlier in the list has the pixels, as with the outlines of the published files.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmark.data.files import names
from benchmark.data.files.class_names import listed
from benchmark.data.files.parquet_images import Rule
from benchmark.data.nuclei import Nuclei, Sample
from benchmark.data.sources import patients
from benchmark.data.sources.parquet_folds import ParquetFolds
from benchmark.runtime.errors import InputError

AMBIGUOUS = "ambiguous"


class Mirror:
    """The parts train and test below a root: raw folds 1 and 2.

    Args:
        title: of the data set, for sentences.
        own: classes of the categories where the metadata name none; () for nuclei without types.
        classes: of the data set; a category called Ambiguous, which is none of them, is of regions that are not judged.

    Raises:
        InputError: other parts, or categories of other names.
    """

    def __init__(self, root: Path, title: str, own: tuple[str, ...], classes: tuple[str, ...]):
        self._files = ParquetFolds(root)
        if self._files.named_by != "words" or not {*self._files.folds()} <= {patients.TRAIN, patients.TEST}:
            raise InputError(
                f"{root}: expected the parts train and test of {title}, by names such as train-00000-of-00001.parquet, "
                "found other parts or none; fetch the files again, or read them as DATASET=parquet."
            )
        if bool(own) != self._files.typed:
            state = "no types, found some" if self._files.typed else "types, found none"
            raise InputError(
                f"{root}: expected {title} to have {state}; fetch it again, or read it as DATASET=parquet."
            )
        if own:
            own = self._files.classes() or own
            if strange := [name for name in own if names.key(name) not in {*map(names.key, classes), AMBIGUOUS}]:
                raise InputError(
                    f"{root}: expected the classes {listed(classes)} and Ambiguous, found {listed(strange)}; fetch it "
                    "again, or read it as DATASET=parquet."
                )
        keys = list(map(names.key, own))
        self._rule = Rule(tuple(own), earlier=True, ignored=keys.index(AMBIGUOUS) if AMBIGUOUS in keys else -1)
        places = {names.key(name): k for k, name in enumerate(classes, 1)}
        self._types = np.array([0, *(places.get(key, 0) for key in keys)], np.uint8)

    def folds(self) -> list[int]:
        return self._files.folds()

    @property
    def tissues(self) -> tuple[str, ...]:
        """Names of the tissues by the files' metadata."""
        return tuple(word for word in self._files.tissues() if names.key(word) != "unknown")

    def identity(self, fold: int) -> dict:
        return self._files.identity(fold)

    def count(self, fold: int) -> int:
        return self._files.count(fold)

    def sources(self, fold: int) -> list[str]:
        """Patient of each image, or its number where the files name none."""
        slides = self._files.facts(fold, "patient")
        return [patients.tcga(str(slide)) or f"{fold}_{i}" for i, slide in enumerate(slides)]

    def samples(self, fold: int, start: int, mpp: float, name: str) -> Iterator[Sample]:
        """The images of a fold from `start`, called after their slides, or by their number within the fold."""
        slides, sources = list(map(str, self._files.facts(fold, "patient"))), self.sources(fold)
        tissues = self._files.facts(fold, "tissue")
        single = all(slides) and len(set(slides)) == len(slides)
        for i, row in enumerate(self._files.rows(fold, start, self._rule, name), start):
            nuclei = Nuclei.from_labels(
                row.instances,
                None if row.types is None else self._types[row.types],
                mpp,
                tissue=self._files.tissue(tissues[i]),
                image_id=slides[i] if single else f"{fold}_{i}",
                source=sources[i],
                ignore=row.ignore,
            )
            yield Sample(row.image, nuclei)
