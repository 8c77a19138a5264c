"""Images of a test set that a training has seen: two data sets may hold one source image, slide or patient.

Decided by names first. A TCGA patient is one everywhere. Sources of one `Source.naming` are one where their names are
(CoNIC is cut from Lizard's images and named after them). Sources of two sets of one's own are one where their names
are, unless these are merely the images' own. Images that were taken from a set (`Source.origin`: Lizard and CoNIC hold
images of CoNSeP and PanNuke, under names of their own) are all known to whoever was trained on that set. Then by
pixels: the same image in any of eight orientations, also at half size.

Such test images are left out. Where the training images hold some of the test set's own and nothing says which, the two
sets are no training and test of each other. Where a side names neither patients nor source images, the overlap is
unknown beyond the pixels.
"""

from dataclasses import dataclass

from benchmark.data import facts
from benchmark.data.files.names import key
from benchmark.data.sources.patients import tcga_patient
from benchmark.data.store import duplicates
from benchmark.data.store.prepare import Prepared
from benchmark.runtime.counts import part_of
from benchmark.runtime.errors import InputError

WHAT = {"test": "test", "val": "validation"}  # side -> its name in sentences
DONE = {"test": "test", "val": "validate"}  # side -> what is done there
OF_TCGA = "has images of TCGA that do not name their patients"


@dataclass(frozen=True)
class Overlap:
    """What a training has seen of a test side.

    Attributes:
        images: of the whole test side.
        left_out: positions on it of the images that are known to the training, ascending.
        by_name, by_pixels: how many are known by either; some by both.
        unknown: in words, why names do not decide it; "" where they do.
    """

    images: int
    left_out: tuple[int, ...] = ()
    by_name: int = 0
    by_pixels: int = 0
    unknown: str = ""

    @property
    def sentence(self) -> str:
        """What goes with the scores."""
        out = f"{part_of(len(self.left_out), self.images, 'test image')} known to the training and left out"
        out += f" ({self.by_name} by name, {self.by_pixels} by pixels)" if self.left_out else ""
        return f"{out}. Overlap unknown beyond that: {self.unknown}." if self.unknown else f"{out}."


@dataclass(frozen=True)
class _Names:
    """What names say of one image: marks that it shares with others of its source, the set it was taken from, and why
    they may say too little ("" where they do not)."""

    marks: frozenset
    origin: str
    doubt: str


def between(
    train: Prepared, k: int, test: Prepared, j: int, seen_on: tuple[str, ...] = ("train", "val"), side: str = "test"
) -> Overlap:
    """What training and validation on split k of `train` have seen of the test side of split j of `test`.

    Args:
        seen_on: the sides of `train` that count as seen.
        side: the side of `test`, where it is another than the test side ("val").

    Raises:
        InputError: an overlap is known that cannot be removed, or nothing would be left of the test side.
    """
    seen_images = [image for name in seen_on for image in train.images(k, name)]
    test_images = test.images(j, side)
    seen, tested = [_named(train, image) for image in seen_images], [_named(test, image) for image in test_images]
    of_train, of_test = (data.name.partition("@")[0] for data in (train, test))
    if train.naming != test.naming and (n := sum(names.origin == of_test for names in seen)):
        raise InputError(
            f"{n} training images of {train.name} were taken from {of_test} under other names, so that nothing says "
            f"which images of {test.name} were seen: this overlap cannot be removed; train or test on another data set."
        )
    marks = frozenset().union(*(names.marks for names in seen))
    by_name = {i for i, names in enumerate(tested) if names.marks & marks or names.origin == of_train}
    place = {(str(fold.folder), row): i for i, (fold, row) in enumerate(test_images)}
    twins = [twins.second for twins in duplicates.between(seen_images, test_images)]
    twins += [other for _, other in duplicates.halved(seen_images, test_images)]
    by_pixels = {place[str(fold.folder), row] for fold, row in twins}
    left_out = tuple(sorted(by_name | by_pixels))
    if len(left_out) == len(test_images) and (left_out or side == "test"):
        raise InputError(
            f"all {len(left_out)} {WHAT[side]} images of {test.name} are of source images that training on "
            f"{train.name} has seen: nothing is left to {DONE[side]} on; train or test on another data set."
        )
    unknown = "" if train.naming == test.naming else _unknown(train.name, seen, test.name, tested)
    return Overlap(len(test_images), left_out, len(by_name), len(by_pixels), unknown)


def merged(overlaps: list[Overlap], what: str) -> Overlap:
    """What a training on several sets has seen of one side, from what it has on each.

    Args:
        overlaps: of the side with each set, at least one.
        what: the side's images in words.

    Raises:
        InputError: nothing would be left of the side.
    """
    images, left_out = overlaps[0].images, tuple(sorted({i for one in overlaps for i in one.left_out}))
    if left_out and len(left_out) == images:
        raise InputError(f"all {images} {what} are known to the training on other sets; leave one of the sets out.")
    doubts = list(dict.fromkeys(one.unknown for one in overlaps if one.unknown))
    by_name, by_pixels = (min(images, sum(getattr(one, by) for one in overlaps)) for by in ("by_name", "by_pixels"))
    return Overlap(images, left_out, by_name, by_pixels, "; ".join(doubts))


def of_origin(trained: str, test: Prepared, j: int) -> Overlap:
    """The test images that were taken from the data set `trained`, whose own images are not at hand.

    Args:
        trained: registered name.
    """
    images = test.images(j, "test")
    taken = tuple(i for i, (fold, row) in enumerate(images) if test.origin(fold.meta["sources"][row]) == trained)
    if len(taken) == len(images):
        raise InputError(
            f"all {len(images)} test images of {test.name} were taken from {trained}, the weights' training set: "
            "nothing is left to test on; test on another data set."
        )
    doubts = sorted({test.doubt(fold.meta["sources"][row]) for fold, row in images} - {""})
    unknown = [f"the training images of {trained} are not at hand", *(f"{test.name} {doubt}" for doubt in doubts)]
    return Overlap(len(images), taken, len(taken), 0, "; ".join(unknown))


def _named(data: Prepared, image: duplicates.Image) -> _Names:
    fold, row = image
    source, name = fold.meta["sources"][row], fold.meta["image_ids"][row]
    if not source:
        return _Names(frozenset(), "", "names neither patients nor source images")
    origin = data.origin(source)
    marks = {("of one naming", data.naming, key(source))}
    doubt = data.doubt(source) or (OF_TCGA if origin == "tcga" else "")
    if patient := tcga_patient(source.upper()):
        marks.add(("patient", patient))
    elif data.name.partition("@")[0] not in facts.names():
        if name == source or name.startswith(f"{source}-"):
            doubt = "names images, not their patients or slides"
        else:
            marks.add(("of one's own", key(source)))
    return _Names(frozenset(marks), origin, doubt)


def _unknown(of_train: str, seen: list[_Names], of_test: str, tested: list[_Names]) -> str:
    """Why names leave open what two sets have in common; "" where they do not."""
    for whose, own, others in ((of_train, seen, tested), (of_test, tested, seen)):
        doubts = {names.doubt for names in own} - {""}
        if not any(mark[0] == "patient" for names in others for mark in names.marks):
            doubts.discard(OF_TCGA)
        if doubts:
            return f"{whose} {' and '.join(sorted(doubts))}"
    return ""
