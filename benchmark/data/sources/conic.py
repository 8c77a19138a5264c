"""CoNIC: colon, six types, 20x, 4981 patches of Lizard.

Graham et al., "CoNIC: Colon Nuclei Identification and Counting Challenge" (arXiv:2111.14485).

`images.npy` uint8 (N, 256, 256, 3), `labels.npy` integers (N, 256, 256, 2) holding instance and type map,
`patch_info.csv` (`consep_1-0000`: patch 0 of source image consep_1) and `counts.csv`, in a folder or a zip at
any place below the root.

One split. Source images are dealt to train, validation and test in the ratio 70 : 10 : 20 of patches, whole:
patches overlap and neighbour each other, so a split by patch would show the test tissue in training.
"""

import hashlib
import re
from collections.abc import Iterator
from functools import cached_property

from benchmark.data import facts
from benchmark.data.files import archive, checks, text
from benchmark.data.files.archive import Member, Rows
from benchmark.data.files.names import key
from benchmark.data.nuclei import Nuclei, Sample
from benchmark.data.registry import DATASETS
from benchmark.data.source import Part, Source, Split
from benchmark.data.sources import by_source
from benchmark.runtime.errors import InputError

CLASSES = ("neutrophil", "epithelial", "lymphocyte", "plasma", "eosinophil", "connective")
ROW = 4096  # bytes of a row of its tables; real ones have some dozens
SHARES = (0.7, 0.1, 0.2)
_FILES = ("images.npy", "labels.npy", "patch_info.csv")
TAKEN_FROM = ("consep", "pannuke", "tcga")  # of the sets that Lizard's images come from, those that others hold too


def taken_from(image: str) -> str:
    """Which of TAKEN_FROM an image of Lizard is of, by its published name, such as consep_1; "" for the others."""
    return next((name for name in TAKEN_FROM if re.match(rf"{name}(?![a-z0-9])", key(image))), "")


@DATASETS.register_module(name="conic")
class CoNIC(Source):
    """CoNIC below `root`, a folder or a zip: one raw fold. Image ids are those of patch_info.csv."""

    name = "conic"
    classes = CLASSES
    tissues = ("Colon",)
    mpp = 0.5

    def folds(self) -> list[int]:
        self._files  # noqa: B018  raises when the data are missing
        return [1]

    def splits(self) -> list[int]:
        return [1]

    def split(self, k: int, sources: dict[int, list[str]]) -> Split:
        if k != 1:
            raise InputError(f"CoNIC has one split, by source image, found FOLD={k}; use FOLD=1.")
        names = sources.get(1, [])
        if 0 < len(set(names)) < 3:
            raise InputError(
                f"CoNIC: expected patches of at least 3 source images to split by, found "
                f"{sorted(set(names))}; use the whole dataset."
            )
        return Split(*([Part(1, rows)] for rows in by_source.deal(names, SHARES)))

    def identity(self, fold: int) -> dict:
        images, labels, names = self._open(fold)
        return {
            "layout": "conic",
            "images": images.identity(),
            "labels": labels.identity(),
            "names": hashlib.sha256("\n".join(names).encode()).hexdigest(),
        }

    @property
    def naming(self) -> str:
        """Its patches are cut from images of Lizard and named after them."""
        return "lizard"

    def origin(self, source: str) -> str:
        return taken_from(source)

    def count(self, fold: int) -> int:
        return len(self._open(fold)[0])

    def remarks(self) -> list[str]:
        """Another number of patches than published; a copy that is not read."""
        n, published = self.count(1), sum(facts.of("conic").images.values())
        lines = [f"{self.name}: {n} patches, the published set has {published}."] if n != published else []
        first, *others = [{name: copy[name] for name in _FILES} for copy in self._copies]
        if other := archive.unlike(first, others):
            lines.append(
                f"{self.name}: WARNING: it lies there twice: {first['images.npy']} is read, {other['images.npy']}, "
                "whose files have other sizes, is not; remove the copy that is not meant."
            )
        return lines

    def samples(self, fold: int, start: int = 0) -> Iterator[Sample]:
        images, labels, names = self._open(fold)
        pairs = zip(images.rows(start), labels.rows(start), strict=True)
        with archive.judging(images.member, labels.member), checks.Doubts(self.classes) as doubts:
            for i, (image, label) in enumerate(pairs, start):
                where = f"{labels.member}, image {i}"
                instances = checks.ids(label[..., 0], where)
                types = checks.types(label[..., 1], self.classes, where)
                checks.inside(types, instances, where)
                doubts.add(where, instances, types)
                meta = {"tissue": "Colon", "image_id": names[i], "source": names[i].rpartition("-")[0]}
                yield Sample(
                    checks.rgb(image, f"{images.member}, image {i}", doubts),
                    Nuclei.from_labels(instances, types, self.mpp, **meta),
                )

    @property
    def _files(self) -> dict[str, Member]:
        return self._copies[0]

    @cached_property
    def _copies(self) -> list[dict[str, Member]]:
        """Files by name of each complete copy below the root, the one that is read first."""
        root = archive.check_root(self.root, self.name)
        listing = archive.find(root, {*_FILES, "counts.csv"})
        groups: dict[tuple, dict[str, Member]] = {}
        for member in listing.members:
            place = (
                bool(member.inner),
                len(member.below),
                str(member.file) if member.inner else "",
                member.below[:-1],
            )
            groups.setdefault(place, {})[member.name] = member
        # An extracted folder comes before a zip and the shallower before the deeper, as the tuples sort.
        whole = [place for place in sorted(groups) if set(_FILES) <= set(groups[place])]
        if len(whole) > 1 and whole[0][:2] == whole[1][:2]:
            first, second = (groups[place]["images.npy"] for place in whole[:2])
            raise InputError(f"CoNIC lies twice below '{root}': {first} and {second}; keep one of them.")
        if whole:
            return [groups[place] for place in whole]
        for path, error in listing.broken.items():
            raise archive.unreadable(path, error)
        present = ", ".join(sorted({m.name for m in listing.members})) or "none of them"
        raise InputError(
            f"CoNIC is missing below '{root}': expected images.npy, labels.npy, counts.csv and "
            f"patch_info.csv in one folder or zip, found {present}; download it or correct DATA_ROOT."
        )

    def _open(self, fold: int) -> tuple[Rows, Rows, list[str]]:
        """Images, labels and patch names, their shapes checked against each other."""
        if fold != 1:
            raise InputError(f"CoNIC has one fold, found fold {fold}; choose fold 1.")
        images, labels = Rows(self._files["images.npy"]), Rows(self._files["labels.npy"])
        checks.check_rgb_rows(images, "use the published file")
        expected = (*images.shape[:3], 2)
        if labels.shape != expected:
            raise InputError(
                f"{labels.member}: expected labels of shape {expected} to match images.npy, found "
                f"{labels.shape}; the files do not belong together, fetch them again."
            )
        checks.check_ids_dtype(labels.dtype, labels.member)
        names = self._column("patch_info.csv", len(images))
        strange = next((n for n in names if not n.rpartition("-")[0]), None)
        if strange is not None or len(set(names)) < len(names):
            fault = f"'{strange}'" if strange is not None else "a name twice"
            raise InputError(
                f"{self._files['patch_info.csv']}: expected distinct names such as 'consep_1-0000', "
                f"found {fault}; use the published file."
            )
        if "counts.csv" in self._files:
            self._column("counts.csv", len(images))
        return images, labels, names

    def _column(self, name: str, n: int) -> list[str]:
        """First column of a table that must have n rows below its header."""
        member = self._files[name]
        rows = text.rows(member, most=ROW * (n + 1))
        if len(rows) - 1 != n:
            raise InputError(
                f"{member}: expected a row for each of {n} images below the header, found "
                f"{max(len(rows) - 1, 0)}; the files do not belong together, fetch them again."
            )
        return [row[0] for row in rows[1:]]
