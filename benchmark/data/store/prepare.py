"""From a raw dataset to images read at random: each raw fold is converted once, then memory-mapped."""

import contextlib
import hashlib
import itertools
import json
import shutil
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from benchmark.data.files import names
from benchmark.data.source import Part, Source, Split
from benchmark.data.store import duplicates
from benchmark.data.store.convert import VERSION, convert, writing
from benchmark.data.store.fold import CachedFold
from benchmark.data.store.patches import Patches
from benchmark.data.store.subset import Subset
from benchmark.runtime.counts import part_of
from benchmark.runtime.errors import InputError
from benchmark.runtime.progress import Progress

SIDES = ("train", "val", "test")
SHOWN = 5  # pairs of duplicates that are named


class FoldMissing(InputError):
    """A split that needs a fold which is not prepared."""


class Prepared:
    """A dataset whose folds are converted.

    Attributes:
        name, classes, tissues, mpp, licence, train_patch: as the Source's.
        folds: raw fold -> CachedFold.
        sets: the prepared data sets that it joins, () for one of its own.
    """

    sets: "tuple[Prepared, ...]" = ()

    def __init__(self, source: Source, folds: dict[int, CachedFold]):
        self.name, self.classes = source.name, source.classes
        self.tissues, self.mpp, self.licence = source.tissues, source.mpp, source.licence
        self.train_patch = source.train_patch
        self.folds = folds
        self._source = source

    @property
    def source_remarks(self) -> list[str]:
        """What the source reads otherwise than it is written, see `Source.remarks`."""
        return self._source.remarks()

    @property
    def naming(self) -> str:
        """See `Source.naming`."""
        return self._source.naming

    def origin(self, source: str) -> str:
        """See `Source.origin`."""
        return self._source.origin(source)

    def doubt(self, source: str) -> str:
        """See `Source.doubt`."""
        return self._source.doubt(source)

    def splits(self) -> list[int]:
        """Published splits, counted from 1."""
        return self._source.splits()

    def split(self, k: int) -> Split:
        """Split k in raw folds and rows. Raises InputError: unknown k, data that cannot be split so, or a fold that is
        not prepared (`FoldMissing`)."""
        split = self._source.split(k, {fold: data.meta["sources"] for fold, data in self.folds.items()})
        for fold in _folds_of(split):
            if fold not in self.folds:
                raise FoldMissing(
                    f"Split {k} of '{self.name}' needs fold {fold}, found folds {sorted(self.folds)}; "
                    f"prepare split {k}."
                )
        self._check_apart(k, split)
        return split

    def _check_apart(self, k: int, split: Split) -> None:
        """Raises InputError when an image stands on two sides: validation must never be test."""
        seen: dict[tuple[int, int], str] = {}
        for side, parts in _sides(split).items():
            for part in parts:
                for row in self._part(part)[1].tolist():
                    other = seen.setdefault((part.fold, row), side)
                    if other != side:
                        raise InputError(
                            f"Split {k} of '{self.name}' has image {row} of fold {part.fold} on the sides "
                            f"{other} and {side}; an image may stand on one side only."
                        )

    def fingerprint(self, k: int) -> str:
        """Hex digest of all that split k shows: the content of its folds, classes, resolution and sides.

        The same data have the same from a zip, a folder, float64 or uint8.
        """
        split = self.split(k)
        content = {fold: self.folds[fold].meta["content"] for fold in _folds_of(split)}
        sides: dict[str, list[tuple[int, list[int] | None]]] = {side: [] for side in SIDES}
        for side, parts in _sides(split).items():
            for part in parts:
                rows = None if part.rows is None else np.asarray(part.rows).tolist()
                sides[side].append((part.fold, rows))
        words = [self.name, list(self.classes), list(self.tissues), float(self.mpp), content, sides]
        words += [] if self.train_patch is None else [self.train_patch]
        return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).hexdigest()

    def subset(self, k: int, side: str, without: tuple[int, ...] = (), scale: float = 1.0) -> Subset | Patches:
        """The images of one side ("train", "val" or "test") of split k; see `Source.train_patch`.

        Args:
            without: positions on the side of whole images that are left out.
            scale: of the patches' side, for images that are resampled to another resolution afterwards.
        """
        if side not in SIDES:
            raise InputError(f"Expected one of the sides {', '.join(SIDES)}, found '{side}'; choose one.")
        images = Subset([self._part(part) for part in _sides(self.split(k))[side]], len(self.classes))
        images = images.without(without) if without else images
        return (
            images
            if self.train_patch is None or side == "test"
            else Patches(images, round(self.train_patch * scale), len(self.classes))
        )

    def images(self, k: int, side: str) -> list[duplicates.Image]:
        """The whole images of a side of split k, each as a fold and a row of it."""
        parts = [self._part(part) for part in _sides(self.split(k))[side]]
        return [(fold, row) for fold, rows in parts for row in rows.tolist()]

    def _part(self, part: Part) -> tuple[CachedFold, np.ndarray]:
        fold = self.folds[part.fold]
        return fold, np.arange(len(fold)) if part.rows is None else np.asarray(part.rows, np.int64)


def prepare(
    source: Source,
    cache: str | Path,
    split: int | None = None,
    progress: bool = True,
    verify: bool = True,
    remark: bool = True,
) -> Prepared:
    """Convert the raw folds of `source` that are not converted yet, and open them.

    Interrupted conversions go on; two processes that want the same fold wait for each other; a second call
    only compares what is there with its identity, sizes and hashes.

    Args:
        cache: folder for the converted folds, `<cache>/<dataset>-fold<k>-<hash of identity and version>`.
        split: convert only what this split uses; None converts every fold present.
        progress: print progress and remarks to stderr.
        remark: False where the data are prepared once more afterwards, which says the remarks: progress alone then.
        verify: read the files of folds that are there and compare their hashes (about a second per GB): a fold with
            changed bytes is prepared again. False where each process that reads them does it.

    Raises:
        InputError: the data are missing or bad, the split is unknown, or the cache cannot be written.
    """
    cache = Path(cache)
    if source.parts:
        joined = source.joined([prepare(part, cache, split, progress, verify, remark) for part in source.parts])
        for line in joined.remarks(split) if progress and remark else ():
            print(line, file=sys.stderr)
        return joined
    identities = _identities(source, split)
    folds = {fold: _fold(source, fold, identity, cache, progress, verify) for fold, identity in identities.items()}
    prepared = Prepared(source, folds)
    if progress and remark:
        for line in remarks(prepared, split):
            print(line, file=sys.stderr)
    return prepared


def opened(source: Source, cache: str | Path, split: int) -> Prepared | None:
    """The prepared folds of a split, or None when one of them is not in the cache. Converts nothing.

    Raises:
        InputError: the data are missing or bad, or the split is unknown.
    """
    if source.parts:
        parts = [opened(part, cache, split) for part in source.parts]
        return None if None in parts else source.joined(parts)
    folds = {}
    for fold, identity in _identities(source, split).items():
        folder = _folder(source, fold, identity, Path(cache))
        folds[fold] = _opened(folder) if folder.is_dir() else None
    return None if None in folds.values() else Prepared(source, folds)


def _identities(source: Source, split: int | None) -> dict[int, dict]:
    """Raw fold -> identity, for all folds that the split uses (None: all that are present)."""
    if split is not None and split not in source.splits():
        source.split(split, {})
        raise InputError(f"Dataset '{source.name}' has the splits {source.splits()}, found FOLD={split}; choose one.")
    wanted = source.folds()
    if split is not None:
        # Which folds a split uses does not depend on the sources, known only once the folds are converted.
        wanted = sorted(_folds_of(source.split(split, {fold: [] for fold in wanted})))
    # All folds are looked at before the first is converted: a missing third one is reported at once.
    return {fold: source.identity(fold) for fold in wanted}


def _folder(source: Source, fold: int, identity: dict, cache: Path) -> Path:
    words = json.dumps([VERSION, source.name, fold, identity], sort_keys=True)
    return cache / f"{source.name}-fold{fold}-{hashlib.sha256(words.encode()).hexdigest()[:16]}"


def remarks(prepared: Prepared, split: int | None = None) -> list[str]:
    """Remarks about the data for the user: untyped images, unknown tissues, folds or sides that share images."""
    lines, name = prepared.source_remarks, prepared.name
    for number, fold in prepared.folds.items():
        lacking = fold.meta["typed"].count(False)
        if lacking and prepared.classes:
            lines.append(
                f"{name} fold {number}: {part_of(lacking, len(fold), 'image')} untyped and left "
                "out of type losses, mPQ and per-class scores."
            )
    known = {"", *prepared.tissues}
    strange = Counter(t for fold in prepared.folds.values() for t in fold.meta["tissues"] if t not in known)
    if strange:
        listed = ", ".join(f"'{tissue}' ({n})" for tissue, n in sorted(strange.items()))
        lines.append(
            f"{name}: images of tissues outside the {len(prepared.tissues)} known: {listed}; they keep "
            "their names and are left out of the mean over tissues."
        )
    seen: dict[str, int] = {}
    for number, fold in prepared.folds.items():
        first = seen.setdefault(fold.meta["hashes"]["images.npy"], number)
        if first != number:
            lines.append(
                f"{name}: WARNING: folds {first} and {number} hold the same images; one is a mislabelled copy."
            )
    copies = sorted(set(prepared.folds) - set(seen.values()))
    splits = prepared.splits() if split is None else [split]
    lines += [] if copies else _duplicates(prepared, splits)
    return lines + _shared_sources(prepared, splits)


def _shared_sources(prepared: Prepared, splits: list[int]) -> list[str]:
    """A sentence for each split and two of its sides on which stand images of one source, such as a patient."""
    lines = []
    for k in splits:
        with contextlib.suppress(InputError):  # a split of which a fold is missing is said elsewhere
            of_side = {side: [fold.meta["sources"][row] for fold, row in prepared.images(k, side)] for side in SIDES}
            sources = {side: {names.key(name): name for name in of if name} for side, of in of_side.items()}
            for one, other in itertools.combinations(SIDES, 2):
                shared = [sources[one][key] for key in sorted(sources[one].keys() & sources[other].keys())]
                more = f" and {len(shared) - SHOWN} more" if len(shared) > SHOWN else ""
                if shared:
                    lines.append(
                        f"{prepared.name} split {k}: WARNING: source{'s' * (len(shared) > 1)} "
                        f"{', '.join(shared[:SHOWN])}{more} stand{'s' * (len(shared) == 1)} on the sides {one} and "
                        f"{other}; the split is taken as it is."
                    )
    return lines


def _duplicates(prepared: Prepared, splits: list[int]) -> list[str]:
    """A sentence on images that stand on two sides of one of the splits under two names."""
    pairs: dict[tuple[str, str], str] = {}
    for k in splits:
        with contextlib.suppress(InputError):  # a split of which a fold is missing is said elsewhere
            sides = {side: prepared.images(k, side) for side in SIDES}
            for one, other in itertools.combinations(SIDES, 2):
                for twins in duplicates.between(sides[one], sides[other]):
                    how = "turned or mirrored, " if twins.turned else ""
                    first, second = sorted(twins.names)
                    pairs.setdefault((first, second), f"'{first}' is '{second}' ({how}split {k}: {one}, {other})")
    if not pairs:
        return []
    listed, more = "; ".join(list(pairs.values())[:SHOWN]), len(pairs) - SHOWN
    return [
        f"{prepared.name}: WARNING: images stand on two sides of a split, under two names: {listed}"
        f"{f'; and {more} more' if more > 0 else ''}."
    ]


def _fold(source: Source, fold: int, identity: dict, cache: Path, progress: bool, verify: bool) -> CachedFold:
    folder = _folder(source, fold, identity, cache)
    if cache.exists() and not cache.is_dir():
        raise InputError(f"A file stands at '{cache}', where the folder for prepared data should be; move it away.")
    if folder.exists() and not folder.is_dir():
        raise InputError(f"A file stands at '{folder}', where a prepared fold should be; move it away.")
    if folder.exists() and (cached := _opened(folder, verify)):
        return cached
    with _alone(cache, folder.name, f"{source.name} fold {fold}", progress):
        if folder.exists():
            if cached := _opened(folder, verify):
                return cached
            print(f"{folder} is damaged and is prepared again.", file=sys.stderr)
            with writing(folder):
                shutil.rmtree(folder)
        return convert(
            source, fold, folder, identity, Progress(f"{source.name} fold {fold}: prepared", "images", progress)
        )


@contextlib.contextmanager
def _alone(cache: Path, name: str, what: str, progress: bool):
    """Holds the fold's lock; it is the kernel's, so it goes with its process however that ends."""
    lock = FileLock(cache / f".{name}.lock")
    with writing(cache):
        cache.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            if progress:
                print(f"{what}: waiting for the process that is preparing it", file=sys.stderr)
            lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _opened(folder: Path, verify: bool = False) -> CachedFold | None:
    try:
        fold = CachedFold(folder)
    except ValueError:
        return None
    return None if verify and fold.damaged() else fold


def _sides(split: Split) -> dict[str, list[Part]]:
    return {side: getattr(split, side) for side in SIDES}


def _folds_of(split: Split) -> set[int]:
    return {part.fold for parts in _sides(split).values() for part in parts}
