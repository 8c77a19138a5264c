"""The one scorer: a true and a predicted image to a match, matches to records, records to the stored scores.

Runs, imported predictions, `score` and decoding grids all go through it. Where a side keeps a pixel type map, that map
is matched, as the published protocols see it, else its types per nucleus.
"""

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass

from benchmark.data.files.names import one_spelling
from benchmark.data.nuclei import Nuclei
from benchmark.formats.labelled import Labelled, resolve_typed
from benchmark.metrics.match import Match, match
from benchmark.metrics.protocols import PROTOCOLS
from benchmark.metrics.records import Records
from benchmark.results.predictions import Packed

TYPED = {"true": "typed", "pred": "pred_typed"}  # side -> its column of `Records.images`


@dataclass(frozen=True)
class ScoredImage:
    """An image, matched once.

    Attributes:
        match: both sides' nuclei and their overlaps.
        meta: its row for `Records.collect`: image, image_id, tissue, source, typed, pred_typed.
        prediction: the predicted nuclei, None where they were not kept.
        decode_seconds: what decoding took.
    """

    match: Match
    meta: dict
    prediction: Packed | None = None
    decode_seconds: float = 0.0


def score_image(
    index: int,
    truth: Nuclei | Labelled,
    predicted: Nuclei | Labelled,
    pred_typed: bool | None,
    *,
    keep: bool = False,
    decode_seconds: float = 0.0,
    shapes: bool = True,
) -> ScoredImage:
    """Match an image.

    Args:
        index: its number in the records.
        truth: gives the resolution and what the records say of the image too. Predicted nuclei that lie for more than
            half in its ambiguous regions (`Nuclei.ignore`) are left out, as if they had not been predicted.
        predicted: of the truth's shape.
        pred_typed: whether the predictor names types; None for a file that does not show it, see `collect`.
        keep: keep a prediction of Nuclei too.
        shapes: compute solidity and eccentricity, which no protocol needs.

    Raises:
        ValueError: as `metrics.match.match`, or no resolution.
    """
    meta = {
        "image": index,
        "image_id": truth.image_id,
        "tissue": truth.tissue,
        "source": truth.source,
        "typed": truth.typed,
        "pred_typed": pred_typed,
    }
    if truth.mpp is None:
        raise ValueError("mpp is missing, expected micrometres per pixel")
    if isinstance(truth, Nuclei) and truth.ignore is not None:
        if isinstance(predicted, Labelled):
            predicted = predicted.nuclei(truth.mpp)
        predicted = predicted.outside(truth.ignore)
    packed = Packed.of(predicted) if keep and isinstance(predicted, Nuclei) else None
    matched = match(*truth.label_image, *predicted.label_image, mpp=truth.mpp, shapes=shapes)
    return ScoredImage(matched, meta, packed, decode_seconds)


def collect(images: Iterable[ScoredImage], from_files: tuple[str, ...] = ()) -> Records:
    """Records of scored images in ascending order of their numbers.

    Args:
        from_files: sides ("true", "pred") whose images are typed as files of unknown origin declare it: settled over
            the whole set by `formats.labelled.resolve_typed`. Tissues and sources of a truth from files that differ by
            capitals, blanks or form alone are one, which is said on stderr.
    """
    images = sorted(images, key=lambda image: image.meta["image"])
    meta = [dict(image.meta) for image in images]
    for side in from_files:
        column = TYPED[side]
        some = any(getattr(image.match, side).type.any() for image in images)
        for row, typed in zip(meta, resolve_typed([row[column] for row in meta], some), strict=True):
            row[column] = typed
    for column in ("tissue", "source") if "true" in from_files else ():
        words, others = one_spelling([row[column] for row in meta])
        for row, word in zip(meta, words, strict=True):
            row[column] = word
        if others:
            print(f"{column}s that differ by capitals, blanks or form alone are one: {others}", file=sys.stderr)
    return Records.collect([image.match for image in images], meta)


def worded(bpq: float) -> str:
    """ "bPQ 0.5000", or why it has no value."""
    return f"bPQ {bpq:.4f}" if math.isfinite(bpq) else "bPQ has no value, since no test image holds nuclei"


def protocol_scores(records: Records, classes: list[str], tissues: list[str]) -> dict[str, dict]:
    """Protocol name -> its version and flat scores, as metrics.json stores them."""
    return {name: {"version": p.version} | p.summary(records, classes, tissues) for name, p in PROTOCOLS.items()}
