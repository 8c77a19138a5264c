"""Any data set as Parquet files in the schemas of the Hugging Face hub's mirrors, see `data.files.parquet_images`.

The parts are those that a column `fold`, the names of the files or those of their folders say (`parquet_folds`): train
and test, with val or without; folds 1 to n; or none. What the numbers of types and tissues are called is said by the
files' metadata or by the arguments, never guessed. `source` is the patient of the column patient, else the image.
"""

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from benchmark.data.files import archive, names
from benchmark.data.files.class_names import distinct
from benchmark.data.files.parquet_images import Rule
from benchmark.data.nuclei import Nuclei, Sample
from benchmark.data.registry import DATASETS
from benchmark.data.source import TAKEN, Part, Source, Split, is_own_name
from benchmark.data.sources import by_source, parquet_folds, patients
from benchmark.data.sources.parquet_folds import WORDS, ParquetFolds
from benchmark.runtime.errors import InputError

SHARES = (0.7, 0.1, 0.2)


@DATASETS.register_module(name="parquet")
class Parquet(Source):
    """The Parquet files below `root`, a folder or one of them.

    Args:
        mpp: micrometres per pixel; the files do not say it.
        types: names of categories 0.. or types 1.. with + between them; "": those of the files' metadata; None: nuclei
            without types.
        name: what the data are called in results and tables.
        patch: side in px of the patches in which training and validation see the images; larger than they are: as they
            are.

    Raises:
        InputError: no such root, no Parquet files of a known schema below it, or an argument that is missing or unfit.
    """

    name = "parquet"
    varies = True

    def __init__(
        self, root: str | Path | None = None, mpp=None, types: str | None = "", name: str = "parquet", patch: int = 256
    ):
        super().__init__(root)
        self.root = archive.check_root(self.root, "parquet")
        if type(mpp) not in (int, float) or not 0 < mpp < 100:
            shown = "none" if mpp is None else f"mpp={mpp}"
            raise InputError(
                f"parquet needs the micrometres per pixel, as in DATASET=parquet@mpp=0.25, found {shown}; say them."
            )
        if name != "parquet" and not is_own_name(name):
            raise InputError(
                f"parquet@name={name}: expected a plain word other than {', '.join(TAKEN)}; choose another."
            )
        if type(patch) is not int or not 16 <= patch <= 8192 or patch % 16:
            raise InputError(f"parquet@patch={patch}: expected a multiple of 16 from 16 to 8192; choose one.")
        self.name, self.mpp, self.train_patch = name, float(mpp), patch
        if not parquet_folds.listed(self.root):
            raise InputError(f"'{self.root}' holds no Parquet files: expected at least one; correct DATA_ROOT.")
        self._files = ParquetFolds(self.root)
        self.classes = self._classes(types)

    @cached_property
    def tissues(self) -> tuple[str, ...]:
        """Names of the metadata in their order, else the texts of the column, sorted; without those of no tissue."""
        known = self._files.tissues()
        if not known:
            values = (value for fold in self.folds() for value in self._files.facts(fold, "tissue"))
            known = sorted({value for value in values if isinstance(value, str)})
        return tuple(word for word in known if names.key(word) not in ("", "unknown"))

    def folds(self) -> list[int]:
        return self._files.folds()

    def splits(self) -> list[int]:
        return self.folds() if self._files.named_by == "numbers" and len(self.folds()) > 2 else [1]

    def split(self, k: int, sources: dict[int, list[str]]) -> Split:
        folds = self.folds()
        if k not in self.splits():
            raise InputError(
                f"Dataset '{self.name}' has the splits {self.splits()}, found FOLD={k}; choose one of these."
            )
        if self._files.named_by == "words":
            train, test, val = (WORDS[word] for word in ("train", "test", "val"))
            if not {train, test} <= {*folds}:
                present = ", ".join(word for word, fold in WORDS.items() if fold in folds)
                raise InputError(f"{self.root}: expected the parts train and test, found {present}; fetch all files.")
            if val in folds:
                return Split([Part(train)], [Part(val)], [Part(test)])
            return patients.split(f"Dataset '{self.name}'", k, sources.get(train, []))
        if len(folds) == 2:
            raise InputError(
                f"{self.root}: expected one fold or at least 3, to train, validate and test on, found the folds "
                f"{folds}; fetch all files."
            )
        if len(folds) > 2:
            val = folds[(folds.index(k) + 1) % len(folds)]
            return Split([Part(f) for f in folds if f not in (k, val)], [Part(val)], [Part(k)])
        of_images = sources.get(folds[0], [])
        if 0 < len(set(of_images)) < len(SHARES):
            raise InputError(
                f"Dataset '{self.name}': expected images of at least 3 patients to split by, found "
                f"{len(set(of_images))}; use the whole data set."
            )
        return Split(*([Part(folds[0], rows)] for rows in by_source.deal(of_images, SHARES)))

    def identity(self, fold: int) -> dict:
        return self._files.identity(fold) | {"classes": list(self.classes), "mpp": self.mpp}

    def count(self, fold: int) -> int:
        return self._files.count(fold)

    def remarks(self) -> list[str]:
        """Types and tissues that are not read because nothing says what their numbers are called."""
        lines = []
        if self._files.typed and not self.classes:
            lines.append(f"{self.name}: the types of its nuclei are not read, as types=none asks for.")
        numbers = any(isinstance(value, int) for value in self._files.facts(self.folds()[0], "tissue"))
        if numbers and not self._files.tissues():
            lines.append(
                f"{self.name}: its tissues are numbers that the files' metadata do not name; they are left out."
            )
        return lines

    def samples(self, fold: int, start: int = 0) -> Iterator[Sample]:
        tissues, ids = self._files.facts(fold, "tissue"), self._ids(fold)
        sources = self._sources(fold, ids)
        for i, row in enumerate(self._files.rows(fold, start, Rule(self.classes), self.name), start):
            meta = {"tissue": self._files.tissue(tissues[i]), "image_id": ids[i], "source": sources[i]}
            typed = row.types is not None
            yield Sample(row.image, Nuclei.from_labels(row.instances, row.types, self.mpp, typed=typed, **meta))

    def _classes(self, types) -> tuple[str, ...]:
        """Names of the types. Raises InputError where the data have some and nothing names them."""
        if not self._files.typed or types is None:
            return ()
        words = self._files.classes() if types == "" else tuple(map(names.normal, str(types).split("+")))
        if not words:
            raise InputError(
                f"{self.root}: its nuclei have types that the files' metadata do not name; name them in the order of "
                "their numbers, as in DATASET=parquet@types=tumour+lymphocyte, or types=none to read none."
            )
        if not all(words) or not distinct(words) or len(words) > 255:
            raise InputError(
                f"parquet@types={types}: expected distinct names with + between them, found {words}; rename them."
            )
        return words

    def _ids(self, fold: int) -> list[str]:
        """The column id, else fold and place."""
        ids = [str(each) for each in self._files.facts(fold, "id")]
        if not all(ids):
            return [f"{fold}_{i}" for i in range(len(ids))]
        if (double := names.twice(ids)) is not None:
            raise InputError(f"{self.root}: expected each id of fold {fold} once, found '{double}' twice; correct it.")
        return ids

    def _sources(self, fold: int, ids: list[str]) -> list[str]:
        of_patients = [patients.tcga(str(each)) for each in self._files.facts(fold, "patient")]
        return [patient or name for patient, name in zip(of_patients, ids)]
