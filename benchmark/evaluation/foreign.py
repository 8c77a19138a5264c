"""Anyone's predictions against ground truth: files matched by name, each pair matched once, records as a run's."""

import math
import sys
from collections.abc import Iterable
from dataclasses import replace

import numpy as np

from benchmark.data.files import archive, checks
from benchmark.data.files.names import compared
from benchmark.evaluation.scoring import collect, score_image
from benchmark.formats.collection import Collection, Image
from benchmark.formats.labelled import Labelled
from benchmark.metrics.api import Evaluation
from benchmark.runtime import memory
from benchmark.runtime.counts import counted, part_of
from benchmark.runtime.errors import InputError
from benchmark.runtime.progress import Progress

BYTES = 24  # of memory for a pixel that is scored: both maps and their copy while ids are counted
SHOWN = 5  # names that a sentence lists
ALL = "all"  # the one tissue of images without any


def paired(true: Collection, pred: Collection, missing: str = "refuse") -> list[tuple[Image, Image | None]]:
    """Images of both sides by name, in the order of the truth.

    Two single files are a pair whatever their names, and two files without names are paired in order.

    Raises:
        InputError: as `assigned`, names on one side only, or counts that differ without names.
    """
    if len(true.images) == len(pred.images) == 1 and (true.path.is_file() and pred.path.is_file()):
        return [(true.images[0], pred.images[0])]
    if not true.named and not pred.named:
        if len(true.images) != len(pred.images):
            raise InputError(
                f"{pred.path}: expected {len(true.images)} images as in {true.path}, found {len(pred.images)}; "
                "neither file has names to match by."
            )
        return list(zip(true.images, pred.images))
    for one, other in ((true, pred), (pred, true)):
        if not one.named:
            raise InputError(
                f"{one.path}: has no `names`, while {other.path} names its images; add names (N,) to match by."
            )
    predictions = assigned([image.name for image in true.images], str(true.path), pred, missing)
    return list(zip(true.images, predictions))


def assigned(names: list[str], whose: str, pred: Collection, missing: str = "refuse") -> list[Image | None]:
    """The prediction of each named image; predictions of other names are reported on stderr and left out.

    Args:
        whose: where the names come from, for the sentence.
        missing: "refuse", or "empty": None for an image without prediction, which counts as one without nuclei.

    Raises:
        InputError: images without prediction (unless "empty"), or no common name at all.
    """
    keys, of_pred = compared(names, [image.name for image in pred.images])
    of, known = dict(zip(of_pred, pred.images)), set(keys)
    lacking = [name for key, name in zip(keys, names) if key not in of]
    extra = [image.name for name, image in of.items() if name not in known]
    belong = "belongs" if len(extra) == 1 else "belong"
    without = f"{counted(len(extra), 'prediction')} {belong} to no image of it ({listed(extra)})" if extra else ""
    if len(lacking) == len(names) or (lacking and missing == "refuse"):
        some = part_of(len(lacking), len(names), "image", ("has", "have"), f" of {whose}")
        raise InputError(
            f"{pred.path}: {some} no prediction ({listed(lacking)})"
            f"{', and ' + without if extra else ''}; name the files alike, or say --missing empty where a tool writes "
            "none for an image without nuclei."
        )
    if lacking:
        count = "counts" if len(lacking) == 1 else "count"
        none = f"{counted(len(lacking), 'image')} without prediction {count} as empty"
        print(f"{none}: {listed(lacking)}", file=sys.stderr)
    if extra:
        print(f"left out: {without}", file=sys.stderr)
    return [of.get(key) for key in keys]


def listed(names: list[str]) -> str:
    """The first few names, and how many more."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(f"'{name}'" for name in names[:SHOWN]) + more


def score(
    pairs: Iterable[tuple[Image, Image | None]],
    mpp: float,
    classes: tuple[str, ...] | None,
    shape: tuple[int, int] | None = None,
    progress: Progress | None = None,
    protocol: str = "all",
) -> Evaluation:
    """Read and match every pair.

    Args:
        classes: names of types 1..C; None: as many as occur, named by their ids.
        shape: (H, W) of images of which both sides are outlines.
        protocol: a name in `metrics.PROTOCOLS`, or "all".

    Raises:
        InputError: anything wrong with a file; nothing is returned then.
    """
    pairs = list(pairs)
    whole = "" if any(true.tissue for true, _ in pairs) else ALL
    scored = []
    if progress:
        progress(0, len(pairs))
    with checks.Doubts() as of_predictions, checks.Doubts(classes) as of_truth:
        for i, (true, pred) in enumerate(pairs):
            truth, predicted = read_pair(true, pred, shape)
            truth = replace(truth, mpp=mpp, image_id=true.name, tissue=true.tissue or whole)
            scored.append(score_image(i, truth, predicted, predicted.typed))
            of_truth.add(true.where, truth.instances, truth.types)
            if pred:
                of_predictions.add(pred.where, predicted.instances, predicted.types)
            if progress:
                progress(i + 1, len(pairs))
    records = collect(scored, from_files=("true", "pred"))
    if classes is None:
        both = (records.images["typed"] & records.images["pred_typed"]).any()
        most = int(records.overlaps[["true_type", "pred_type"]].to_numpy().max(initial=0)) if both else 0
        classes = tuple(str(k) for k in range(1, most + 1))
    tissues = sorted(set(records.images["tissue"]) - {""})
    return Evaluation(records, list(classes), tissues, protocol)


def read_pair(true: Image, pred: Image | None, shape: tuple[int, int] | None) -> tuple[Labelled, Labelled]:
    """Both sides of an image; outlines take the shape of the other side's map.

    Args:
        shape: (H, W) that the user states, None where that is left to the maps.

    Raises:
        InputError: shapes that differ, outlines on both sides without a shape, or less memory than they take.
    """
    known, of_pred = true.shape(), pred.shape() if pred else None
    for side, sides in ((true.where, known), (pred.where if pred else "", of_pred)):
        if shape and sides not in (None, shape):
            raise InputError(
                f"{side}: expected the shape {shape} of --shape, found {sides}; leave --shape out for maps."
            )
    if largest := max((sides for sides in (known, of_pred, shape) if sides), key=math.prod, default=None):
        memory.check(math.prod(largest) * BYTES, f"{true.where}: scoring {largest[0]} x {largest[1]} pixels")
    if not true.needs_shape:
        if pred and known is not None:
            _check_shape(pred, of_pred, known, true.where)
        truth = _read(true, None)
        return truth, read_prediction(pred, truth.instances.shape, true.where)
    if pred and not pred.needs_shape:
        predicted = _read(pred, None)
        return _read(true, predicted.instances.shape), predicted
    if shape is None:
        raise InputError(f"{true.where}: outlines alone do not say how large the image is; give --shape HEIGHT WIDTH.")
    return _read(true, shape), read_prediction(pred, shape, true.where)


def read_prediction(pred: Image | None, shape: tuple[int, int], truth: str) -> Labelled:
    """A prediction in the shape (H, W) of its truth; no nucleus where there is none.

    Args:
        truth: the truth's file and image, for the sentence.

    Raises:
        InputError: as `Image.read`, or another shape.
    """
    if pred is None:
        return Labelled(np.zeros(shape, np.int64), np.zeros(0, np.uint8))
    _check_shape(pred, pred.shape(), shape, truth)
    labelled = _read(pred, shape)
    _check_shape(pred, labelled.instances.shape, shape, truth)
    return labelled


def _read(image: Image, shape: tuple[int, int] | None) -> Labelled:
    try:
        return image.read(shape)
    except MemoryError as error:
        raise archive.unreadable(image.where, error) from error


def _check_shape(pred: Image, sides: tuple[int, int] | None, shape: tuple[int, int], truth: str) -> None:
    """Refuse a prediction of another shape; by its header, where that says it, before memory is taken for it."""
    if sides not in (None, shape):
        raise InputError(
            f"{pred.where}: expected a label map of the truth's shape {shape} ({truth}), found {sides}; write it as "
            "large as its image (in a stack of images that differ in size, beside an array sizes (N, 2))."
        )
